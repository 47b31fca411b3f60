//! `debian.lock`: the packages of Debian trixie, for the image and for making it.

use super::error::LockError;
use super::field::{is_sha256, is_version};
use crate::source::source_dir;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// What a package is pinned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Its files go into the root image.
    Root,
    /// It is run while building and never reaches the node.
    Tool,
}

/// One pinned binary package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianPackage {
    /// The package's name in the archive.
    pub name: String,
    /// Its full version, epoch and revision included.
    pub version: String,
    /// `amd64` or `all`.
    pub arch: String,
    /// Of the .deb file, lower-case hex.
    pub sha256: String,
    /// Image or tool.
    pub purpose: Purpose,
}

/// The whole of `debian.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianLock {
    /// In the file's order.
    #[serde(rename = "package")]
    pub packages: Vec<DebianPackage>,
}

const HEADER: &str = "\
# Debian trixie packages, by version and SHA-256. `cargo xtask lock` rewrites versions and sums; to add a package, add
# an entry with its name and purpose (\"root\": in the image, \"tool\": run while building) and lock again.
";

impl DebianLock {
    /// Where the file is.
    pub fn path() -> PathBuf {
        source_dir().join("debian.lock")
    }

    /// Reads and checks the file.
    pub fn load() -> Result<Self, LockError> {
        let path = Self::path();
        let text = fs::read_to_string(&path).map_err(|source| LockError::ReachFile { path, source })?;
        Self::parse(&text)
    }

    /// Parses and checks the text of a lock file.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let lock: Self = toml::from_str(text).map_err(|error| LockError::ParseDebian(error.to_string()))?;
        let mut seen = BTreeSet::new();
        for package in &lock.packages {
            let problem = if !is_package_name(&package.name) {
                "a name that is not a package name"
            } else if !is_version(&package.version) {
                "a version that is not one"
            } else if !matches!(package.arch.as_str(), "amd64" | "all") {
                "an arch other than amd64 or all"
            } else if !is_sha256(&package.sha256) {
                "a sha256 that is not 64 lower-case hex digits"
            } else if !seen.insert(&package.name) {
                "the same package twice"
            } else {
                continue;
            };
            return Err(LockError::ParseDebian(format!("{}: {problem}", package.name)));
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let entries = self.packages.iter().map(|package| {
            let DebianPackage { name, version, arch, sha256, purpose } = package;
            let purpose = match purpose {
                Purpose::Root => "root",
                Purpose::Tool => "tool",
            };
            // No quoting: parsing allows no character in these fields that TOML would want quoted.
            format!(
                "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\narch = \"{arch}\"\n\
                 sha256 = \"{sha256}\"\npurpose = \"{purpose}\"\n"
            )
        });
        std::iter::once(HEADER.to_owned()).chain(entries).collect()
    }

    /// The packages of one purpose.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &DebianPackage> {
        self.packages.iter().filter(move |package| package.purpose == purpose)
    }
}

/// Debian Policy 5.6.1: lower-case letters, digits, plus, minus, period; starts alphanumeric.
fn is_package_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    name.len() >= 2 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(field: &str, value: &str) -> String {
        let sum = "a".repeat(64);
        let mut text = format!(
            "[[package]]\nname = \"libc6\"\nversion = \"2.41-12\"\narch = \"amd64\"\nsha256 = \"{sum}\"\npurpose = \"root\"\n"
        );
        if let Some(start) = text.find(&format!("{field} = ")).filter(|_| !field.is_empty()) {
            let end = start + text[start..].find('\n').unwrap();
            text.replace_range(start..end, &format!("{field} = \"{value}\""));
        }
        text
    }

    #[test]
    fn what_is_rendered_is_what_was_parsed() {
        let lock = DebianLock::parse(&entry("", "")).unwrap();
        assert_eq!(DebianLock::parse(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn a_field_that_is_wrong_missing_or_unknown_is_refused() {
        for (field, value) in [
            ("name", "../x"),
            ("name", "-o"),
            ("version", "1.0 && true"),
            ("version", ""),
            ("arch", "arm64"),
            ("sha256", "abc"),
            ("purpose", "both"),
        ] {
            assert!(DebianLock::parse(&entry(field, value)).is_err(), "{field} = {value}");
        }
        assert!(DebianLock::parse(&entry("", "").replace("arch = \"amd64\"\n", "")).is_err());
        assert!(DebianLock::parse(&(entry("", "") + "extra = 1\n")).is_err());
    }

    #[test]
    fn the_same_package_twice_is_refused() {
        assert!(DebianLock::parse(&(entry("", "") + &entry("", ""))).is_err());
    }
}
