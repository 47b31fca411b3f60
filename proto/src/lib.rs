//! What crosses a process or a machine boundary.
//!
//! Everything here is bytes from somebody else sooner or later, so every decoder is a pure function from bytes
//! to a type, with a bound that stands beside it:
//!
//! * `machine_config`: the YAML document that turns an image into a node (at most 1 MiB),
//! * [`control`]: what `astromeshctl` and the node's `control` service say to each other over TLS,
//! * [`ipc`]: what PID 1 and its services say over a socketpair (fixed-size, no allocation),
//! * `http`: the reply of an HTTP server that isn't trusted,
//! * `image_name`: what images in registries are called,
//! * [`cloud`]: which cloud the firmware names,
//! * `metadata`: what a cloud's metadata server is asked, and what its answers are worth,
//! * [`boot_entry`]: the names by which the boot loader counts tries,
//! * [`update`]: what a node tells of its slots and its updates,
//! * [`deadlines`]: how long each of those who wait for an update waits,
//! * [`version`]: the version of a release,
//! * [`date`]: a moment as people read it,
//! * [`frame`]: the length-prefixed postcard framing that [`control`] and [`ipc`] share.
//!
//! The feature `documents`, on by default, brings whatever reads text from outside: `machine_config`, `http`,
//! `image_name`, `metadata` and [`update`]'s `parse`, and with them the parsers of YAML, JSON, HTTP and base64. PID 1 has the crate without it, so
//! that none of them can be reached from there.
//!
//! This crate opens no socket and reads no file.

pub mod boot_entry;
pub mod cloud;
pub mod control;
pub mod date;
pub mod deadlines;
pub mod frame;
#[cfg(feature = "documents")]
pub mod http;
#[cfg(feature = "documents")]
pub mod image_name;
pub mod ipc;
#[cfg(feature = "documents")]
pub mod machine_config;
#[cfg(feature = "documents")]
pub mod metadata;
pub mod update;
pub mod version;
