//! An OCI image layout (image-spec, `image-layout.md`): a directory that holds what a registry would, for machines that
//! no registry can be reached from. `oras cp --to-oci-layout` writes one.
//!
//! It comes on a stick or a share from somewhere, so it is read as strictly as a registry's answers: plain files and
//! directories alone, no link is followed below the directory, every file that is kept has a bound. A tag that two
//! manifests have is refused.

use super::error::{LayoutError, SourceError};
use super::referrer::{self, MAX_INDEX, Referrer};
use super::repository::{Blob, Source};
use crate::{Digest, Patience};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The annotation that names a manifest of the index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The version of the layout that is read.
const VERSION: &str = "1.0.0";
/// `oci-layout` has about 30 bytes.
const MAX_MARK: usize = 4096;

/// A directory with an OCI image layout.
pub struct LayoutSource {
    path: PathBuf,
    blobs: OwnedFd,
    tags: BTreeMap<String, Entry>,
    /// Everything in the index: who copies an image with what refers to it gets both in there.
    manifests: Vec<Referrer>,
}

/// What a tag stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    One(Digest),
    /// It can't be said what.
    Many,
    /// A manifest that isn't read here, such as one by another digest than SHA-256.
    Unread,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    /// Somebody else's may stand beside ours, in forms that aren't ours.
    manifests: Vec<Value>,
}

impl LayoutSource {
    /// Opens the layout in a directory, and reads its index.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let wrong = |path: PathBuf| move |source: io::Error| LayoutError::ReadFile { path, source };
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, directory, Mode::empty())
            .map_err(|error| wrong(path.to_owned())(error.into()))?;
        let parsed = |name: &str, error: serde_json::Error| LayoutError::Parse {
            path: path.join(name),
            cause: error.to_string(),
        };
        let mark = read(&root, path, "oci-layout", MAX_MARK)?;
        let mark: Mark = serde_json::from_slice(&mark).map_err(|error| parsed("oci-layout", error))?;
        if mark.image_layout_version != VERSION {
            let cause = format!("its version is {:?}, not {VERSION}", mark.image_layout_version);
            return Err(LayoutError::Parse { path: path.join("oci-layout"), cause });
        }
        let index = read(&root, path, "index.json", MAX_INDEX)?;
        let index: Index = serde_json::from_slice(&index).map_err(|error| parsed("index.json", error))?;
        if index.schema_version != 2 {
            let cause = format!("its schema version is {}, not 2", index.schema_version);
            return Err(LayoutError::Parse { path: path.join("index.json"), cause });
        }
        let mut tags = BTreeMap::new();
        for manifest in &index.manifests {
            let name =
                manifest.get("annotations").and_then(|notes| notes.get(REF_NAME)).and_then(Value::as_str);
            let Some(name) = name else { continue };
            let new = Referrer::parse(manifest).map_or(Entry::Unread, |entry| Entry::One(entry.digest));
            let entry = tags.entry(name.to_owned()).or_insert(new);
            if *entry != new {
                *entry = Entry::Many;
            }
        }
        let manifests = index.manifests.iter().filter_map(Referrer::parse).collect();
        let below = directory | OFlags::NOFOLLOW;
        let blobs = openat(&root, "blobs", below, Mode::empty())
            .and_then(|blobs| openat(&blobs, "sha256", below, Mode::empty()))
            .map_err(|error| wrong(path.join("blobs/sha256"))(error.into()))?;
        Ok(Self { path: path.to_owned(), blobs, tags, manifests })
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }
}

impl Source for LayoutSource {
    fn place(&self, name: &str) -> String {
        format!("{name} in {}", self.path.display())
    }

    fn manifest(&mut self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let digest = match (Digest::parse(name), self.tags.get(name).copied()) {
            (Some(digest), _) | (None, Some(Entry::One(digest))) => digest,
            (None, Some(Entry::Many)) => {
                let (path, name) = (self.path.clone(), name.to_owned());
                return Err(LayoutError::Decide { path, name }.into());
            }
            (None, Some(Entry::Unread)) => {
                let (path, name) = (self.path.clone(), name.to_owned());
                return Err(LayoutError::ReadEntry { path, name }.into());
            }
            (None, None) => return Ok(None),
        };
        match read(&self.blobs, &self.path.join("blobs/sha256"), &digest.hex(), limit) {
            // A digest that isn't there is no image; a tag whose manifest is gone is a broken layout.
            Err(LayoutError::ReadFile { source, .. })
                if source.kind() == io::ErrorKind::NotFound && Digest::parse(name).is_some() =>
            {
                Ok(None)
            }
            read => {
                let bytes = read?;
                if Digest::parse(name).is_none() && Digest::of(&bytes) != digest {
                    let cause = "it is not what its name says: changed, or not all of it".to_owned();
                    return Err(LayoutError::Parse { path: self.blob_path(digest), cause }.into());
                }
                Ok(Some(bytes))
            }
        }
    }

    fn referrers(&mut self, digest: Digest) -> Result<Vec<Referrer>, SourceError> {
        let mut found = match self.manifest(&digest.referrers_tag(), MAX_INDEX)? {
            Some(bytes) => referrer::list(&bytes),
            None => Vec::new(),
        };
        found.extend(self.manifests.iter().filter(|entry| entry.digest != digest).cloned());
        Ok(found)
    }

    fn blob(&mut self, digest: Digest, from: u64, length: Option<u64>) -> Result<Blob<'_>, SourceError> {
        let path = self.blob_path(digest);
        let open = || {
            let mut file = open_file(&self.blobs, &digest.hex())?;
            file.seek(SeekFrom::Start(from))?;
            Ok(file)
        };
        let file = open().map_err(|source| LayoutError::ReadFile { path, source })?;
        Ok(Blob::exact(Box::new(file), length))
    }

    /// A file that can't be read now can't be read in a second.
    fn patience(&self) -> Patience {
        Patience { fruitless: 1, attempts: 1, pause: Duration::ZERO }
    }
}

/// A plain file of a directory. Not a link, and nothing that opening could wait for or wake up.
fn open_file(directory: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    Ok(file.into())
}

fn read(directory: impl AsFd, path: &Path, name: &str, limit: usize) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    open_file(directory, name)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| LayoutError::ReadFile { path: path.join(name), source })?;
    if bytes.len() > limit {
        return Err(LayoutError::Bound { path: path.join(name), limit });
    }
    Ok(bytes)
}
