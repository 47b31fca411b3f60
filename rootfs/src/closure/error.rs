//! Why a tree could not be made. Each step of `closure.rs` is a file below it, and all fail with this one enum.

use crate::cache::CacheError;
use crate::fetch::FetchError;
use crate::lock::LockError;
use crate::origins::OriginError;
use crate::run::RunError;
use std::path::{Path, PathBuf};

/// The tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A file of the tree.
    #[error("{action} {path} failed ({source})")]
    WriteTree {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `trim.toml` is not what it should be.
    #[error("rootfs/trim.toml is not valid: {0}")]
    ParseTrim(String),
    /// A rule that cuts nothing hides that its reason is gone.
    #[error("rootfs/trim.toml: `{0}` matches nothing any more: remove the rule, or correct its pattern")]
    MatchTrim(String),
    /// A wheel that wants files outside of site-packages.
    #[error("{0} installs files outside of site-packages (a .data directory): decide where they belong")]
    PlaceWheel(PathBuf),
    /// The record of who brought what.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A tool.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Names the action and the path of an I/O error.
pub(super) fn write(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ClosureError {
    let path = path.to_owned();
    move |source| ClosureError::WriteTree { action, path, source }
}
