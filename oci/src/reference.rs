//! Where an image is: `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@sha256:...`.
//!
//! Other tools fill in a registry and a tag that weren't written. Here nothing is filled in: which machine is asked, and
//! for what, stands in the command.

use crate::Digest;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A text does not say where an image is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// No registry.
    #[error(
        "{0:?} names no registry: write REGISTRY/REPOSITORY:TAG, as in registry.example:5000/astromesh-os:0.1.0"
    )]
    FindRegistry(String),
    /// Neither tag nor digest.
    #[error("{0:?} doesn't say which image: add :TAG or @sha256:DIGEST")]
    FindVersion(String),
    /// Not the grammar.
    #[error(
        "{0:?} is no reference ({1}): write REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST"
    )]
    Parse(String, String),
}

/// The longest host with its port: a name of the DNS has at most 253 bytes.
const MAX_REGISTRY: usize = 253 + 6;
/// The longest name of a repository that the distribution specification's clients take.
const MAX_REPOSITORY: usize = 255;
/// The longest tag (distribution specification, "Pulling manifests").
const MAX_TAG: usize = 128;

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, rest) =
            text.split_once('/').ok_or_else(|| ReferenceError::FindRegistry(text.to_owned()))?;
        // The rule by which every client tells a registry from the first part of a repository's name.
        if host != "localhost" && !host.contains(['.', ':']) {
            return Err(ReferenceError::FindRegistry(text.to_owned()));
        }
        if !rest.contains([':', '@']) {
            return Err(ReferenceError::FindVersion(text.to_owned()));
        }
        let wrong = |why: &str| ReferenceError::Parse(text.to_owned(), why.to_owned());
        if !is_registry(host) {
            return Err(wrong("its registry is no host name or address, with or without a port"));
        }
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).ok_or_else(|| wrong("its digest is not a SHA-256"))?;
                (rest, Some(digest))
            }
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        if !is_repository(repository) {
            return Err(wrong("its repository is not lower-case words between slashes"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("its tag has a character that tags don't have, or too many"));
        }
        let (registry, repository) = (host.to_owned(), repository.to_owned());
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

/// A host name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            match rest {
                "" => return true,
                _ => ("", rest.strip_prefix(':')),
            }
        }
        None => text.split_once(':').map_or((text, Some("1")), |(host, port)| (host, Some(port))),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= MAX_REGISTRY
        && port.is_some_and(is_port)
        && (text.starts_with('[') || host.split('.').all(is_label))
}

/// Words of lower-case letters and digits, with `.`, `_`, `__` or dashes between them, between slashes.
fn is_repository(text: &str) -> bool {
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
pub(crate) fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_TAG).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}

impl Reference {
    /// Host and port of the registry, as written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest that it names, which then decides instead of the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The tag that it names, where it names no digest.
    pub fn tag(&self) -> Option<&str> {
        if self.digest.is_some() { None } else { self.tag.as_deref() }
    }

    /// What decides: the digest, else the tag; the name by which a manifest is asked for.
    pub fn name(&self) -> String {
        // A reference without a digest has a tag: it doesn't parse otherwise.
        self.digest.map_or_else(|| self.tag.clone().unwrap_or_default(), |digest| digest.to_string())
    }

    /// Whether the registry is on this machine: 127.0.0.0/8, `[::1]` or `localhost`. Only then is plain HTTP spoken.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }
}

/// Whether a host, with or without a port, is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(formatter, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn tag_and_digest_are_read() {
        let tagged = parse("registry.example:5000/team/os:0.1.0").unwrap();
        assert_eq!((tagged.registry(), tagged.repository()), ("registry.example:5000", "team/os"));
        assert_eq!((tagged.tag(), tagged.digest()), (Some("0.1.0"), None));
        let digest = Digest::of(b"");
        let pinned = parse(&format!("registry.example/os@{digest}")).unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(digest)));
        let both = parse(&format!("registry.example/os:1@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (None, Some(digest)), "the digest decides");
    }

    #[test]
    fn nothing_is_filled_in() {
        assert!(matches!(parse("os:1"), Err(ReferenceError::FindRegistry(_))));
        assert!(matches!(parse("team/os:1"), Err(ReferenceError::FindRegistry(_))));
        assert!(matches!(parse("registry.example/os"), Err(ReferenceError::FindVersion(_))));
        for text in
            ["registry.example/OS:1", "registry.example/os:", "registry.example/os@sha256:00", "a.b/c:d:e"]
        {
            assert!(matches!(parse(text), Err(ReferenceError::Parse(..))), "{text}");
        }
    }

    #[test]
    fn only_hosts_repositories_and_tags_of_the_specification_are_taken() {
        let long = format!("r.example/{}:1", "a".repeat(MAX_REPOSITORY));
        for text in [
            "r.example:65535/a/b-c/d.e/f_g/h__i/j---k:V_1.2-rc",
            "[::1]:5000/os:1",
            "[2001:db8::1]/os:1",
            "R.Example/os:_",
            &long,
        ] {
            assert_eq!(parse(text).map(|reference| reference.to_string()), Ok(text.to_owned()));
        }
        let (longer, tag) = (long.replacen('a', "aa", 2), "t".repeat(MAX_TAG + 1));
        let tag = format!("r.example/os:{tag}");
        for text in [
            "r.example:0/os:1",
            "r.example:65536/os:1",
            "r.example:+80/os:1",
            "r.example:/os:1",
            "-r.example/os:1",
            "r..example/os:1",
            "r.example:80:80/os:1",
            "user@r.example/os:1",
            "[::1/os:1",
            "[::1]5000/os:1",
            "[127.0.0.1]/os:1",
            "r.example/a//b:1",
            "r.example//a:1",
            "r.example/a/:1",
            "r.example/../a:1",
            "r.example/a___b:1",
            "r.example/a._b:1",
            "r.example/-a:1",
            "r.example/a b:1",
            "r.example/\u{e9}:1",
            "r.example/os:.1",
            "r.example/os:-1",
            "r.example/os:a/b",
            "r.example/os:a?b=c",
            &longer,
            &tag,
        ] {
            assert!(matches!(parse(text), Err(ReferenceError::Parse(..))), "{text}");
        }
    }

    #[test]
    fn only_loopback_is_spoken_to_without_tls() {
        for host in ["127.0.0.1:5000", "127.8.9.10", "localhost", "localhost:80", "[::1]:80", "[::1]"] {
            assert!(parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
        for host in
            ["128.0.0.1:5000", "127.0.0.1.example", "localhost.example", "127.1:80", "10.0.0.1", "[::2]:80"]
        {
            assert!(!parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
    }
}
