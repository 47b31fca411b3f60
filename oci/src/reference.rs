//! Where an image is: `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@sha256:...`.
//!
//! Other tools fill in a registry and a tag that weren't written. Here nothing is filled in: which machine is asked, and
//! for what, stands in the command. What a registry, a repository and a tag may be called is the grammar that a
//! machine-config's `update.image` is checked with ([`astromesh_proto::image_name`]).

use crate::Digest;
use astromesh_proto::image_name::{self, ImageNameError, is_tag};
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
        let wrong = |why: &str| ReferenceError::Parse(text.to_owned(), why.to_owned());
        let named = |error: ImageNameError| match error {
            ImageNameError::FindRegistry => ReferenceError::FindRegistry(text.to_owned()),
            other => wrong(&other.to_string()),
        };
        let (host, rest) = image_name::split_registry(text).map_err(named)?;
        if !rest.contains([':', '@']) {
            return Err(ReferenceError::FindVersion(text.to_owned()));
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
        if !image_name::is_repository(repository) {
            return Err(named(ImageNameError::ParseRepository));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("its tag has a character that tags don't have, or too many"));
        }
        let (registry, repository) = (host.to_owned(), repository.to_owned());
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
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
        let long = format!("r.example/{}:1", "a".repeat(image_name::MAX_REPOSITORY));
        for text in [
            "r.example:65535/a/b-c/d.e/f_g/h__i/j---k:V_1.2-rc",
            "[::1]:5000/os:1",
            "[2001:db8::1]/os:1",
            "R.Example/os:_",
            &long,
        ] {
            assert_eq!(parse(text).map(|reference| reference.to_string()), Ok(text.to_owned()));
        }
        let (longer, tag) = (long.replacen('a', "aa", 2), "t".repeat(image_name::MAX_TAG + 1));
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

    /// The promise to who writes `update.image`: what `config validate` takes is what the node can ask for, and nothing else
    /// is.
    #[test]
    fn what_a_machine_config_may_name_is_what_can_be_fetched() {
        for (image, taken) in [
            ("host.example/a.b", true),
            ("[2001:db8::5]:5000/os", true),
            ("[2001:db8::5]/os", true),
            ("10.0.0.7:5000/os", true),
            ("host.example/a__b", true),
            ("host.example/a---b", true),
            ("host.example/a._b", false),
            ("host.example/a___b", false),
            ("host.example/a.-b", false),
            ("host.example:000080/os", false),
            ("10.0.0.999/os", false),
            ("host/os", false),
        ] {
            assert_eq!(image_name::split(image).is_ok(), taken, "{image}");
            for version in [":stable".to_owned(), format!("@{}", Digest::of(b""))] {
                assert_eq!(parse(&format!("{image}{version}")).is_ok(), taken, "{image}{version}");
            }
        }
    }

    #[test]
    fn only_loopback_is_spoken_to_without_tls() {
        for host in ["127.0.0.1:5000", "127.8.9.10", "localhost", "localhost:80", "[::1]:80", "[::1]"] {
            assert!(parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
        for host in ["128.0.0.1:5000", "127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]:80"] {
            assert!(!parse(&format!("{host}/os:1")).unwrap().is_loopback(), "{host}");
        }
        // Some resolvers take it for loopback, and others for a name: it is neither here.
        assert!(matches!(parse("127.1:80/os:1"), Err(ReferenceError::Parse(..))));
    }
}
