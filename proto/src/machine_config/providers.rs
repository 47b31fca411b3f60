//! The `providers` section: where models are served, and the keys for them.
//!
//! Nothing of a provider but its name is ever repeated in an error: people paste keys into the field beside the one
//! that was meant, and credentials into URLs.

use super::error::ConfigError;
use super::names::{is_hostname, is_slug};
use super::reader::At;
use super::types::{Endpoint, Host, Provider, Secret};
use std::str::FromStr;

/// Each is probed for health.
const MAX_PROVIDERS: usize = 32;

/// Longest key; a signed token of some kilobytes still fits, and the environment of a process stays small.
const MAX_KEY: usize = 8192;

/// Longest URL.
const MAX_URL: usize = 2048;

pub(super) fn providers(at: &At<'_>) -> Result<Vec<Provider>, ConfigError> {
    let mut providers: Vec<Provider> = Vec::new();
    for item in at.list("a list of at most 32 providers", 0, MAX_PROVIDERS)? {
        let provider = provider(&item)?;
        if providers.iter().any(|known| known.name == provider.name) {
            return Err(item.wrong_value("a `name` that no other provider has", "the same name again"));
        }
        if providers.iter().any(|known| known.api_key_env == provider.api_key_env) {
            let error =
                item.wrong_value("an `apiKeyEnv` that no other provider has", "the same variable again");
            return Err(error.hint("a variable holds one key: give each provider its own"));
        }
        providers.push(provider);
    }
    Ok(providers)
}

fn provider(at: &At<'_>) -> Result<Provider, ConfigError> {
    let fields = at.mapping(&["name", "endpoint", "apiKeyEnv", "apiKey"])?;
    let expected = "a name of 1 to 63 lower-case letters, digits and hyphens";
    let name =
        fields.required("name", expected)?.parse(expected, |text| is_slug(text).then(|| text.to_owned()))?;
    let at = fields.required("endpoint", "an http or https URL")?;
    let endpoint = endpoint(at.text("an http or https URL")?)
        .map_err(|found| at.wrong_value("a URL such as https://api.example.com/v1", found))?;
    let expected = "the name of an environment variable, such as PROVIDER_KEY";
    let at = fields.required("apiKeyEnv", expected)?;
    let api_key_env = at.parse_hidden(expected, |text| is_variable(text).then(|| text.to_owned()))?;
    if is_reserved(&api_key_env) {
        let error = at.wrong_value(expected, "a name that the system uses itself");
        return Err(error.hint("PATH, HOME, NOTIFY_FD and LD_*, PYTHON*, ASTROMESH_*, SSL_* are reserved"));
    }
    let api_key = fields
        .optional("apiKey")
        .map(|at| {
            at.parse_hidden("a key of 1 to 8192 visible ASCII characters", |text| {
                // It becomes an HTTP header's value: anything else would be cut or could end the header.
                let valid = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
                valid.then(|| Secret::new(text))
            })
        })
        .transpose()?;
    Ok(Provider { name, endpoint, api_key_env, api_key })
}

/// `[A-Z_][A-Z0-9_]{0,63}`.
fn is_variable(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What the loader, Python, OpenSSL or the node itself read: a key there would change how the runtime runs.
fn is_reserved(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "NOTIFY_FD")
        || ["LD_", "PYTHON", "ASTROMESH_", "SSL_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Takes a URL apart, strictly (RFC 3986 without user information, query and fragment); an error says what is there.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, &'static str> {
    if url.len() > MAX_URL {
        return Err("more than 2048 bytes");
    }
    let (tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return Err("another scheme"),
        None => return Err("text without a scheme"),
    };
    if rest.contains('@') {
        return Err("a URL with a user or an `@`");
    }
    if rest.contains(['?', '#']) {
        return Err("a URL with a query or a fragment");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !is_path(path) {
        return Err("a URL with characters in its path that must be percent-encoded");
    }
    let (host, port) = split_authority(authority).ok_or("a URL whose host can't be read")?;
    let port = match port {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or("a port over 65535, or 0")?
        }
        Some(_) => return Err("a port that is no number"),
    };
    Ok(Endpoint { tls, host, port, path: path.to_owned() })
}

impl FromStr for Endpoint {
    type Err = &'static str;

    /// As [`endpoint`], for whoever is given a URL by a person.
    fn from_str(url: &str) -> Result<Self, &'static str> {
        endpoint(url)
    }
}

fn split_authority(authority: &str) -> Option<(Host, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let host = Host::Address(std::net::IpAddr::V6(address.parse().ok()?));
        return if after.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(after.strip_prefix(':')?)))
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return Some((Host::Address(address.into()), port));
    }
    is_hostname(host, 253).then(|| (Host::Name(host.to_ascii_lowercase()), port))
}

fn is_path(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().all(|(index, byte)| match byte {
        b'%' => {
            bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        }
        _ => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:".contains(byte),
    })
}
