//! What is in a tree of files: how much, how many programs, how many that change who one is, and whether Python's
//! byte code in it is used.
//!
//! Byte code is checked because tools that build packages and images set back the times of files. A `.pyc` carries the
//! time of its source; where that no longer agrees Python compiles the module again at each start, silently, and the
//! peer would look slower than it is.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a tree weighs. Hard links are one file; device nodes, directories and symbolic links weigh nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Weight {
    /// Bytes of all regular files.
    pub(super) bytes: u64,
    /// How many regular files.
    pub(super) files: u64,
    /// Regular files that somebody may execute.
    pub(super) executables: u64,
    /// Regular files with the set-user-ID or set-group-ID bit.
    pub(super) setuid: u64,
}

/// Weighs the tree at `root`.
pub(super) fn weigh(root: &Path) -> Result<Weight> {
    let mut weight = Weight::default();
    let mut linked = BTreeSet::new();
    walk(root, &mut |_, metadata| {
        if metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        weight.bytes += metadata.len();
        weight.files += 1;
        weight.executables += u64::from(metadata.mode() & 0o111 != 0);
        weight.setuid += u64::from(metadata.mode() & 0o6000 != 0);
    })?;
    Ok(weight)
}

/// Python's sources and what is compiled of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bytecode {
    /// How many `.pyc` carry time and length of their source.
    pub(super) valid: u64,
    /// Sources whose `.pyc` Python would not use.
    pub(super) stale: Vec<PathBuf>,
    /// Sources without one.
    pub(super) missing: Vec<PathBuf>,
}

/// Compares every Python source below `folder` with its `.pyc`.
pub(super) fn bytecode(folder: &Path) -> Result<Bytecode> {
    let mut sources = Vec::new();
    walk(folder, &mut |path, metadata| {
        if path.extension().is_some_and(|extension| extension == "py") {
            sources.push((path.to_owned(), metadata.mtime(), metadata.len()));
        }
    })?;
    let mut found = Bytecode::default();
    for (source, mtime, length) in sources {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let compiled = source.with_file_name("__pycache__").join(format!("{stem}.cpython-313.pyc"));
        match fs::read(&compiled) {
            Ok(bytes) if is_used(&bytes, mtime, length) => found.valid += 1,
            Ok(_) => found.stale.push(source),
            Err(_) => found.missing.push(source),
        }
    }
    Ok(found)
}

/// Whether CPython 3.13 takes a `.pyc` for the compiled form of a source with this time and length: magic number, no
/// flags, then both as 32 little-endian bits (PEP 552).
fn is_used(pyc: &[u8], mtime: i64, length: u64) -> bool {
    const MAGIC: [u8; 4] = [0xf3, 0x0d, 0x0d, 0x0a];
    let word =
        |at: usize| pyc.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).ok();
    pyc.starts_with(&MAGIC)
        && word(4) == Some(0)
        && word(8) == low(mtime.cast_unsigned())
        && word(12) == low(length)
}

/// What `python -v` told about where modules came from: how many from byte code, and which from source.
pub(super) fn imported(words: &str) -> (usize, Vec<&str>) {
    let matching =
        words.lines().filter(|line| line.starts_with("# ") && line.contains(".pyc matches ")).count();
    let compiled = words
        .lines()
        .filter_map(|line| line.strip_prefix("# code object from "))
        .map(|path| path.trim_matches('\''))
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "py"));
    (matching, compiled.collect())
}

/// Calls `each` for every regular file.
fn walk(folder: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let failed = || format!("{} can't be listed", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let metadata = fs::symlink_metadata(&path).with_context(failed)?;
        if metadata.is_dir() {
            walk(&path, each)?;
        } else if metadata.is_file() {
            each(&path, &metadata);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn pyc(mtime: u32, length: u32) -> Vec<u8> {
        [&[0xf3, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0], &mtime.to_le_bytes()[..], &length.to_le_bytes()[..], b"code"]
            .concat()
    }

    #[test]
    fn a_pyc_is_used_when_time_and_length_are_its_sources() {
        assert!(is_used(&pyc(1000, 20), 1000, 20));
        // A source whose time was set back, one that grew, another interpreter, one that is checked by hash, half a file.
        assert!(!is_used(&pyc(1000, 20), 999, 20));
        assert!(!is_used(&pyc(1000, 20), 1000, 21));
        let other = |at: usize| {
            let mut bytes = pyc(1000, 20);
            bytes[at] ^= 1;
            bytes
        };
        assert!(!is_used(&other(0), 1000, 20) && !is_used(&other(4), 1000, 20));
        assert!(!is_used(&pyc(1000, 20)[..10], 1000, 20));
    }

    #[test]
    fn stale_and_missing_byte_code_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("__pycache__");
        fs::create_dir(&cache).unwrap();
        for name in ["good", "stale", "missing"] {
            fs::write(dir.path().join(format!("{name}.py")), "x = 1\n").unwrap();
        }
        let mtime = u32::try_from(fs::metadata(dir.path().join("good.py")).unwrap().mtime()).unwrap();
        fs::write(cache.join("good.cpython-313.pyc"), pyc(mtime, 6)).unwrap();
        fs::write(cache.join("stale.cpython-313.pyc"), pyc(1, 6)).unwrap();
        let found = bytecode(dir.path()).unwrap();
        assert_eq!(found.valid, 1);
        assert!(found.stale[0].ends_with("stale.py") && found.missing[0].ends_with("missing.py"));
    }

    #[test]
    fn pythons_own_words_tell_byte_code_from_source() {
        let words = "# /t/__pycache__/os.cpython-313.pyc matches /t/os.py\n\
                     # code object from '/t/__pycache__/os.cpython-313.pyc'\n\
                     # code object from /t/slow.py\n\
                     import 'slow' # <_frozen_importlib_external.SourceFileLoader object>\n";
        assert_eq!(imported(words), (1, vec!["/t/slow.py"]));
    }

    #[test]
    fn links_weigh_once_and_every_x_bit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        for (name, mode) in [("plain", 0o644), ("sub/group", 0o610), ("setuid", 0o4755), ("setgid", 0o2755)] {
            fs::write(path(name), "12345").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::hard_link(path("setuid"), path("sub/again")).unwrap();
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        assert_eq!(weigh(dir.path()).unwrap(), Weight { bytes: 20, files: 4, executables: 3, setuid: 2 });
    }
}
