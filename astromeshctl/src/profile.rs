//! A connection profile: where a node is, who it must be, and with which key it is asked.

use astromesh_proto::machine_config::pem;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a step (connecting, one answer) may take unless told otherwise. `doctor` asks the providers, which may
/// take seconds each.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// All that is needed to ask a node. No `Debug`: it holds a key.
pub struct Profile {
    /// The node's id, which its certificate must name.
    pub node: String,
    /// `HOST:PORT` or `HOST`, of the control API.
    pub endpoint: String,
    /// The authority that signed the node's certificate.
    pub ca: Vec<CertificateDer<'static>>,
    /// The operator's certificate; `None` to connect without one, which a node refuses (the gates show it).
    pub identity: Option<Identity>,
    /// How long connecting, and each answer, may take.
    pub timeout: Duration,
}

/// A client certificate and its key.
pub struct Identity {
    /// The certificate and the chain to it.
    pub certificate: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// What the command line says in place of the profile's file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--endpoint`
    pub endpoint: Option<String>,
    /// `--node`
    pub node: Option<String>,
    /// `--ca`
    pub ca: Option<PathBuf>,
    /// `--cert`
    pub certificate: Option<PathBuf>,
    /// `--key`
    pub key: Option<PathBuf>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// a file could not be read
    #[error("can't read {}: {source}; make one with `astromeshctl gen config`, or name it with --config", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// the profile is not one
    #[error("{} is not a connection profile: {reason}", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Why, in one line.
        reason: String,
    },
    /// something is missing
    #[error("the connection profile does not say `{key}`; add it to {} or give --{flag}", path.display())]
    FindKey {
        /// The key.
        key: &'static str,
        /// The option that replaces it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// a certificate or key is not one
    #[error("{what} is not usable: {source}")]
    ReadPem {
        /// Which one.
        what: String,
        /// Why.
        source: pem::PemError,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: Option<String>,
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Profile {
    /// A profile of PEM texts; `identity` is certificate and key.
    pub fn from_pem(
        node: &str,
        endpoint: &str,
        ca: &str,
        identity: Option<(&str, &str)>,
    ) -> Result<Self, ProfileError> {
        let identity = match identity {
            None => None,
            Some((certificate, key)) => Some(Identity {
                certificate: certificates("the operator's certificate", certificate)?,
                key: private_key(key)?,
            }),
        };
        Ok(Profile {
            node: node.to_owned(),
            endpoint: endpoint.to_owned(),
            ca: certificates("the CA", ca)?,
            identity,
            timeout: DEFAULT_TIMEOUT,
        })
    }

    /// Reads the profile in `path`; what `overrides` says wins, and a file that isn't needed may be missing.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ProfileError> {
        let all_given = overrides.endpoint.is_some()
            && overrides.node.is_some()
            && overrides.ca.is_some()
            && overrides.certificate.is_some()
            && overrides.key.is_some();
        let file = if all_given { File::default() } else { read_profile(path)? };
        let folder = path.parent().unwrap_or(Path::new(""));
        let missing = |key, flag| ProfileError::FindKey { key, flag, path: path.to_owned() };
        let pem_file = |given: &Option<PathBuf>, named: Option<PathBuf>, key, flag| {
            let file = match (given, named) {
                (Some(given), _) => given.clone(),
                (None, Some(named)) => folder.join(named),
                (None, None) => return Err(missing(key, flag)),
            };
            read(&file)
        };
        let node = overrides.node.clone().or(file.node).ok_or_else(|| missing("node", "node"))?;
        let endpoint =
            overrides.endpoint.clone().or(file.endpoint).ok_or_else(|| missing("endpoint", "endpoint"))?;
        let ca = pem_file(&overrides.ca, file.ca, "ca", "ca")?;
        let certificate = pem_file(&overrides.certificate, file.certificate, "certificate", "cert")?;
        let key = pem_file(&overrides.key, file.key, "key", "key")?;
        Profile::from_pem(&node, &endpoint, &ca, Some((&certificate, &key)))
    }
}

fn read_profile(path: &Path) -> Result<File, ProfileError> {
    toml::from_str(&read(path)?).map_err(|error| ProfileError::ParseFile {
        path: path.to_owned(),
        reason: error.message().lines().next().unwrap_or_default().to_owned(),
    })
}

fn read(path: &Path) -> Result<String, ProfileError> {
    std::fs::read_to_string(path).map_err(|source| ProfileError::ReadFile { path: path.to_owned(), source })
}

fn certificates(what: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
    let blocks = pem::decode(text, pem::CERTIFICATE)
        .map_err(|source| ProfileError::ReadPem { what: what.to_owned(), source })?;
    Ok(blocks.into_iter().map(CertificateDer::from).collect())
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, ProfileError> {
    let what = || "the operator's key".to_owned();
    let mut blocks = pem::decode(text, pem::PRIVATE_KEY)
        .map_err(|source| ProfileError::ReadPem { what: what(), source })?
        .into_iter();
    if let (Some(der), None) = (blocks.next(), blocks.next()) {
        return Ok(PrivatePkcs8KeyDer::from(der).into());
    }
    Err(ProfileError::ReadPem { what: what(), source: pem::PemError::FindBlock { label: pem::PRIVATE_KEY } })
}
