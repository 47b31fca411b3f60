//! Which package each file of the image came from, recorded while the tree is made.
//!
//! Afterwards it can't be told: files are trimmed, stripped and compiled, and a path says nothing sure about its
//! package. So the steps that add files say who brought them, and a file that nobody brought fails the build. The record
//! lies beside the staged tree, not in it; the bill of materials is made from it ([`crate::sbom`]).
//!
//! It refuses to guess: a path that two packages bring is an error, not the later one's.

use crate::cache::{CacheError, at, hex};
use crate::tree;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the files of a tree come from could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// A path that two packages bring: the image holds one of them, and which is an accident of their order.
    #[error(
        "{path} is brought by {first:?} and again by {second:?}: cut one of them before it is unpacked, or drop the package"
    )]
    OwnFile {
        /// The path in the image.
        path: PathBuf,
        /// Who brought it first.
        first: Origin,
        /// Who brought it again.
        second: Origin,
    },
    /// A file whose origin no step told.
    #[error(
        "nothing says where {0} comes from: the step that made it must tell the recorder (rootfs/src/origins.rs)"
    )]
    FindOrigin(PathBuf),
    /// A file of the tree.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Who brought a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The Debian package of this name.
    Debian(String),
    /// The wheel of this name.
    Wheel(String),
    /// This project: the launcher, and what is generated.
    Ours,
}

/// What is known of one file of the finished tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who brought it; of byte code, who brought its source.
    pub origin: Origin,
    /// The content's sums.
    #[serde(flatten)]
    pub sums: Sums,
    /// Where a symbolic link points. The sums of a link are those of this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
}

/// Two sums of one content, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Not for trust: SPDX 2.3 requires it of each file (section 8.4).
    pub sha1: String,
    /// The one that counts.
    pub sha256: String,
}

impl Sums {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha1: hex(&Sha1::digest(bytes)), sha256: hex(&Sha256::digest(bytes)) }
    }

    /// Of the file or, for a symbolic link, of its target's text.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        let is_link = fs::symlink_metadata(path)?.is_symlink();
        Ok(if is_link {
            Self::of(fs::read_link(path)?.as_os_str().as_bytes())
        } else {
            Self::of(&fs::read(path)?)
        })
    }
}

/// Every file and symbolic link of a tree, by its path without a leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(pub BTreeMap<PathBuf, Entry>);

impl Origins {
    /// Where the record of a staged tree is.
    pub fn path_of(stage: &Path) -> PathBuf {
        stage.with_file_name("origins.json")
    }
}

/// Follows a tree while it is made.
pub(crate) struct Recorder<'a> {
    stage: &'a Path,
    origins: BTreeMap<PathBuf, Origin>,
    /// Inode and time of change of each path when last looked at: what tells a rewritten file from an untouched one.
    seen: BTreeMap<PathBuf, (u64, i64, i64)>,
}

impl<'a> Recorder<'a> {
    /// Of a tree that is still empty.
    pub(crate) fn new(stage: &'a Path) -> Self {
        Self { stage, origins: BTreeMap::new(), seen: BTreeMap::new() }
    }

    /// Everything that appeared or was rewritten since the last call was brought by `origin`. For unpacking only: what
    /// comes later rewrites files on purpose.
    pub(crate) fn unpacked(&mut self, origin: &Origin) -> Result<(), OriginError> {
        for (path, metadata) in files(self.stage)? {
            let stamp = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
            if self.seen.insert(path.clone(), stamp) == Some(stamp) {
                continue;
            }
            if let Some(first) = self.origins.insert(path.clone(), origin.clone()) {
                return Err(OriginError::OwnFile { path, first, second: origin.clone() });
            }
        }
        Ok(())
    }

    /// What has no origin yet was made by this project.
    pub(crate) fn generated(&mut self) -> Result<(), OriginError> {
        for (path, _) in files(self.stage)? {
            self.origins.entry(path).or_insert(Origin::Ours);
        }
        Ok(())
    }

    /// Byte code without an origin has its source's.
    pub(crate) fn compiled(&mut self) -> Result<(), OriginError> {
        for (path, _) in files(self.stage)? {
            if path.extension().is_some_and(|extension| extension == "pyc")
                && !self.origins.contains_key(&path)
            {
                if let Some(origin) = self.origins.get(&path.with_extension("py")).cloned() {
                    self.origins.insert(path, origin);
                }
            }
        }
        Ok(())
    }

    /// Fails where a file has no origin: after compiling, so that [`Self::generated`] can't adopt a stray one.
    pub(crate) fn complete(&self) -> Result<(), OriginError> {
        let stray = files(self.stage)?.find(|(path, _)| !self.origins.contains_key(path));
        stray.map_or(Ok(()), |(path, _)| Err(OriginError::FindOrigin(path)))
    }

    /// The record of what is in the tree now. A file without an origin is an error.
    pub(crate) fn finish(mut self) -> Result<Origins, OriginError> {
        let mut record = Origins::default();
        for (path, metadata) in files(self.stage)? {
            let origin = self.origins.remove(&path).ok_or_else(|| OriginError::FindOrigin(path.clone()))?;
            let file = self.stage.join(&path);
            let sums = Sums::of_path(&file).map_err(at("reading", &file))?;
            let link = metadata.is_symlink().then(|| fs::read_link(&file)).transpose();
            let link = link.map_err(at("reading", &file))?;
            record.0.insert(path, Entry { origin, sums, link });
        }
        Ok(record)
    }
}

fn files(stage: &Path) -> Result<impl Iterator<Item = (PathBuf, fs::Metadata)>, OriginError> {
    let entries = tree::walk(stage).map_err(at("searching", stage))?;
    Ok(entries.into_iter().filter(|entry| !entry.metadata.is_dir()).map(|entry| (entry.path, entry.metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(name: &str) -> Origin {
        Origin::Debian(name.to_owned())
    }

    fn origin<'a>(record: &'a Origins, path: &str) -> &'a Origin {
        &record.0[Path::new(path)].origin
    }

    #[test]
    fn each_file_belongs_to_who_brought_it_and_byte_code_to_the_source() {
        let stage = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(stage.path());
        fs::write(stage.path().join("a.py"), "1").unwrap();
        recorder.unpacked(&debian("a")).unwrap();
        fs::write(stage.path().join("b"), "2").unwrap();
        fs::write(stage.path().join("cut"), "2").unwrap();
        recorder.unpacked(&Origin::Wheel("b".to_owned())).unwrap();
        fs::remove_file(stage.path().join("cut")).unwrap();
        fs::rename(stage.path().join("a.py"), stage.path().join("a.pyc")).unwrap();
        recorder.compiled().unwrap();
        recorder.complete().unwrap();
        std::os::unix::fs::symlink("b", stage.path().join("link")).unwrap();
        recorder.generated().unwrap();
        let record = recorder.finish().unwrap();
        assert_eq!(record.0.len(), 3);
        assert_eq!(origin(&record, "a.pyc"), &debian("a"));
        assert_eq!(origin(&record, "b"), &Origin::Wheel("b".to_owned()));
        assert_eq!(origin(&record, "link"), &Origin::Ours);
        assert_eq!(record.0[Path::new("link")].sums, Sums::of(b"b"));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Origins>(&text).unwrap(), record);
    }

    #[test]
    fn a_file_that_nobody_brought_fails_the_build() {
        let stage = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(stage.path());
        fs::write(stage.path().join("a"), "1").unwrap();
        recorder.unpacked(&debian("a")).unwrap();
        fs::write(stage.path().join("stray.pyc"), "1").unwrap();
        recorder.compiled().unwrap();
        assert!(matches!(recorder.complete(), Err(OriginError::FindOrigin(_))));
        let refused = recorder.finish();
        assert!(matches!(refused, Err(OriginError::FindOrigin(path)) if path == Path::new("stray.pyc")));
    }

    #[test]
    fn a_file_that_two_packages_bring_is_refused_and_untouched_ones_are_not() {
        let stage = tempfile::tempdir().unwrap();
        let file = stage.path().join("a");
        let mut recorder = Recorder::new(stage.path());
        fs::write(&file, "1").unwrap();
        recorder.unpacked(&debian("a")).unwrap();
        recorder.unpacked(&debian("b")).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(stage.path().join("holds-the-inode"), "1").unwrap();
        fs::write(&file, "2").unwrap();
        assert!(matches!(recorder.unpacked(&debian("c")), Err(OriginError::OwnFile { .. })));
    }
}
