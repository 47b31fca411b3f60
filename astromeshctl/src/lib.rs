//! What the operator's command is made of, as a library, so that the gates and `cargo xtask run` use the same code
//! that an operator does.
//!
//! * [`credentials`]: a CA, an operator's and a node's certificate,
//! * [`template`]: the machine-config to edit, and the connection profile,
//! * [`profile`] and [`client`]: the connection to a node,
//! * [`validate`]: a machine-config validated at a desk as the node would,
//! * [`image`]: images from a registry,
//! * [`show`]: tables, timelines and JSON of what a node answers.
//!
//! What a node says is shown on an operator's terminal, and a node may be in other hands: every string of it
//! goes through [`terminal::clean`] first.

pub mod client;
pub mod credentials;
pub mod exit;
pub mod image;
pub mod profile;
pub mod show;
mod socket;
pub mod template;
pub mod terminal;
pub mod update;
pub mod validate;
