//! `python.lock`: the wheels, in pip's own requirements format with one hash each.
//!
//! pip's format and not one of ours, so that `pip download --require-hashes -r` reads the very file that is committed.

use super::error::LockError;
use super::field::{is_sha256, is_version};
use crate::source::source_dir;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// One pinned wheel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wheel {
    /// The project's normalised name (PEP 503).
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of the .whl file, lower-case hex.
    pub sha256: String,
}

impl Wheel {
    /// The requirement, as pip reads it.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={} --hash=sha256:{}", self.name, self.version, self.sha256)
    }
}

/// The whole of `python.lock`, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonLock {
    /// In the file's order.
    pub wheels: Vec<Wheel>,
}

const HEADER: &str = "\
# The wheels of the agent runtime for CPython 3.13 on x86_64, by version and SHA-256, in pip's requirements format.
# `cargo xtask lock` rewrites this file; the version of the runtime itself is RUNTIME in src/relock.rs.
";

impl PythonLock {
    /// Where the file is.
    pub fn path() -> PathBuf {
        source_dir().join("python.lock")
    }

    /// Reads and checks the file.
    pub fn load() -> Result<Self, LockError> {
        let path = Self::path();
        let text = fs::read_to_string(&path).map_err(|source| LockError::ReachFile { path, source })?;
        Self::parse(&text)
    }

    /// Parses and checks the text of a lock file: comments, empty lines, and `name==version --hash=sha256:HEX`.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let mut wheels = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |problem| LockError::ParsePython { line: index + 1, problem };
            let (pin, sha256) =
                line.split_once(" --hash=sha256:").ok_or_else(|| refuse("expected one --hash=sha256:"))?;
            let (name, version) = pin.split_once("==").ok_or_else(|| refuse("expected NAME==VERSION"))?;
            if !is_project_name(name) {
                return Err(refuse("the name is not a normalised project name"));
            }
            if !is_version(version) {
                return Err(refuse("the version is not one"));
            }
            if !is_sha256(sha256) {
                return Err(refuse("the hash is not 64 lower-case hex digits"));
            }
            if !seen.insert(name) {
                return Err(refuse("the same project twice"));
            }
            wheels.push(Wheel { name: name.into(), version: version.into(), sha256: sha256.into() });
        }
        Ok(Self { wheels })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        self.wheels.iter().fold(format!("{HEADER}\n"), |mut text, wheel| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{}", wheel.requirement());
            text
        })
    }
}

/// The project and version in a wheel's file name (PEP 427), the name normalised (PEP 503).
pub(crate) fn parse_wheel_name(file: &str) -> Option<(String, String)> {
    let mut parts = file.strip_suffix(".whl")?.split('-');
    let name = parts.next()?.to_ascii_lowercase().replace(['_', '.'], "-");
    let version = parts.next()?.to_owned();
    // The rest: an optional build number, then interpreter, ABI and platform.
    (matches!(parts.count(), 3 | 4) && is_project_name(&name) && is_version(&version))
        .then_some((name, version))
}

fn is_project_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_what_was_parsed() {
        let text = format!("h11==0.16.0 --hash=sha256:{}\n", "0".repeat(64));
        let lock = PythonLock::parse(&text).unwrap();
        assert_eq!(lock.wheels.len(), 1);
        assert_eq!(PythonLock::parse(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn a_line_that_pins_less_than_everything_is_refused() {
        let sum = "0".repeat(64);
        for line in [
            "h11".to_owned(),
            "h11==0.16.0".to_owned(),
            format!("h11>=0.16 --hash=sha256:{sum}"),
            "h11==0.16.0 --hash=sha256:00".to_owned(),
            format!("h11==0.16.0 --hash=sha256:{sum} --hash=sha256:{sum}"),
            format!("H11==0.16.0 --hash=sha256:{sum}"),
            "--index-url somewhere".to_owned(),
            format!("h11==0.16.0 --hash=sha256:{sum}\nh11==0.16.0 --hash=sha256:{sum}"),
        ] {
            assert!(PythonLock::parse(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_name_of_a_wheel_gives_project_and_version() {
        let parsed = parse_wheel_name("typing_extensions-4.16.0-py3-none-any.whl");
        assert_eq!(parsed, Some(("typing-extensions".into(), "4.16.0".into())));
        assert_eq!(parse_wheel_name("astromesh-0.74.1.tar.gz"), None);
    }
}
