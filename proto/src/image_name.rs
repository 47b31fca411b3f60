//! The names of images in registries: one grammar for who writes a machine-config, who checks it and who fetches.
//!
//! A name that one of them takes and another refuses is found out at the first update, on a node, at night. So there is
//! one reader, and what it takes is what the OCI distribution specification's clients take. Nothing is filled in: a
//! registry, and where one is wanted a tag, stands in the text.
//!
//! Source: OCI distribution specification, "Pulling manifests"; distribution's `reference` grammar.

use crate::machine_config::names::is_hostname;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest name of the DNS.
const MAX_HOST: usize = 253;
/// The longest name of a repository that the distribution specification's clients take.
pub const MAX_REPOSITORY: usize = 255;
/// The longest tag (distribution specification, "Pulling manifests").
pub const MAX_TAG: usize = 128;

/// Why a text is no name of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    /// Nothing before the first slash that could be a registry.
    #[error("it names no registry")]
    FindRegistry,
    /// A registry that can't be one.
    #[error("its registry is no host name or address, with or without a port")]
    ParseRegistry,
    /// A repository that can't be one.
    #[error("its repository is not lower-case words between slashes")]
    ParseRepository,
}

/// `REGISTRY/REPOSITORY`, without tag and digest, as its two parts.
pub fn split(text: &str) -> Result<(&str, &str), ImageNameError> {
    let (registry, repository) = split_registry(text)?;
    if is_repository(repository) { Ok((registry, repository)) } else { Err(ImageNameError::ParseRepository) }
}

/// The registry, and all that follows its slash.
pub fn split_registry(text: &str) -> Result<(&str, &str), ImageNameError> {
    let (registry, rest) = text.split_once('/').ok_or(ImageNameError::FindRegistry)?;
    // The rule by which every client tells a registry from the first part of a repository's name.
    if registry != "localhost" && !registry.contains(['.', ':']) {
        return Err(ImageNameError::FindRegistry);
    }
    if is_registry(registry) { Ok((registry, rest)) } else { Err(ImageNameError::ParseRegistry) }
}

/// A host name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
fn is_registry(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address.parse::<Ipv6Addr>().is_ok(), None),
        Some((address, rest)) => match rest.strip_prefix(':') {
            Some(port) => (address.parse::<Ipv6Addr>().is_ok(), Some(port)),
            None => return false,
        },
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (is_hostname(host, MAX_HOST) || host.parse::<Ipv4Addr>().is_ok(), port)
        }
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len())
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    is_host && port.is_none_or(is_port)
}

/// Words of lower-case letters and digits, with `.`, `_`, `__` or dashes between them, between slashes.
pub fn is_repository(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().is_some_and(|byte| is_word(*byte))
            && bytes.last().is_some_and(|byte| is_word(*byte));
        let between = |separator: &str| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        };
        ends && part.split(|character: char| is_word(u8::try_from(character).unwrap_or(0))).all(between)
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_part)
}

/// Letters, digits, `_`, `.` and `-`, not beginning with one of the last two.
pub fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_TAG).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_names_its_registry_and_no_tag() {
        let long = format!("r.example/{}", "a".repeat(MAX_REPOSITORY));
        for good in [
            "registry.example.com/astromesh-os",
            "localhost/os",
            "localhost:5000/a/b",
            "10.0.2.101:5000/os",
            "[2001:db8::5]/os",
            "[2001:db8::5]:5000/os",
            "R.Example:65535/a/b-c/d.e/f_g/h__i/j---k",
            &long,
        ] {
            let (registry, repository) = split(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(format!("{registry}/{repository}"), good);
        }
        for (bad, why) in [
            ("astromesh-os", ImageNameError::FindRegistry),
            ("registry/os", ImageNameError::FindRegistry),
            ("https://a.b/os", ImageNameError::ParseRegistry),
            ("a.b:0/os", ImageNameError::ParseRegistry),
            ("a.b:99999/os", ImageNameError::ParseRegistry),
            ("a.b:000080/os", ImageNameError::ParseRegistry),
            ("a.b:+80/os", ImageNameError::ParseRegistry),
            ("a.b:/os", ImageNameError::ParseRegistry),
            ("a.b:80:80/os", ImageNameError::ParseRegistry),
            ("-a.b/os", ImageNameError::ParseRegistry),
            ("a..b/os", ImageNameError::ParseRegistry),
            ("10.0.2.999/os", ImageNameError::ParseRegistry),
            ("127.1:5000/os", ImageNameError::ParseRegistry),
            ("u@a.b/os", ImageNameError::ParseRegistry),
            ("[2001:db8::5/os", ImageNameError::ParseRegistry),
            ("[2001:db8::5]5000/os", ImageNameError::ParseRegistry),
            ("[2001:db8::5]:/os", ImageNameError::ParseRegistry),
            ("[10.0.0.1]:5000/os", ImageNameError::ParseRegistry),
            ("2001:db8::5/os", ImageNameError::ParseRegistry),
            ("a.b/os:1", ImageNameError::ParseRepository),
            ("a.b/os@sha256:00", ImageNameError::ParseRepository),
            ("a.b/", ImageNameError::ParseRepository),
            ("a.b//os", ImageNameError::ParseRepository),
            ("a.b/os/", ImageNameError::ParseRepository),
            ("a.b/OS", ImageNameError::ParseRepository),
            ("a.b/-os", ImageNameError::ParseRepository),
            ("a.b/a._b", ImageNameError::ParseRepository),
            ("a.b/a.-b", ImageNameError::ParseRepository),
            ("a.b/a___b", ImageNameError::ParseRepository),
            ("a.b/../os", ImageNameError::ParseRepository),
            ("a.b/\u{e9}", ImageNameError::ParseRepository),
            (&format!("{long}a"), ImageNameError::ParseRepository),
        ] {
            assert_eq!(split(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_tag_is_of_its_alphabet_and_length() {
        for good in ["1", "_", "V_1.2-rc", &"t".repeat(MAX_TAG)] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".1", "-1", "a/b", "a?b", "a b", &"t".repeat(MAX_TAG + 1)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
