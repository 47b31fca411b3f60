//! What crosses a process or a machine boundary.
//!
//! Everything here is bytes from somebody else sooner or later, so every decoder is a pure function from bytes
//! to a type, with a bound that stands beside it:
//!
//! * [`machine_config`]: the YAML document that turns an image into a node (at most 1 MiB),
//! * [`control`]: what `astromeshctl` and the node's `control` service say to each other over TLS,
//! * [`ipc`]: what PID 1 and its services say over a socketpair (fixed-size, no allocation),
//! * [`http`]: the reply of an HTTP server that isn't trusted,
//! * [`metadata`]: what a cloud's metadata server is asked, and what its answers are worth,
//! * [`boot_entry`]: the names by which the boot loader counts tries,
//! * [`update`]: what a node tells of its slots and its updates,
//! * [`version`]: the version of a release,
//! * [`date`]: a moment as people read it,
//! * [`frame`]: the length-prefixed postcard framing that [`control`] and [`ipc`] share.
//!
//! This crate opens no socket and reads no file.

pub mod boot_entry;
pub mod control;
pub mod date;
pub mod frame;
pub mod http;
pub mod ipc;
pub mod machine_config;
pub mod metadata;
pub mod update;
pub mod version;
