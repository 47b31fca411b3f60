//! machine-config v1: the YAML document that turns an image into a node.
//!
//! It comes from outside (firmware tables, a drive), so reading it is a pure function from bytes to a type that
//! opens nothing and resolves nothing. It is all or nothing: a document with one wrong value gives no
//! [`MachineConfig`], and the node serves its control API only. For that one purpose
//! [`MachineConfig::salvage_operator`] reads the `operator` section alone.
//!
//! Errors name the path of the key and its line, and never repeat a secret.

mod agents;
mod error;
pub mod foreign;
pub(crate) mod names;
mod network;
pub mod pem;
mod providers;
mod reader;
mod sections;
pub mod smbios;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod update;
mod validity;
mod yaml;

pub use error::{ConfigError, ErrorKind, MAX_SHORT};
pub use types::{
    Addressing, Agent, Cidr, Endpoint, Host, Interface, Link, MachineConfig, Network, NodeIdentity, Operator,
    Profile, Provider, Runtime, Secret, Update, UpdateMode, Window,
};
pub use validity::{not_before, not_before_der};
pub use yaml::yaml;

use reader::At;

/// Largest document, in bytes: 64 agents with long prompts fit, and a hostile one is refused unread.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// `apiVersion` of the document.
pub const API_VERSION: &str = "astromesh.os/v1";

/// `kind` of the document.
pub const KIND: &str = "MachineConfig";

const KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "node",
    "network",
    "runtime",
    "agents",
    "providers",
    "certificateAuthorities",
    "operator",
    "update",
];

impl MachineConfig {
    /// Reads a whole document. What isn't meant to be one is named as what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        Self::read(bytes).map_err(|error| match foreign::kind(bytes) {
            Some(kind) => {
                let expected = format!("a machine-config, which begins with apiVersion: {API_VERSION}");
                about_all(ErrorKind::Foreign, &expected, kind.to_owned())
            }
            None => error,
        })
    }

    fn read(bytes: &[u8]) -> Result<Self, ConfigError> {
        let tree = tree::load(text(bytes)?)?;
        let fields = At::root(&tree).mapping(KEYS)?;
        for (key, value) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            fields.required(key, value)?.parse(value, |text| (text == value).then_some(()))?;
        }
        // Operator access before the rest: without it nobody can read on the node what else is wrong.
        let operator = sections::operator(&fields.required("operator", "operator access")?)?;
        let node = sections::node(&fields.required("node", "a mapping with `id`")?)?;
        let network = fields.optional("network").map(|at| network::network(&at)).transpose()?;
        let runtime = sections::runtime(fields.optional("runtime").as_ref())?;
        sections::listen_apart(&fields, &operator, &runtime)?;
        let providers = fields.optional("providers").map(|at| providers::providers(&at)).transpose()?;
        let providers = providers.unwrap_or_default();
        let agents = fields.optional("agents").map(|at| agents::agents(&at, &providers)).transpose()?;
        let authorities = fields.optional("certificateAuthorities");
        let authorities = authorities.map(|at| sections::certificate_authorities(&at)).transpose()?;
        let update = fields.optional("update").map(|at| update::update(&at)).transpose()?;
        Ok(MachineConfig {
            node,
            network: network.unwrap_or_default(),
            runtime,
            agents: agents.unwrap_or_default(),
            providers,
            certificate_authorities: authorities.unwrap_or_default(),
            operator,
            update,
        })
    }

    /// Reads the `operator` section out of a document that may be wrong elsewhere, so that in maintenance mode the
    /// operator can reach the node and read what is. `None` when it isn't YAML or the section isn't valid.
    pub fn salvage_operator(bytes: &[u8]) -> Option<Operator> {
        let tree = tree::load(text(bytes).ok()?).ok()?;
        let fields = At::root(&tree).open_mapping("").ok()?;
        sections::operator(&fields.optional("operator")?).ok()
    }
}

/// The document's text, if it is of a size and an encoding that may be read.
fn text(bytes: &[u8]) -> Result<&str, ConfigError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(about_all(ErrorKind::TooLarge, "at most 1 MiB", format!("{} bytes", bytes.len())));
    }
    // A mark that some editors put before UTF-8; YAML allows it (1.2.2, 5.2), and it says nothing.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    str::from_utf8(bytes).map_err(|cause| {
        let found = format!("a byte that is not UTF-8 at offset {}", cause.valid_up_to());
        about_all(ErrorKind::NotUtf8, "UTF-8 text", found).hint("save the file as UTF-8")
    })
}

/// An error about the document as a whole.
fn about_all(kind: ErrorKind, expected: &str, found: String) -> ConfigError {
    ConfigError {
        kind,
        path: String::new(),
        expected: expected.to_owned(),
        found,
        hint: String::new(),
        line: None,
        column: None,
    }
}
