//! What a bill of materials is made of: a part, its files, its package URL, and why a bill can't be written. Each file
//! that makes parts and the one that renders them take these words from here.

use super::licence::Licence;
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
}
