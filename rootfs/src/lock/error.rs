//! Why a lock file was not taken. Both parsers refuse with the same enum.

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
}
