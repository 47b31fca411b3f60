//! What the config process writes, and where: one directory for each reader, readable by its group alone.

use astromesh_node::places::{CERTIFICATES, KEYS};
use astromesh_proto::machine_config::{MachineConfig, Operator};
use astromesh_settings::{CONTROL, ControlConfig, NETWORK, UPDATE, UPDATE_CERTIFICATES};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Agent documents and environment, for the runtime.
pub const AGENT: &str = "/run/config/agent";

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be written: {cause}; /run may be full")]
pub struct WriteError {
    path: PathBuf,
    cause: std::io::Error,
}

/// Writes everything a valid machine-config asks for.
pub fn write(config: &MachineConfig) -> Result<(), WriteError> {
    write_all(config).inspect_err(|_| withdraw())
}

/// Takes back what was written, so that no service runs on half a configuration.
fn withdraw() {
    for path in [NETWORK, CONTROL, UPDATE, UPDATE_CERTIFICATES] {
        let _ = std::fs::remove_file(path);
    }
    for key in std::fs::read_dir(KEYS).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(key.path());
    }
    for path in ["environment", CERTIFICATES] {
        let _ = std::fs::remove_file(Path::new(AGENT).join(path));
    }
    let _ = std::fs::remove_dir_all(Path::new(AGENT).join("agents"));
}

fn write_all(config: &MachineConfig) -> Result<(), WriteError> {
    let network = serde_json::to_vec(&config.network).unwrap_or_default();
    put(Path::new(NETWORK), &network)?;
    write_control(&ControlConfig {
        runtime: Some(loopback(config.runtime.listen).to_string()),
        agents: config.agents.iter().map(|agent| agent.name.clone()).collect(),
        providers: config
            .providers
            .iter()
            .map(|provider| {
                let endpoint = &provider.endpoint;
                (provider.name.clone(), endpoint.host.to_string(), endpoint.port)
            })
            .collect(),
        ..operator_only(&config.operator, &config.node.id)
    })?;
    let agent = Path::new(AGENT);
    let documents = agent.join("agents");
    make_directory(&documents)?;
    for document in &config.agents {
        put(&documents.join(format!("{}.agent.yaml", document.name)), document.yaml().as_bytes())?;
    }
    let mut environment = format!("ASTROMESH_LISTEN={}\0", config.runtime.listen);
    for provider in &config.providers {
        let key = provider.api_key.as_ref().map_or("none", |key| key.expose());
        // Writing to a String can't fail.
        let _ = write!(environment, "{}={key}\0", provider.api_key_env);
    }
    put(&agent.join("environment"), environment.as_bytes())?;
    let authorities = trusted(&config.certificate_authorities);
    put(&agent.join(CERTIFICATES), &authorities)?;
    if let Some(update) = &config.update {
        put(Path::new(UPDATE), &serde_json::to_vec(update).unwrap_or_default())?;
        put(Path::new(UPDATE_CERTIFICATES), &authorities)?;
        // For the installer, which takes no service's word for whose a release is.
        for (number, key) in update.keys.iter().enumerate() {
            put(&Path::new(KEYS).join(format!("{number}.pub")), key.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes what lets an operator in, and nothing else.
pub fn write_operator(operator: &Operator) -> Result<(), WriteError> {
    write_control(&operator_only(operator, ""))
}

fn operator_only(operator: &Operator, node: &str) -> ControlConfig {
    ControlConfig {
        node: node.to_owned(),
        listen: operator.listen.to_string(),
        ca: operator.ca.clone(),
        certificate: operator.certificate.clone(),
        key: operator.key.expose().to_owned(),
        runtime: None,
        agents: Vec::new(),
        providers: Vec::new(),
    }
}

fn write_control(config: &ControlConfig) -> Result<(), WriteError> {
    put(Path::new(CONTROL), &serde_json::to_vec(config).unwrap_or_default())
}

/// The roots of the image with the machine-config's own behind them.
fn trusted(additional: &[String]) -> Vec<u8> {
    let mut bundle = std::fs::read("/usr/lib/astromesh/site/certifi/cacert.pem").unwrap_or_default();
    for certificate in additional {
        bundle.push(b'\n');
        bundle.extend_from_slice(certificate.as_bytes());
    }
    bundle
}

/// The address at which the runtime is probed: its own, or loopback when it listens everywhere.
fn loopback(mut listen: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listen
}

fn make_directory(path: &Path) -> Result<(), WriteError> {
    std::fs::create_dir(path).map_err(|cause| WriteError { path: path.to_owned(), cause })
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    std::fs::write(path, bytes).map_err(|cause| WriteError { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_listens_everywhere_is_probed_on_loopback() {
        assert_eq!(loopback("0.0.0.0:8000".parse().unwrap()).to_string(), "127.0.0.1:8000");
        assert_eq!(loopback("[::]:8000".parse().unwrap()).to_string(), "[::1]:8000");
        assert_eq!(loopback("10.0.0.5:80".parse().unwrap()).to_string(), "10.0.0.5:80");
    }
}
