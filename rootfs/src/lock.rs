//! The two lock files: which packages are in the image, by version and by SHA-256.
//!
//! They are the only place a version is written. A build takes exactly what they say or fails; [`update`] is the one
//! function that rewrites them, and a person reads the difference before it is committed. Parsing is strict: a field
//! that is unknown, missing or twice there is an error, since a pin that was silently ignored is not a pin.

mod debian;
mod python;
mod update;

pub use debian::{DebianLock, DebianPackage, Purpose};
pub use python::{PythonLock, Wheel};
pub use update::update;

use std::path::PathBuf;

/// A lock file could not be read or rewritten.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file itself.
    #[error("reading or writing {path} failed ({source})")]
    ReachFile {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `debian.lock` is not what it should be.
    #[error("rootfs/debian.lock is not valid: {0}; run `cargo xtask lock`")]
    ParseDebian(String),
    /// `python.lock` is not what it should be.
    #[error("rootfs/python.lock, line {line}: {problem}; run `cargo xtask lock`")]
    ParsePython {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A package that the archive doesn't have.
    #[error("Debian trixie has no package {0}: correct its name in rootfs/debian.lock")]
    ResolvePackage(String),
    /// A wheel whose file name is not one.
    #[error("{0} is not the name of a wheel")]
    ReadWheelName(String),
    /// The archive could not be asked.
    #[error(transparent)]
    AskArchive(#[from] crate::apt::AptError),
    /// A tool failed.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
}

/// Where this crate's data files are: the lock files, the trim rules, the launcher.
pub(crate) fn source_dir() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `text` is a SHA-256 in lower-case hex.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` can be a version: it ends up on a command line and in a file name.
fn is_version(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+~:-_!".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
}
