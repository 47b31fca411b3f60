//! One layer of a verified image into a file: whole and right, or an error.
//!
//! With a chunk index and files that hold parts of it (`delta.rs`), else from end to end (`download.rs`). Either way what
//! an earlier attempt left in the file is taken up and not trusted: the digest of the whole file, which the signed
//! manifest names, decides at the end. A file with another digest is removed.
//!
//! Streams; the most that is in memory is one buffer, and what `chunks.rs` counts for each chunk.

use crate::chunks::{ChunkIndex, ChunksError, MAX_INDEX};
use crate::delta::{self, Seed};
use crate::download;
use crate::source::{Source, chain};
use crate::transfer::{Attempts, FetchError, Fetched, SHORT, Told, at};
use crate::{Digest, Kind, Verified};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

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
                delta::Assembled::Done(fetched) => fetched,
                delta::Assembled::NoParts => download::fetch(layer, source, into, progress)?,
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
