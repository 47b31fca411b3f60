//! The files that `gen config` writes: a machine-config to edit and a connection profile.
//!
//! The machine-config is text with comments, not serialized values: it is the first page of documentation that an
//! operator reads. A test parses it with the node's own parser.

use crate::credentials::Credentials;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// a file is already there
    #[error("{} is already there; give another --out, or --force to replace it (a running node keeps the old keys)", .0.display())]
    KeepFile(PathBuf),
    /// the folder could not be made
    #[error("can't make the folder {}: {source}", path.display())]
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// a file could not be written
    #[error("can't write {}: {source}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes all files of `credentials` into `folder`: keys and the machine-config, which holds one, readable by their
/// owner only. Writes nothing if one of them is there and `force` is not set.
pub fn write(folder: &Path, credentials: &Credentials, force: bool) -> Result<Vec<PathBuf>, WriteError> {
    let files: [(&str, u32, &str); 6] = [
        ("ca.pem", 0o644, &credentials.ca_pem),
        ("ca.key", 0o600, &credentials.ca_key_pem),
        ("operator.pem", 0o644, &credentials.client_cert_pem),
        ("operator.key", 0o600, &credentials.client_key_pem),
        ("machine-config.yaml", 0o600, &machine_config(credentials)),
        ("astromeshctl.toml", 0o644, &profile(&credentials.node)),
    ];
    if !force {
        for (name, _, _) in files {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(WriteError::KeepFile(path));
            }
        }
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| WriteError::MakeFolder { path: folder.to_owned(), source })?;
    let mut written = Vec::new();
    for (name, mode, text) in files {
        let path = folder.join(name);
        replace(&path, mode, text).map_err(|source| WriteError::WriteFile { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

/// A new file with `mode` from its first moment, so that a key is never readable by others, not even briefly.
fn replace(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// The connection profile: paths in it are relative to the file.
pub fn profile(node: &str) -> String {
    format!(
        "# How astromeshctl reaches this node; paths are relative to this file.
node = \"{node}\"
# Edit: the address of the node, with the port of its control API.
endpoint = \"127.0.0.1:7443\"
ca = \"ca.pem\"
certificate = \"operator.pem\"
key = \"operator.key\"
"
    )
}

/// The machine-config to edit.
pub fn machine_config(credentials: &Credentials) -> String {
    let node = &credentials.node;
    format!(
        "# The machine-config of one node. Check it after each edit: astromeshctl config validate machine-config.yaml
# It holds keys: keep it as you keep a password.
apiVersion: astromesh.os/v1
kind: MachineConfig

node:
  id: {node}                       # also the name in the certificate below
  # hostname: {node}               # the id unless given

# Without this section: DHCP on every Ethernet link, IPv6 by router advertisement.
# network:
#   interfaces:
#     - name: eth0                 # or mac: \"52:54:00:12:34:56\"
#       addresses: [10.0.0.5/24]   # or dhcp: true
#       gateway: 10.0.0.1
#   nameservers: [10.0.0.1]        # replaces what DHCP gives
#   hosts: {{ provider.internal: 10.0.0.9 }}

runtime:
  profile: full
  # The runtime's HTTP interface has no authentication of its own. Open it (0.0.0.0:8000) only where the network
  # in front of the node decides who may ask.
  listen: 127.0.0.1:8000

# Where models are served. Edit the endpoint and the key.
providers:
  - name: main
    endpoint: https://provider.example/v1
    apiKeyEnv: PROVIDER_KEY        # agents name the key by this variable
    apiKey: \"replace-me\"           # leave it out for a provider that needs none

# Agent documents, as the runtime reads them.
agents:
  - apiVersion: astromesh/v1
    kind: Agent
    metadata:
      name: assistant
      version: \"1.0.0\"
    spec:
      identity:
        display_name: Assistant
        description: Answers questions.
      model:
        primary:
          provider: openai_compat
          model: your-model
          endpoint: https://provider.example/v1
          api_key_env: PROVIDER_KEY
      prompts:
        system: You answer briefly and truthfully.
      orchestration:
        pattern: react
        max_iterations: 4

# CA certificates to trust beside the image's own, for a provider with a certificate of your own making.
# certificateAuthorities:
#   - |
#     -----BEGIN CERTIFICATE-----

# Who may use the control API. Made by astromeshctl gen config; there is nothing to edit here but `listen`.
operator:
{}  # listen: 0.0.0.0:7443
",
        operator(credentials)
    )
}

/// The `operator` section's keys, indented by two, for machine-configs that are made by a program.
pub fn operator(credentials: &Credentials) -> String {
    let mut section = String::new();
    for (key, pem) in [
        ("ca", &credentials.ca_pem),
        ("certificate", &credentials.node_cert_pem),
        ("key", &credentials.node_key_pem),
    ] {
        section.push_str("  ");
        section.push_str(key);
        section.push_str(": |\n");
        for line in pem.lines() {
            section.push_str("    ");
            section.push_str(line);
            section.push('\n');
        }
    }
    section
}
