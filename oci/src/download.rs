//! One layer from the registry to a file, through connections that break.
//!
//! What has arrived stays when a connection breaks, and the next attempt asks for the rest only. A file from an earlier
//! run is taken up the same way. Nothing of that is trusted: the whole file's digest decides in the end, and a file that
//! was put together from pieces gets one more chance in one piece before the registry is blamed.

use crate::digest::hash_into;
use crate::manifest::Layer;
use crate::pull::{Progress, PullError, at};
use crate::registry::{Registry, Stop, chain};
use crate::verify::SignedLayer;
use crate::{Digest, Options};
use futures_util::StreamExt as _;
use ring::digest::{Context, SHA256};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What there is of a layer's file, and the digest of it so far.
struct Part {
    path: PathBuf,
    file: File,
    context: Context,
    length: u64,
    /// Every byte came in one answer.
    whole: bool,
}

impl Part {
    fn open(path: &Path, size: u64) -> Result<Self, PullError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // A link in the place of a part would lead the writing elsewhere.
        options.custom_flags(NOFOLLOW);
        let mut file = options.open(path).map_err(at("opening", path))?;
        let mut context = Context::new(&SHA256);
        let length = hash_into(&mut context, &mut file).map_err(at("reading", path))?;
        let mut part = Self { path: path.to_owned(), file, context, length, whole: length == 0 };
        if part.length > size {
            part.restart()?;
        }
        Ok(part)
    }

    /// Begins anew.
    fn restart(&mut self) -> Result<(), PullError> {
        let restarted = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        restarted.map_err(at("emptying", &self.path))?;
        self.context = Context::new(&SHA256);
        self.length = 0;
        self.whole = true;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.file.write_all(bytes).map_err(at("writing", &self.path))?;
        self.context.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// `O_NOFOLLOW` of Linux on `x86_64` (`asm-generic/fcntl.h`), the one system this project is built for.
const NOFOLLOW: i32 = 0o400_000;

/// Brings a layer to `path`, complete and on disk, or an error.
pub(crate) async fn fetch(
    registry: &Registry,
    layer: SignedLayer<'_>,
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PullError> {
    let layer = layer.get();
    let mut part = Part::open(path, layer.size)?;
    let (mut broken, mut fruitless) = (0, 0);
    loop {
        if part.length == layer.size {
            let found = Digest::finish(part.context.clone());
            if found == layer.digest {
                return part.file.sync_all().map_err(at("writing", path));
            }
            if part.whole {
                drop(part);
                std::fs::remove_file(path).map_err(at("removing", path))?;
                let name = layer.name.to_string();
                return Err(PullError::MatchLayer { name, expected: layer.digest, found });
            }
            part.restart()?;
        }
        let before = part.length;
        let Some(cause) = receive(registry, layer, &mut part, progress).await? else { continue };
        broken += 1;
        fruitless = if part.length > before { 0 } else { fruitless + 1 };
        if broken >= options.attempts || fruitless >= options.fruitless {
            let name = layer.name.to_string();
            return Err(PullError::ReceiveLayer { name, received: part.length, size: layer.size, cause });
        }
        progress(Progress::Broken { name: layer.name.as_str(), received: part.length, cause: &cause });
        tokio::time::sleep(options.pause * (fruitless + 1)).await;
    }
}

/// Takes what one answer brings, never more than the layer's size. `None` once all is there, else why it isn't.
async fn receive(
    registry: &Registry,
    layer: &Layer,
    part: &mut Part,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<String>, PullError> {
    let mut blob = match registry.blob(layer.digest, part.length).await {
        Ok(blob) => blob,
        Err(Stop::Broken(cause)) => return Ok(Some(cause)),
        Err(Stop::Final(error)) => return Err(error.into()),
    };
    if blob.offset == 0 {
        part.restart()?;
    } else {
        part.whole = false;
    }
    while part.length < layer.size {
        let chunk = match blob.stream.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Ok(Some(chain(&error))),
            None => return Ok(Some("the registry sent less than the signed size".to_owned())),
        };
        let rest = usize::try_from(layer.size - part.length).unwrap_or(usize::MAX);
        part.add(&chunk[..chunk.len().min(rest)])?;
        progress(Progress::Layer { name: layer.name.as_str(), received: part.length, size: layer.size });
    }
    Ok(None)
}
