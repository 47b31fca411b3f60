//! What a caller may choose about a connection.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

pub use rustls_pki_types::CertificateDer;

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl Credentials {
    /// From `ASTROMESH_REGISTRY_USER` and `ASTROMESH_REGISTRY_PASSWORD`; nobody unless both are set.
    pub fn from_environment() -> Option<Self> {
        let user = std::env::var("ASTROMESH_REGISTRY_USER").ok()?;
        let password = std::env::var("ASTROMESH_REGISTRY_PASSWORD").ok()?;
        Some(Self { user, password })
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How often, and how soon, a transfer that broke is begun again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many broken transfers in a row, each without a single new byte, are too many.
    pub fruitless: u32,
    /// How many broken transfers of one layer are too many, even when each brought a little.
    pub attempts: u32,
    /// The wait before the first new attempt; it grows with each fruitless one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // With the pauses, a registry has about 15 s to come back: a restart, not an outage.
            fruitless: 5,
            // A layer of 1 GiB over a line that breaks every 30 MB is still a line worth using.
            attempts: 30,
            pause: Duration::from_secs(1),
        }
    }
}

/// How long a registry may say nothing, unless it is said otherwise: it may have to fetch a blob from a slow store first.
const IDLE: Duration = Duration::from_secs(30);

/// How a [`crate::RegistrySource`] speaks with its registry.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Who asks; `None` asks as nobody.
    pub credentials: Option<Credentials>,
    /// The certificates that a server's has to be signed by, in DER; see [`roots_from_pem`]. Without one, no registry is
    /// spoken to over HTTPS.
    pub roots: Vec<CertificateDer<'static>>,
    /// How long a registry may say nothing before the connection counts as broken.
    pub idle: Duration,
    /// What happens then.
    pub patience: Patience,
    /// The most bytes of blobs taken in a second; `None` takes what the line gives.
    pub rate: Option<NonZeroU64>,
    /// Plain HTTP with any host. For a registry inside a test's closed network alone: whoever is on the way sees every
    /// byte and the credentials, and can keep an update away. (Not change it: the signature decides that.)
    pub plain_http: bool,
    /// Whether the proxy that the environment names is used (never for loopback).
    pub environment_proxy: bool,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            roots: Vec::new(),
            idle: IDLE,
            patience: Patience::default(),
            rate: None,
            plain_http: false,
            environment_proxy: false,
        }
    }
}

/// Every certificate in a text of PEM blocks; `None` where there is none, or one that is broken.
pub fn roots_from_pem(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    use rustls_pki_types::pem::PemObject as _;
    let roots = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!roots.is_empty()).then_some(roots)
}

/// How to speak with a registry from the desk.
#[cfg(feature = "desk")]
#[derive(Debug, Clone)]
pub struct Options {
    /// Who asks; `None` asks as nobody.
    pub credentials: Option<Credentials>,
    /// How long a registry may say nothing before the connection counts as broken.
    pub idle: Duration,
    /// How many broken transfers in a row, each without a single new byte, are too many.
    pub fruitless: u32,
    /// How many broken transfers of one layer are too many, even when each brought a little.
    pub attempts: u32,
    /// The wait before the first new attempt; it grows with each fruitless one.
    pub pause: Duration,
}

#[cfg(feature = "desk")]
impl Default for Options {
    fn default() -> Self {
        let Patience { fruitless, attempts, pause } = Patience::default();
        Self { credentials: None, idle: IDLE, fruitless, attempts, pause }
    }
}

#[cfg(feature = "desk")]
impl Options {
    /// The same for a [`crate::RegistrySource`], with the system's certificates.
    pub(crate) fn source(&self, reference: &crate::Reference) -> SourceOptions {
        // What can't be read of them shows when a server's certificate isn't known.
        let system =
            |loopback| if loopback { Vec::new() } else { rustls_native_certs::load_native_certs().certs };
        SourceOptions {
            credentials: self.credentials.clone(),
            roots: system(reference.is_loopback()),
            idle: self.idle,
            patience: Patience { fruitless: self.fruitless, attempts: self.attempts, pause: self.pause },
            environment_proxy: true,
            ..SourceOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_from_pem_all_or_none() {
        let one = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let two = format!("{one}{one}");
        assert_eq!(roots_from_pem(two.as_bytes()).unwrap().len(), 2, "the twin");
        for wrong in ["", "text", &one.replace("MAA=", "!"), &format!("{one}{}", &one[..40])] {
            assert!(roots_from_pem(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let credentials = Credentials { user: "user".to_owned(), password: "secret".to_owned() };
        let options = SourceOptions { credentials: Some(credentials), ..SourceOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
