//! What every transfer of a layer shares: why it fails, how far it is, how often it is begun again, and its file.
//!
//! `fetch.rs` chooses between a delta and a download. Both work in these terms, and neither imports from the one that
//! chooses.

use crate::chunks::ChunksError;
use crate::manifest::Layer;
use crate::source::SourceError;
use crate::{Digest, Kind, Patience, Verified};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A layer was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source can't be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No such layer.
    #[error("the image has no layer of the kind {0:?}: it was pushed by another release; name a newer image")]
    FindLayer(Kind),
    /// The chunk index isn't one.
    #[error("the image's chunk index can't be used ({0}); fetch without it")]
    ReadIndex(#[from] ChunksError),
    /// The chunk index is another image's, or wrong.
    #[error(
        "the layer {name} is not what the chunk index says ({cause}). Nothing is in place; fetch without the index, or \
         from another registry"
    )]
    MatchIndex {
        /// The layer's file name.
        name: String,
        /// What differs.
        cause: String,
    },
    /// Other bytes than were signed.
    #[error(
        "the layer {name} has the digest {found}, but {expected} was signed: the registry or the way to it changed it. \
         Nothing is in place; fetch from another registry"
    )]
    MatchLayer {
        /// Its file name.
        name: String,
        /// What the manifest names.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Not all of it came.
    #[error(
        "only {received} of {size} bytes of the layer {name} are there ({cause}), again and again. Nothing is in place \
         yet; fetch again to go on from there"
    )]
    ReceiveLayer {
        /// Its file name.
        name: String,
        /// How much is there.
        received: u64,
        /// How much there should be.
        size: u64,
        /// Why the last attempt ended.
        cause: String,
    },
    /// Who asked changed their mind.
    #[error("fetching the layer {0} was stopped; fetch again to go on from there")]
    Stop(String),
    /// No room.
    #[error(
        "there is no room for {0}: make room for the whole layer, or remove the file and fetch to another place"
    )]
    FillDisk(PathBuf),
    /// The file.
    #[error("{action} {path} failed ({source}): check the disk and permissions")]
    UseFile {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The signature holds; layers come next.
    Verified(&'a Verified),
    /// This much of a layer is there.
    Layer {
        /// Its file name.
        name: &'a str,
        /// In bytes, those that were there already among them.
        received: u64,
        /// In bytes.
        size: u64,
    },
    /// This much of what is here already was searched for parts of a layer.
    Searched {
        /// The layer's file name.
        name: &'a str,
        /// In bytes, of all seeds.
        searched: u64,
        /// In bytes.
        size: u64,
    },
    /// The connection broke and is made again.
    Broken {
        /// The layer's file name.
        name: &'a str,
        /// How much of it is there.
        received: u64,
        /// Why.
        cause: &'a str,
    },
}

/// What a layer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Bytes that the source sent, those that came twice among them.
    pub moved: u64,
    /// Bytes of the file that were here already, in seeds or in the file.
    pub reused: u64,
}

/// Told how far it is; may end it.
pub type Told<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// What is said when a source ends a blob too early.
pub(crate) const SHORT: &str = "less than the signed size was sent";

/// How often a layer's transfer broke.
pub(crate) struct Attempts {
    patience: Patience,
    broken: u32,
    fruitless: u32,
}

impl Attempts {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, broken: 0, fruitless: 0 }
    }

    /// Waits until it is time for the next attempt, unless there were enough.
    pub(crate) fn wait(
        &mut self,
        brought: bool,
        layer: &Layer,
        received: u64,
        cause: &str,
        progress: &mut Told<'_>,
    ) -> Result<(), FetchError> {
        self.broken += 1;
        self.fruitless = if brought { 0 } else { self.fruitless + 1 };
        let name = layer.name.as_str();
        if self.broken >= self.patience.attempts || self.fruitless >= self.patience.fruitless {
            let (name, cause) = (name.to_owned(), cause.to_owned());
            return Err(FetchError::ReceiveLayer { name, received, size: layer.size, cause });
        }
        tell(progress, layer, Progress::Broken { name, received, cause })?;
        std::thread::sleep(self.patience.pause.min(LONGEST_PAUSE) * (self.fruitless + 1));
        Ok(())
    }
}

/// No pause is longer, whatever a caller's patience: who stops a fetch waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tells how far it is, and ends where that is wanted.
pub(crate) fn tell(progress: &mut Told<'_>, layer: &Layer, what: Progress<'_>) -> Result<(), FetchError> {
    match progress(what) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(FetchError::Stop(layer.name.to_string())),
    }
}

/// Names the action and the path of an I/O error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::FillDisk(path),
        _ => FetchError::UseFile { action, path, source },
    }
}

/// Opens the file of a layer to read and write, whatever it holds. A link in its place would lead the writing elsewhere,
/// and is not followed; a device or a pipe has no end that could be found.
pub(crate) fn open(path: &Path) -> Result<File, FetchError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(i32::from_ne_bytes(rustix::fs::OFlags::NOFOLLOW.bits().to_ne_bytes()));
    let file = options.open(path).map_err(at("opening", path))?;
    if !file.metadata().map_err(at("reading", path))?.is_file() {
        return Err(at("opening", path)(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let error = |kind: io::ErrorKind| at("writing", Path::new("/x"))(kind.into());
        assert!(matches!(error(io::ErrorKind::StorageFull), FetchError::FillDisk(_)));
        assert!(matches!(error(io::ErrorKind::QuotaExceeded), FetchError::FillDisk(_)));
        assert!(matches!(error(io::ErrorKind::PermissionDenied), FetchError::UseFile { .. }), "the twin");
    }
}
