//! The promises about the finished tree, as functions that return what breaks them.
//!
//! Each returns the offending paths instead of asserting, so that a test can show that an intact tree gives none and
//! that a tampered copy gives exactly the tampered one.

use crate::elf;
use crate::tree;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// One line of `executables.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The mode that the file must have.
    pub mode: u32,
    /// The absolute path in the image.
    pub path: PathBuf,
}

/// What may be executed in the image, from `executables.allow`.
pub fn allowed_executables() -> Vec<Allowed> {
    let lines = include_str!("../executables.allow").lines();
    let entries = lines.filter_map(|line| {
        let (mode, path) = line.split_once(' ')?;
        // A comment's first word is no number.
        Some(Allowed { mode: u32::from_str_radix(mode, 8).ok()?, path: path.into() })
    });
    entries.collect()
}

/// Files that could be executed and are not on the allow-list: by mode, by naming an ELF interpreter, or by `#!`.
pub fn unexpected_executables(stage: &Path) -> io::Result<Vec<PathBuf>> {
    let allowed = allowed_executables();
    let mut found = Vec::new();
    for (path, file) in regular_files(stage)? {
        let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
        let path = Path::new("/").join(path);
        let expected = allowed.iter().any(|entry| entry.path == path && entry.mode == mode);
        if !expected && (mode & 0o111 != 0 || is_program(&file)?) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether the content alone makes the file a program.
fn is_program(file: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(file)?.take(4).read_to_end(&mut start)?;
    if start.starts_with(b"#!") {
        return Ok(true);
    }
    if start != b"\x7fELF" {
        return Ok(false);
    }
    // An ELF file that can't be parsed counts: what it is can't be told.
    Ok(elf::linkage(&fs::read(file)?).is_none_or(|linkage| linkage.interpreter))
}

/// Files and directories with setuid, setgid, sticky or any write bit.
pub fn loose_modes(stage: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = tree::walk(stage)?.into_iter();
    let loose = entries
        .filter(|entry| !entry.metadata.is_symlink() && entry.metadata.permissions().mode() & 0o7222 != 0);
    Ok(loose.map(|entry| Path::new("/").join(entry.path)).collect())
}

/// The directory that the image's ld.so searches when a file names none: there is no ld.so.cache.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Where the dynamic linker finds `library` for a file of this linkage, relative to the stage.
fn find_library(stage: &Path, linkage: &elf::Linkage, library: &str) -> Option<PathBuf> {
    let named = linkage.runpath.iter().filter_map(|dir| dir.strip_prefix("/").ok());
    let mut places = named.chain([Path::new(LIBRARIES)]).map(|dir| dir.join(library));
    places.find(|place| fs::symlink_metadata(stage.join(place)).is_ok())
}

/// `(file, library)` for each `DT_NEEDED` that the image doesn't hold.
pub fn unresolved_libraries(stage: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut missing = Vec::new();
    for path in elf::files(stage)? {
        let file = Path::new("/").join(&path);
        let Some(linkage) = elf::linkage(&fs::read(stage.join(&path))?) else {
            missing.push((file, "(not a sound ELF file)".to_owned()));
            continue;
        };
        let lacking = linkage.needed.iter().filter(|name| find_library(stage, &linkage, name).is_none());
        missing.extend(lacking.map(|library| (file.clone(), library.clone())));
    }
    Ok(missing)
}

/// The regular files that are in the image for these `programs` alone: they, and each library that `DT_NEEDED` leads
/// to from them and from nothing else.
pub fn only_for(stage: &Path, programs: &[&str]) -> io::Result<BTreeSet<PathBuf>> {
    let ours = needed_by(stage, programs.iter().map(PathBuf::from).collect())?;
    let others = elf::files(stage)?.into_iter().filter(|path| !ours.contains(path)).collect();
    let shared = needed_by(stage, others)?;
    Ok(ours.difference(&shared).cloned().collect())
}

/// The files `from`, and every library that they lead to, by their real paths.
fn needed_by(stage: &Path, mut pending: Vec<PathBuf>) -> io::Result<BTreeSet<PathBuf>> {
    let root = fs::canonicalize(stage)?;
    let mut found = BTreeSet::new();
    while let Some(path) = pending.pop() {
        let file = fs::canonicalize(root.join(path))?;
        let linkage = elf::linkage(&fs::read(&file)?);
        let inside = file.strip_prefix(&root).map_err(io::Error::other)?;
        if let Some(linkage) = linkage.filter(|_| found.insert(inside.to_owned())) {
            pending.extend(linkage.needed.iter().filter_map(|name| find_library(&root, &linkage, name)));
        }
    }
    Ok(found)
}

/// Python files that are not byte code with an unchecked hash: sources, caches, time-stamped or checked byte code.
pub fn stale_python(stage: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (path, file) in regular_files(stage)? {
        let bad = match path.extension().and_then(|extension| extension.to_str()) {
            Some("py" | "pyo" | "pyi") => true,
            Some("pyc") => {
                let mut header = Vec::new();
                fs::File::open(&file)?.take(8).read_to_end(&mut header)?;
                // PEP 552: bytes 4..8 are the flags; 1 is "hash-based, not checked".
                header.get(4..8) != Some(&[1, 0, 0, 0]) || path.iter().any(|part| part == "__pycache__")
            }
            _ => false,
        };
        if bad {
            found.push(Path::new("/").join(path));
        }
    }
    Ok(found)
}

fn regular_files(stage: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let entries = tree::walk(stage)?.into_iter().filter(|entry| entry.metadata.is_file());
    Ok(entries.map(|entry| (entry.path.clone(), stage.join(entry.path))).collect())
}
