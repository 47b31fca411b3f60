//! Why no bytes came, from whichever source. The enum that holds both kinds is what every source returns, so both kinds
//! stand here and not with their sources.

use std::io;
use std::path::PathBuf;

/// No bytes came.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory can't be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl SourceError {
    /// Whether the same question may be answered in a while: a connection broke, or the other side is busy.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Reach { .. }))
    }
}

/// A registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// This side is not ready.
    #[error(
        "no connection can be made from here: {0}; give certificates (at a desk: the package ca-certificates)"
    )]
    Prepare(String),
    /// No connection, or none that lasts.
    #[error("can't reach the registry {registry}: {cause}; is it running, and is its address right?")]
    Reach {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
    /// Not let in.
    #[error(
        "the registry {registry} refuses access: {cause}; give it an account that may do this (at a desk: \
         ASTROMESH_REGISTRY_USER and ASTROMESH_REGISTRY_PASSWORD)"
    )]
    Authenticate {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
    /// A failure on its side.
    #[error("the registry {registry} did not do what was asked ({cause}): try again, or read its log")]
    Answer {
        /// The registry.
        registry: String,
        /// What it said.
        cause: String,
    },
    /// More than can be right.
    #[error(
        "the registry {registry} answers with more than {limit} bytes where fewer were expected: it can't be used"
    )]
    Bound {
        /// The registry.
        registry: String,
        /// How many were expected at most.
        limit: usize,
    },
}

/// A directory is no OCI image layout, or not one that can be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it can't be read.
    #[error("can't read {path} ({source}): is it an OCI image layout, copied completely and without links?")]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of it is something else.
    #[error(
        "{path} is not what an OCI image layout holds ({cause}): write it anew, as with `oras cp --to-oci-layout`"
    )]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// More than can be right.
    #[error("{path} has more than {limit} bytes where fewer were expected: it can't be used")]
    Bound {
        /// Which.
        path: PathBuf,
        /// How many were expected at most.
        limit: usize,
    },
    /// A name for what this program doesn't read.
    #[error(
        "{path} names {name:?} in a form that isn't read here: its entry in index.json needs a sha256 digest; write it anew, \
         as with `oras cp --to-oci-layout`"
    )]
    ReadEntry {
        /// The directory.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Two manifests of one name.
    #[error("{path} names more than one manifest {name:?}: remove all but one, or name a digest")]
    Decide {
        /// The directory.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

/// An error with its causes, at most some lines of it: the outermost text alone often says nothing.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    short(&text)
}

/// How much of what the other side says about a failure is shown.
const MAX_CAUSE: usize = 300;

pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_CAUSE).collect()
}
