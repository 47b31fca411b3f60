//! The bill of materials: which package each file of an image came from, with versions, sums and licences, as SPDX 2.3.
//!
//! A caller adds one [`Part`] for each thing that went into the image; [`root::parts`] gives those of the root, other
//! crates add theirs (kernel, crates of `init`, later a boot loader: one [`Part`] more). Rendering sorts, so the order of
//! adding decides nothing, and no clock and no random number gets in: equal parts give equal bytes.
//!
//! It refuses to conclude: a licence is what the package states, as an expression, as its own text, or as unknown. See
//! docs/decisions/012-sbom-is-spdx.md.

pub mod boot;
mod check;
pub mod licence;
pub mod root;
mod spdx;

pub use check::{CheckError, faults};
pub use licence::Licence;

use crate::origins::Sums;

/// The SPDX identifier of the image itself.
pub const IMAGE: &str = "astromesh-os";

/// The bill could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// The record of the staged tree is not there, or is another version's.
    #[error("{path} can't be read ({cause}): remove that tree from the cache and build again")]
    ReadRecord {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        cause: String,
    },
    /// Two packages or two files under one name.
    #[error("the bill of materials has two entries {0:?}: give one of them another name")]
    NameEntry(String),
    /// A file of a package that is none of the parts.
    #[error("{file} comes from {origin}, which is in no lock file: add it there, or build the root again")]
    FindPackage {
        /// The path in the image.
        file: String,
        /// Who brought it.
        origin: String,
    },
    /// A moment that no date can be made of.
    #[error("{0:?} is not a number of seconds since 1970: correct SOURCE_DATE_EPOCH")]
    ReadEpoch(String),
    /// Serialising.
    #[error("the bill of materials can't be written as JSON ({0})")]
    WriteJson(#[from] serde_json::Error),
}

/// One package of the bill and its files.
#[derive(Debug, Clone)]
pub struct Part {
    /// Unique in the document; becomes part of its SPDX identifier, in which only letters, digits, `.` and `-` are kept.
    pub id: String,
    /// Its name in its archive.
    pub name: String,
    /// Its exact version, where it has one.
    pub version: Option<String>,
    /// The package URL, made by [`purl`].
    pub purl: Option<String>,
    /// SHA-256 of the file it came in.
    pub sha256: Option<String>,
    /// What it states about its licence.
    pub licence: Licence,
    /// Who supplies it, as SPDX writes it ("Organization: Debian"); `None` is NOASSERTION.
    pub supplier: Option<String>,
    /// What else a reader must know.
    pub comment: Option<String>,
    /// How it is in the image.
    pub place: Place,
    /// Its files in the image.
    pub files: Vec<File>,
}

/// How a part is in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is the image.
    Image,
    /// The image contains it.
    Contained,
    /// The parts of these ids are statically linked with it.
    LinkedInto(Vec<String>),
}

/// One file of the image.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name in the document, as `./root/usr/bin/python3.13`.
    pub name: String,
    /// Its sums.
    pub sums: Sums,
    /// What else a reader must know.
    pub comment: Option<String>,
}

/// The bill of one image.
#[derive(Debug, Clone, Default)]
pub struct Sbom {
    parts: Vec<Part>,
}

impl Sbom {
    /// Adds what went into the image.
    pub fn add(&mut self, parts: impl IntoIterator<Item = Part>) {
        self.parts.extend(parts);
    }

    /// The document. `created` is in seconds since 1970, and must not be the clock's.
    pub fn render(&self, created: u64) -> Result<String, SbomError> {
        spdx::render(&self.parts, created)
    }
}

/// When a document claims to be made: SOURCE_DATE_EPOCH, or 1970 where it is not set, since a clock would make two
/// equal builds differ.
pub fn created(source_date_epoch: Option<&str>) -> Result<u64, SbomError> {
    source_date_epoch.map_or(Ok(0), |text| {
        // Year 9999 is the last that RFC 3339 can write.
        let seconds = text.parse().ok().filter(|&seconds: &u64| seconds <= 253_402_300_799);
        seconds.ok_or_else(|| SbomError::ReadEpoch(text.to_owned()))
    })
}

/// A package URL, as `pkg:deb/debian/libc6@2.41-12?arch=amd64`. The `kind` is type and namespace.
/// (<https://github.com/package-url/purl-spec>)
pub fn purl(kind: &str, name: &str, version: &str, qualifiers: &str) -> String {
    let question = if qualifiers.is_empty() { "" } else { "?" };
    format!("pkg:{kind}/{}@{}{question}{qualifiers}", percent(name), percent(version))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_with_an_epoch_and_a_plus_is_encoded() {
        let url = purl("deb/debian", "libstdc++6", "1:14.2.0-19+deb13u1", "arch=amd64");
        assert_eq!(url, "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19%2Bdeb13u1?arch=amd64");
        assert_eq!(purl("pypi", "anyio", "4.16.0", ""), "pkg:pypi/anyio@4.16.0");
    }

    #[test]
    fn the_moment_is_source_date_epoch_or_1970_and_nothing_else() {
        assert_eq!(created(None).unwrap(), 0);
        assert_eq!(created(Some("1700000000")).unwrap(), 1_700_000_000);
        for wrong in ["", "now", "-1", "253402300800"] {
            assert!(matches!(created(Some(wrong)), Err(SbomError::ReadEpoch(_))), "{wrong}");
        }
    }
}
