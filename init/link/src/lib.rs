//! Links, and addresses for them: the kernel's list, rtnetlink, DHCP.
//!
//! **Why one crate.** Two processes get an address by DHCP: `net` for as long as the node is up, `metadata` for one question
//! before there is a configuration. They import this, and not each other.
//!
//! **What always holds.** The state machine ([`lease`]) has no socket and no clock, and packets are read by pure functions,
//! so what a stranger on the link sends is judged in unit tests.
//!
//! **Refuses** to decide: which links are used, and what is done with a lease, is the process's business.

pub mod advertised;
pub mod dhcp;
mod domains;
pub mod lease;
pub mod links;
mod message;
pub mod netlink;
pub mod notifications;
mod options;
pub mod routes;
pub mod sysctls;
pub mod wire;
