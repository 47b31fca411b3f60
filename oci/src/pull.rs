//! An image from a registry into a folder: all of it or nothing.
//!
//! Layers arrive in `.partial-DIGEST` below the folder, named by the digest of the signed manifest. Only when every one of
//! them is complete, right and on disk are they moved to their names. A pull that ends before that leaves at most this
//! dot folder, from which the next pull of the same image goes on; removing it is always safe.
//!
//! A file that is in the way is never replaced, unless it is already what would be put there.

use crate::fetch::fetch_layer;
use crate::source::{RegistryError, RegistrySource, SourceError};
use crate::transfer::{FetchError, Progress};
use crate::verify::{VerifyError, verify_with};
use crate::{Digest, Options, PublicKey, Reference, Verified};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// An image was not pulled. Nothing but a dot folder was left.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image is not to be trusted, or isn't there.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Other bytes than were signed.
    #[error(
        "the layer {name} has the digest {found}, but {expected} was signed: the registry or the way to it changed it. \
         Nothing was written; pull from another registry"
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
        "only {received} of {size} bytes of the layer {name} came ({cause}), again and again. Nothing is in place yet; \
         pull again to go on from there"
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
    /// What is left: nothing of it happens without a chunk index or a limit on time.
    #[error(transparent)]
    Fetch(FetchError),
    /// Something else has that name.
    #[error("{0} is in the way, and is not what would be put there: pull into an empty folder")]
    KeepFile(PathBuf),
    /// Another pull of the same image.
    #[error("another pull of this image into {0} is running: wait for it")]
    Lock(PathBuf),
    /// The folder.
    #[error("{action} {path} failed ({source}): check free space and permissions")]
    UseFile {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The manifest and who signed it.
    pub verified: Verified,
    /// The files, in the manifest's order.
    pub files: Vec<PathBuf>,
}

/// Checks that the image at `reference` is signed by one of `keys`. Fetches no layer and writes nothing.
pub fn verify(reference: &Reference, keys: &[PublicKey], options: &Options) -> Result<Verified, VerifyError> {
    let mut source = RegistrySource::open(reference, options.source(reference))?;
    verify_with(&mut source, &reference.name(), keys)
}

/// Pulls the image at `reference` into the folder `dest`, if one of `keys` has signed it.
pub fn pull(
    reference: &Reference,
    keys: &[PublicKey],
    dest: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Pulled, PullError> {
    let mut source = RegistrySource::open(reference, options.source(reference))?;
    let verified = verify_with(&mut source, &reference.name(), keys)?;
    progress(Progress::Verified(&verified));
    let place = Place::open(dest, verified.digest())?;
    let mut moves = Vec::new();
    for layer in &verified.manifest().layers {
        let name = layer.name.as_str();
        let (part, end) = (place.parts.join(name), dest.join(name));
        if !is_there(&end, layer.digest)? {
            moves.push((layer.kind, part, end));
        }
    }
    let mut told = |what: Progress<'_>| {
        progress(what);
        ControlFlow::Continue(())
    };
    for (kind, part, _) in &moves {
        fetch_layer(&verified, *kind, &mut source, part, None, &mut [], &mut told)?;
    }
    for (_, part, end) in &moves {
        fs::rename(part, end).map_err(at("moving into place", end))?;
    }
    File::open(dest).and_then(|folder| folder.sync_all()).map_err(at("writing", dest))?;
    let files = verified.manifest().layers.iter().map(|layer| dest.join(layer.name.as_str())).collect();
    Ok(Pulled { verified, files })
}

impl From<FetchError> for PullError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Source(SourceError::Registry(error)) => Self::Registry(error),
            FetchError::MatchLayer { name, expected, found } => Self::MatchLayer { name, expected, found },
            FetchError::ReceiveLayer { name, received, size, cause } => {
                Self::ReceiveLayer { name, received, size, cause }
            }
            FetchError::UseFile { action, path, source } => Self::UseFile { action, path, source },
            FetchError::FillDisk(path) => {
                Self::UseFile { action: "writing", path, source: io::ErrorKind::StorageFull.into() }
            }
            other => Self::Fetch(other),
        }
    }
}

/// The folder and the dot folder in it, held by a lock.
struct Place {
    dest: PathBuf,
    parts: PathBuf,
    made: bool,
    _lock: File,
}

impl Place {
    fn open(dest: &Path, digest: Digest) -> Result<Self, PullError> {
        let made = !dest.exists();
        let parts = dest.join(format!(".partial-{}", digest.hex()));
        fs::create_dir_all(&parts).map_err(at("making", &parts))?;
        let lock = File::open(&parts).map_err(at("opening", &parts))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dest: dest.to_owned(), parts, made, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(PullError::Lock(dest.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(at("locking", &parts)(source)),
        }
    }
}

impl Drop for Place {
    /// Folders with nothing in them are of no use to a later pull.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.parts);
        if self.made {
            let _ = fs::remove_dir(&self.dest);
        }
    }
}

/// Whether a layer's file is already in its place; an error when something else is there.
fn is_there(path: &Path, digest: Digest) -> Result<bool, PullError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("looking at", path)(error)),
        Ok(found) if found.is_file() => {
            let mut file = File::open(path).map_err(at("opening", path))?;
            let (found, _) = Digest::of_file(&mut file).map_err(at("reading", path))?;
            if found == digest { Ok(true) } else { Err(PullError::KeepFile(path.to_owned())) }
        }
        Ok(_) => Err(PullError::KeepFile(path.to_owned())),
    }
}

/// Names the action and the path of an I/O error.
fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PullError {
    let path = path.to_owned();
    move |source| PullError::UseFile { action, path, source }
}
