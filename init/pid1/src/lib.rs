//! PID 1: boots the node by a table of stages ([`boot::run`]), then supervises it ([`supervise::run`]).
//!
//! **Why one crate.** PID 1 holds every right, so what can be linked into it is written in one manifest. It is built from
//! the kernel calls, from what every process shares, from dm-verity and from the messages to its services.
//!
//! **What always holds.** It parses no byte from the network and no document: no parser of YAML, JSON, HTTP or TLS is
//! below this crate, and a test of `xtask` (`walls`) refuses one. Once the boot is over it allocates nothing, and it never
//! waits for anybody to listen to it.
//!
//! **Refuses** to import a service. A service is a process that it starts by its name; what the two must agree on stands in
//! `astromesh_node::places`.

pub mod boot;
mod cgroup;
mod clearance;
mod ground;
mod job;
pub mod jobs;
mod late;
mod node;
pub mod supervise;
