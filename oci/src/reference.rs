//! Where an image is: `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@sha256:...`.
//!
//! Other tools fill in a registry and a tag that weren't written. Here nothing is filled in: which machine is asked, and
//! for what, stands in the command.

use crate::Digest;
use std::fmt;
use std::net::Ipv4Addr;
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

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    inner: oci_client::Reference,
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
        let inner: oci_client::Reference = text.parse().map_err(|error: oci_client::ParseError| {
            ReferenceError::Parse(text.to_owned(), error.to_string())
        })?;
        let digest = match inner.digest() {
            None => None,
            Some(digest) => Some(Digest::parse(digest).ok_or_else(|| {
                ReferenceError::Parse(text.to_owned(), "its digest is not a SHA-256".to_owned())
            })?),
        };
        Ok(Self { inner, digest })
    }
}

impl Reference {
    /// Host and port of the registry, as written.
    pub fn registry(&self) -> &str {
        self.inner.registry()
    }

    /// The repository's name.
    pub fn repository(&self) -> &str {
        self.inner.repository()
    }

    /// The digest that it names, which then decides instead of the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The tag that it names, where it names no digest.
    pub fn tag(&self) -> Option<&str> {
        if self.digest.is_some() { None } else { self.inner.tag() }
    }

    /// Whether the registry is on this machine: 127.0.0.0/8 or `localhost`. Only then is plain HTTP spoken.
    pub fn is_loopback(&self) -> bool {
        let host = self.registry().rsplit_once(':').map_or(self.registry(), |(host, _)| host);
        host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    }

    pub(crate) fn inner(&self) -> &oci_client::Reference {
        &self.inner
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
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
    fn only_loopback_is_spoken_to_without_tls() {
        for host in ["127.0.0.1:5000", "127.8.9.10", "localhost", "localhost:80"] {
            assert!(parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
        for host in ["128.0.0.1:5000", "127.0.0.1.example", "localhost.example", "127.1:80", "10.0.0.1"] {
            assert!(!parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
    }
}
