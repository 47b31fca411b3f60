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

/// `(file, library)` for each `DT_NEEDED` that the image doesn't hold.
pub fn unresolved_libraries(stage: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    // The directories that the image's ld.so searches; there is no ld.so.cache and no RUNPATH that we rely on.
    let present: BTreeSet<_> = fs::read_dir(stage.join("usr/lib/x86_64-linux-gnu"))?
        .map(|item| item.map(|item| item.file_name()))
        .collect::<io::Result<_>>()?;
    let mut missing = Vec::new();
    for path in elf::files(stage)? {
        let linkage = elf::linkage(&fs::read(stage.join(&path))?);
        let needed =
            linkage.map_or_else(|| vec!["(not a sound ELF file)".to_owned()], |linkage| linkage.needed);
        for library in
            needed.into_iter().filter(|library| !present.contains(library.as_ref() as &std::ffi::OsStr))
        {
            missing.push((Path::new("/").join(&path), library));
        }
    }
    Ok(missing)
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
