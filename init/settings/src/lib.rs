//! What the config process leaves for each service, as JSON: where it lies, what is in it, and how it is read.
//!
//! **Why one crate.** `config` writes these files and the services read them; neither may import the other, and they must
//! agree on path and form.
//!
//! **What always holds.** Each file has one writer and one reader, and lies in a folder that only that reader's group may
//! enter (`reads` in `astromesh_node::process`). What is read here was checked as part of a whole machine-config
//! before it was written.
//!
//! **Refuses** to be linked into PID 1, which reads its plan, of fixed size and without a parser, from another file. What
//! the runtime reads isn't JSON of ours and isn't here either.

use astromesh_proto::machine_config::{Network, Update};
use serde::{Deserialize, Serialize};

/// Links and resolver, for `net`.
pub const NETWORK: &str = "/run/config/net/network";
/// What `control` must know, see [`ControlConfig`].
pub const CONTROL: &str = "/run/config/control/control";
/// What the `update` service must know, in its own folder.
pub const UPDATE: &str = "/run/config/update/update";
/// The authorities that it trusts with who a registry is; what a release is worth is decided by its signature.
pub const UPDATE_CERTIFICATES: &str = "/run/config/update/ca.pem";

/// What `control` must know of the machine-config. Never a provider's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlConfig {
    /// `node.id`; empty in maintenance mode.
    pub node: String,
    /// Address and port to listen on.
    pub listen: String,
    /// Certificates of those who may use the API, in PEM.
    pub ca: String,
    /// The node's own certificate chain, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
    /// Where the runtime listens; `None` in maintenance mode.
    pub runtime: Option<String>,
    /// Names of the agents that must be loaded.
    pub agents: Vec<String>,
    /// Providers: name, host and port to connect to.
    pub providers: Vec<(String, String, u16)>,
}

/// The network section as `net` reads it.
pub fn read_network() -> Option<Network> {
    serde_json::from_slice(&std::fs::read(NETWORK).ok()?).ok()
}

/// The update section as `update` reads it.
pub fn read_update() -> Option<Update> {
    serde_json::from_slice(&std::fs::read(UPDATE).ok()?).ok()
}

/// `control`'s configuration, as it reads it.
pub fn read_control() -> Option<ControlConfig> {
    serde_json::from_slice(&std::fs::read(CONTROL).ok()?).ok()
}
