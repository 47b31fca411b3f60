//! One layer of a verified image into a file: whole and right, or an error.
//!
//! With a chunk index and files that hold parts of it (`delta.rs`), else from end to end (`download.rs`). Either way what
//! an earlier attempt left in the file is taken up and not trusted: the digest of the whole file, which the signed
//! manifest names, decides at the end. A file with another digest is removed.
//!
//! Streams; the most that is in memory is one buffer, and what `chunks.rs` counts for each chunk.

use crate::chunks::{ChunkIndex, ChunksError, MAX_INDEX};
use crate::manifest::Layer;
use crate::source::{Source, SourceError, chain};
use crate::{Digest, Kind, Patience, Verified, delta, download};
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::delta::Seed;

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

/// Brings the layer of this kind to the file `into`, complete and on disk.
///
/// With an index, chunks that are in the file or in one of the seeds are not asked for. Where the index doesn't cover the
/// layer, or the source doesn't send parts of blobs, all of it is fetched. `into` is created, or taken up where an earlier
/// attempt ended; it stays there when the source breaks off or `progress` breaks, so that the next attempt can go on.
pub fn fetch_layer(
    verified: &Verified,
    kind: Kind,
    source: &mut dyn Source,
    into: &Path,
    index: Option<&ChunkIndex>,
    seeds: &mut [Seed],
    progress: &mut Told<'_>,
) -> Result<Fetched, FetchError> {
    let layer = verified.layer(kind).ok_or(FetchError::FindLayer(kind))?.get();
    let fetched = match index.and_then(|index| index.layer(kind)) {
        Some(chunked) => {
            if chunked.size != layer.size {
                let cause = format!("{} bytes, not {}", layer.size, chunked.size);
                return Err(FetchError::MatchIndex { name: layer.name.to_string(), cause });
            }
            match delta::fetch(layer, chunked, source, into, seeds, progress)? {
                delta::Outcome::Done(fetched) => fetched,
                delta::Outcome::NoParts => download::fetch(layer, source, into, progress)?,
            }
        }
        None => download::fetch(layer, source, into, progress)?,
    };
    // A file is on disk when its name is, too.
    let folder = into.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("writing", folder))?;
    Ok(fetched)
}

/// The image's chunk index; `None` where it has none.
pub fn fetch_index(
    verified: &Verified,
    source: &mut dyn Source,
    progress: &mut Told<'_>,
) -> Result<Option<ChunkIndex>, FetchError> {
    let Some(layer) = verified.layer(Kind::Chunks) else { return Ok(None) };
    let layer = layer.get();
    if layer.size > MAX_INDEX as u64 {
        return Err(ChunksError::Bound.into());
    }
    let mut attempts = Attempts::new(source.patience());
    loop {
        let mut bytes = Vec::new();
        let read = source.blob(layer.digest, 0, Some(layer.size)).map(|blob| {
            blob.take(layer.size).read_to_end(&mut bytes).map(drop).map_err(|error| chain(&error))
        });
        let cause = match read {
            Ok(Ok(())) if bytes.len() as u64 == layer.size => {
                let found = Digest::of(&bytes);
                if found == layer.digest {
                    return Ok(Some(ChunkIndex::parse(&bytes)?));
                }
                let name = layer.name.to_string();
                return Err(FetchError::MatchLayer { name, expected: layer.digest, found });
            }
            Ok(Ok(())) => SHORT.to_owned(),
            Ok(Err(cause)) => cause,
            Err(error) if error.is_passing() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        // Begun anew each time: it is small.
        attempts.wait(false, layer, 0, &cause, progress)?;
    }
}

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
