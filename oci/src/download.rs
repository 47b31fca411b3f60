//! A layer from end to end, through connections that break.
//!
//! What has arrived stays when a connection breaks, and the next attempt asks for the rest only. A file from an earlier
//! run is taken up the same way. Nothing of that is trusted: the whole file's digest decides in the end, and a file that
//! was put together from pieces gets one more chance in one piece before the registry is blamed.

use crate::Digest;
use crate::digest::hash_into;
use crate::manifest::Layer;
use crate::source::{Source, chain};
use crate::transfer::{Attempts, FetchError, Fetched, Progress, SHORT, Told, at, open, tell};
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// How much is read at once.
const BUFFER: usize = 128 * 1024;

/// What there is of a layer's file, and the digest of it so far.
struct Part {
    path: PathBuf,
    file: File,
    context: Context,
    length: u64,
    /// Every byte came in one answer.
    whole: bool,
    /// What was there before this run, and still is.
    kept: u64,
}

impl Part {
    fn open(path: &Path, size: u64) -> Result<Self, FetchError> {
        let mut file = open(path)?;
        let mut context = Context::new(&SHA256);
        let there = file.metadata().map_err(at("reading", path))?.len();
        // What is longer isn't this layer's, and isn't worth reading.
        let length =
            if there > size { 0 } else { hash_into(&mut context, &mut file).map_err(at("reading", path))? };
        let mut part =
            Self { path: path.to_owned(), file, context, length, whole: length == 0, kept: length };
        if there > size {
            part.restart()?;
        }
        Ok(part)
    }

    /// Begins anew.
    fn restart(&mut self) -> Result<(), FetchError> {
        let restarted = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        restarted.map_err(at("emptying", &self.path))?;
        self.context = Context::new(&SHA256);
        self.length = 0;
        self.kept = 0;
        self.whole = true;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(at("writing", &self.path))?;
        self.context.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Brings a layer to `path`, complete and on disk, or an error.
pub(crate) fn fetch(
    layer: &Layer,
    source: &mut dyn Source,
    path: &Path,
    progress: &mut Told<'_>,
) -> Result<Fetched, FetchError> {
    let mut part = Part::open(path, layer.size)?;
    let mut attempts = Attempts::new(source.patience());
    let mut moved = 0;
    loop {
        if part.length == layer.size {
            let found = Digest::finish(part.context.clone());
            if found == layer.digest {
                part.file.sync_all().map_err(at("writing", path))?;
                return Ok(Fetched { moved, reused: part.kept });
            }
            if part.whole {
                drop(part);
                std::fs::remove_file(path).map_err(at("removing", path))?;
                let name = layer.name.to_string();
                return Err(FetchError::MatchLayer { name, expected: layer.digest, found });
            }
            part.restart()?;
        }
        let before = part.length;
        let Some(cause) = receive(layer, source, &mut part, &mut moved, progress)? else { continue };
        attempts.wait(part.length > before, layer, part.length, &cause, progress)?;
    }
}

/// Takes what one answer brings, never more than the layer's size. `None` once all is there, else why it isn't.
fn receive(
    layer: &Layer,
    source: &mut dyn Source,
    part: &mut Part,
    moved: &mut u64,
    progress: &mut Told<'_>,
) -> Result<Option<String>, FetchError> {
    let blob = match source.blob(layer.digest, part.length, None) {
        Ok(blob) => blob,
        Err(error) if error.is_passing() => return Ok(Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    // All of it comes, so all of it is taken: it is then in one piece.
    let (mut reader, from) = blob.into_parts(part.length);
    if from == 0 {
        part.restart()?;
    } else {
        part.whole = false;
    }
    let mut buffer = vec![0; BUFFER];
    while part.length < layer.size {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(Some(SHORT.to_owned())),
            Ok(read) => read,
            Err(error) => return Ok(Some(chain(&error))),
        };
        *moved += read as u64;
        let rest = usize::try_from(layer.size - part.length).unwrap_or(usize::MAX);
        part.add(&buffer[..read.min(rest)])?;
        let (name, received, size) = (layer.name.as_str(), part.length, layer.size);
        tell(progress, layer, Progress::Layer { name, received, size })?;
    }
    Ok(None)
}
