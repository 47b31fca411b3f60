//! HTTP as a registry speaks it: one GET, and where it is sent on to.
//!
//! Redirects are followed here and not by the HTTP client, because what they may do is decided here: registries send
//! blobs to storage hosts, and a hostile one could send anybody anywhere. Never from HTTPS to HTTP, never with the
//! credentials to another host, never more than a few times. Every exchange has limits on its time, and a limit on each
//! wait for the next byte.

use super::error::{chain, short};
use crate::SourceOptions;
use crate::reference::is_loopback;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, LOCATION};
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Proxy};

/// How long making a connection may take, and finding the address before it.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one exchange about a small thing (a manifest, a token, the start of an answer) may take in all, however slowly
/// bytes drip.
pub(super) const EXCHANGE: Duration = Duration::from_secs(60);
/// Registries send to a storage host, which may send on to a nearer one.
const MAX_REDIRECTS: usize = 5;
/// Signed addresses of storage hosts have about 2 KiB.
const MAX_LOCATION: usize = 8 * 1024;

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// HTTPS alone.
    Never,
    /// Plain HTTP with this machine.
    Loopback,
    /// Plain HTTP with every host: a test's closed network.
    Always,
}

impl Plain {
    /// Whether this address may be asked.
    pub(super) fn allows(self, uri: &Uri) -> bool {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        match uri.scheme_str() {
            // Who is named before an @ would get credentials that nobody meant to give.
            _ if authority.is_empty() || authority.contains('@') => false,
            Some("https") => true,
            Some("http") => match self {
                Self::Never => false,
                Self::Loopback => is_loopback(authority),
                Self::Always => true,
            },
            _ => false,
        }
    }
}

/// What is asked for.
pub(super) struct Question<'a> {
    pub(super) accept: &'a str,
    /// For `Range`.
    pub(super) range: Option<&'a str>,
    /// For the host of the first address alone.
    pub(super) authorization: Option<&'a str>,
    /// Whether all of the answer has to come within [`EXCHANGE`], not only its start.
    pub(super) small: bool,
}

/// A client with the limits of this module.
pub(super) fn agent(options: &SourceOptions, plain: Plain) -> Agent {
    let roots = options.roots.iter().map(|root| Certificate::from_der(root).to_owned());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let proxy = options.environment_proxy && plain == Plain::Never;
    Agent::config_builder()
        .tls_config(tls)
        .https_only(plain == Plain::Never)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy.then(Proxy::try_from_env).flatten())
        .user_agent(concat!("astromesh-os/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_send_request(Some(EXCHANGE))
        .timeout_recv_response(Some(EXCHANGE))
        .timeout_per_read(Some(options.idle))
        .timeout_per_write(Some(options.idle))
        .max_idle_connections(2)
        .build()
        .new_agent()
}

/// Asks, and follows redirects. An error is text for the one who knows which registry it was.
pub(super) fn get(
    agent: &Agent,
    plain: Plain,
    uri: &Uri,
    question: &Question<'_>,
) -> Result<Response<Body>, Failure> {
    let mut at = uri.clone();
    for _ in 0..=MAX_REDIRECTS {
        let mut request = agent.get(&at).header("Accept", question.accept);
        if let Some(range) = question.range {
            request = request.header("Range", range);
        }
        if let Some(value) = question.authorization
            && same_host(&at, uri)
        {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.config().timeout_global(question.small.then_some(EXCHANGE)).build();
        let answer = request.call().map_err(|error| Failure::Broken(chain(&error)))?;
        if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(answer);
        }
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("");
        at = redirect(plain, &at, location)
            .ok_or_else(|| Failure::Refused(format!("it sends on to {:?}", short(location))))?;
    }
    Err(Failure::Refused(format!("it sends on more than {MAX_REDIRECTS} times")))
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or none that lasts.
    Broken(String),
    /// An answer that isn't followed.
    Refused(String),
}

fn same_host(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// Where a redirect leads, if it may.
fn redirect(plain: Plain, from: &Uri, location: &str) -> Option<Uri> {
    if location.len() > MAX_LOCATION {
        return None;
    }
    let to: Uri = if location.starts_with('/') && !location.starts_with("//") {
        Uri::builder()
            .scheme(from.scheme_str()?)
            .authority(from.authority()?.as_str())
            .path_and_query(location)
            .build()
            .ok()?
    } else {
        location.parse().ok()?
    };
    let downgraded = from.scheme_str() == Some("https") && to.scheme_str() != Some("https");
    (plain.allows(&to) && !downgraded).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(plain: Plain, from: &str, location: &str) -> Option<String> {
        redirect(plain, &from.parse().unwrap(), location).map(|uri| uri.to_string())
    }

    #[test]
    fn redirects_lead_to_storage_hosts_and_never_down_to_plain_http() {
        let from = "https://r.example/v2/os/blobs/x";
        let storage = "https://storage.example/x?signature=1";
        assert_eq!(follow(Plain::Never, from, storage).as_deref(), Some(storage));
        assert_eq!(follow(Plain::Never, from, "/y?z=1").as_deref(), Some("https://r.example/y?z=1"));
        for plain in [Plain::Never, Plain::Loopback, Plain::Always] {
            assert_eq!(follow(plain, from, "http://storage.example/x"), None);
            assert_eq!(follow(plain, from, "http://127.0.0.1/x"), None);
        }
        for location in [
            "",
            "x",
            "//other.example/x",
            "ftp://r.example/x",
            "https://user@r.example/x",
            "file:///x",
            "/\n",
        ] {
            assert_eq!(follow(Plain::Never, from, location), None, "{location}");
        }
        assert_eq!(follow(Plain::Never, from, &format!("/{}", "a".repeat(MAX_LOCATION))), None);
    }

    #[test]
    fn loopback_may_send_on_to_loopback_or_https_and_only_a_closed_network_to_every_host() {
        let (from, other) = ("http://127.0.0.1:5000/x", "http://storage.example/x");
        assert!(follow(Plain::Loopback, from, "http://localhost:1/x").is_some());
        assert!(follow(Plain::Loopback, from, "https://storage.example/x").is_some());
        assert_eq!(follow(Plain::Loopback, from, other), None);
        assert_eq!(follow(Plain::Always, from, other).as_deref(), Some(other), "the twin");
    }

    #[test]
    fn credentials_are_for_one_host_port_and_scheme() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let asked = uri("https://r.example/x");
        assert!(same_host(&uri("https://r.example/y"), &asked));
        for other in ["https://r.example:444/x", "http://r.example/x", "https://s.r.example/x"] {
            assert!(!same_host(&uri(other), &asked), "{other}");
        }
    }
}
