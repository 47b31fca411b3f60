//! Walking, sealing and removing a tree of files.
//!
//! Paths are handed out relative to the root of the tree and sorted, so that whatever is made from a walk is made in
//! the same order on each machine. Symbolic links are entries, never followed: an absolute link inside a package
//! would otherwise lead out of the staging tree and into the host.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// One file, directory or link of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The path from the tree's root, without a leading slash.
    pub(crate) path: PathBuf,
    /// What `lstat` says.
    pub(crate) metadata: Metadata,
}

/// Every entry below `root`, sorted by path; a directory comes before what is in it.
pub(crate) fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for item in fs::read_dir(root.join(&dir))? {
            let item = item?;
            let path = dir.join(item.file_name());
            let metadata = item.metadata()?;
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            entries.push(Entry { path, metadata });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Removes a tree even where its directories are read-only.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    if !root.is_dir() {
        return Ok(());
    }
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        for item in fs::read_dir(&dir)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                pending.push(item.path());
            }
        }
    }
    fs::remove_dir_all(root)
}

/// Makes the modes of every entry the ones of a read-only image: directories and executables 0555, files 0444.
///
/// Setuid, setgid and sticky bits go with the rest: the image has one user boundary, the cage, and no program that
/// may cross it.
pub(crate) fn seal_modes(root: &Path, executable: impl Fn(&Path) -> bool) -> io::Result<()> {
    let mut entries = walk(root)?;
    entries.reverse();
    for entry in entries.iter().filter(|entry| !entry.metadata.is_symlink()) {
        let mode = if entry.metadata.is_dir() || executable(&entry.path) { 0o555 } else { 0o444 };
        fs::set_permissions(root.join(&entry.path), Permissions::from_mode(mode))?;
    }
    fs::set_permissions(root, Permissions::from_mode(0o555))
}
