//! What the processes of the node share, PID 1 among them.
//!
//! **Why one crate.** A user's number, a path between two processes, the way to the log or to PID 1: each is known to at
//! least two processes, and they must not disagree about it. Services never import each other, nor PID 1; what they have in
//! common stands here.
//!
//! **What always holds.** PID 1 is built from this crate too, so nothing here parses what came over the network, and no
//! parser of JSON, YAML, HTTP or TLS is linked for it. A test of `xtask` (`walls`) refuses that.
//!
//! **Refuses** to do a service's work: what only one process needs belongs to that process's crate.

pub mod bounded_read;
pub mod clock;
pub mod disk;
pub mod durable;
pub mod ext4;
pub mod framed;
pub mod inherited;
pub mod ipc_client;
pub mod job;
pub mod log_sink;
pub mod places;
pub mod process;
pub mod service;
pub mod twin;
pub mod view;
pub mod volume;
