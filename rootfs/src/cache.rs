//! The cache: everything downloaded or built, under the name of its content.
//!
//! An entry is written beside its place and then renamed into it, so that a name that exists is always complete and
//! two builds at once can't see each other's halves. Nothing in here is ever changed after that.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The cache could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither variable that would say where the cache is.
    #[error("the cache has no place: set ASTROMESH_CACHE or HOME")]
    FindCache,
    /// A file operation inside the cache.
    #[error("{action} {path} failed ({source}): check free space and permissions of the cache")]
    UseFile {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A directory of content-named entries.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache at `root`, made if needed.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        make_dir(root)?;
        let root = fs::canonicalize(root).map_err(at("resolving", root))?;
        Ok(Self { root })
    }

    /// The developer's cache: `ASTROMESH_CACHE`, else `~/.cache/astromesh-os`.
    pub fn default_path() -> Result<PathBuf, CacheError> {
        if let Some(path) = std::env::var_os("ASTROMESH_CACHE") {
            return Ok(path.into());
        }
        let home = std::env::var_os("HOME").ok_or(CacheError::FindCache)?;
        Ok(Path::new(&home).join(".cache/astromesh-os"))
    }

    /// The place of the entry `name` of one `kind` (there or not).
    pub fn entry(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join(kind).join(name)
    }

    /// The directory of one kind of entry.
    pub(crate) fn kind(&self, kind: &str) -> Result<PathBuf, CacheError> {
        let dir = self.root.join(kind);
        make_dir(&dir)?;
        Ok(dir)
    }

    /// A scratch directory on the cache's own file system, removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir, CacheError> {
        let dir = self.kind("scratch")?;
        tempfile::tempdir_in(&dir).map_err(at("making a scratch directory in", &dir))
    }

    /// The directory entry `name`, made by `fill` if it is not there yet. Another process that makes it right now is waited
    /// for: a kernel is not compiled twice at the same time.
    pub fn directory<E: From<CacheError>>(
        &self,
        kind: &str,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let place = self.entry(kind, name);
        if place.is_dir() {
            return Ok(place);
        }
        self.kind(kind)?;
        let lock = self.kind("locks")?.join(format!("{kind}-{name}"));
        let held = fs::File::create(&lock).map_err(at("making", &lock))?;
        // Given back when this function returns, or the process ends.
        held.lock().map_err(at("locking", &lock))?;
        if place.is_dir() {
            return Ok(place);
        }
        let scratch = self.scratch()?;
        let half = scratch.path().join("entry");
        make_dir(&half)?;
        fill(&half)?;
        match fs::rename(&half, &place) {
            // Another build made the same content first: the same by construction.
            Err(_) if place.is_dir() => {
                crate::tree::remove(&half).map_err(at("removing", &half))?;
                Ok(place)
            }
            other => other.map(|()| place.clone()).map_err(|source| at("keeping", &place)(source).into()),
        }
    }
}

/// Names the action and the path of an I/O error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::UseFile { action, path, source }
}

fn make_dir(path: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(path).map_err(at("making", path))
}

/// SHA-256 of `bytes`, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in lower-case hex.
pub fn sha256_file(path: &Path) -> Result<String, CacheError> {
    let mut file = fs::File::open(path).map_err(at("opening", path))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(at("reading", path))?;
    Ok(hex(&hash.finalize()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[test]
    fn what_two_ask_for_at_the_same_time_is_made_once() {
        let home = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = Cache::open(home.path()).unwrap();
                    let entry = cache.directory("kind", "name", |place| {
                        made.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(50));
                        fs::write(place.join("file"), "content").map_err(at("writing", place))
                    });
                    assert_eq!(fs::read(entry.unwrap().join("file")).unwrap(), b"content");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_failed_is_made_by_the_next() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(home.path()).unwrap();
        assert!(cache.directory("kind", "name", |_| Err(CacheError::FindCache)).is_err());
        assert!(cache.directory::<CacheError>("kind", "name", |_| Ok(())).is_ok());
    }
}
