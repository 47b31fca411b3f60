//! The build's own tools, from pinned packages: mkfs.erofs, mkfs.ext4, strip, and the image's own interpreter.
//!
//! They are unpacked into the cache and run through their own `ld.so`, so that neither the host's versions nor its C
//! library decide a single byte of the image, and the host is never upgraded. No chroot, no root rights.

use crate::cache::{Cache, CacheError, sha256_hex};
use crate::fetch::{self, FetchError};
use crate::lock::DebianLock;
use crate::run::{RunError, checked};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tool tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A pinned package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Unpacking failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A private tree of unpacked packages.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The tree of every package in the lock, fetched and unpacked if it isn't in the cache.
    pub fn open(cache: &Cache, lock: &DebianLock, progress: &dyn Fn(&str)) -> Result<Self, ToolError> {
        let key = sha256_hex(lock.render().as_bytes());
        let root = cache.directory("tools", &key[..32], |dir| {
            progress("unpacking the build tools");
            let debs = fetch::debs(cache, crate::apt::SUITE, lock.packages.iter(), progress)?;
            debs.iter().try_for_each(|deb| unpack(deb, dir)).map_err(ToolError::from)
        })?;
        Ok(Self { root })
    }

    /// A command that runs `program` (a path below the tree's root) through the tree's own dynamic linker.
    pub fn command(&self, program: &str) -> Command {
        through_linker(&self.root, &self.root.join(program))
    }

    /// A file of the tree.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The image's interpreter with hash randomization off: what it writes is the same each time. `-I` would ignore the
    /// variable that says so; the environment is empty instead.
    pub(crate) fn python_with_fixed_hashes(&self) -> Command {
        let mut command = self.command("usr/bin/python3.13");
        command.env_clear().env("PYTHONHASHSEED", "0").env("LC_ALL", "C").env("TZ", "UTC");
        // Byte code that somebody left in the tree would be read in place of sources, and what is interned then differs.
        command.args(["-P", "-s", "-S", "-B", "-X", "pycache_prefix=/nonexistent"]);
        command
    }

    /// The image's interpreter, isolated from the host's environment and writing no byte code of its own.
    pub(crate) fn python(&self) -> Command {
        let mut command = self.command("usr/bin/python3.13");
        command.args(["-I", "-S", "-B"]);
        command
    }
}

/// A command that runs `program` through the dynamic linker and libraries of the tree at `root`.
pub(crate) fn through_linker(root: &Path, program: &Path) -> Command {
    let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    // swtpm keeps a library of its own below; its RUNPATH names the host's folder.
    let folders = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/swtpm"];
    let folders: Vec<_> = folders.iter().map(|folder| root.join(folder).into_os_string()).collect();
    command.arg("--library-path").arg(folders.join(OsStr::new(":"))).arg(program);
    command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD").env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// Unpacks one .deb into `dir`; its maintainer scripts are never run.
pub(crate) fn unpack(deb: &Path, dir: &Path) -> Result<(), RunError> {
    checked(Command::new("dpkg").arg("-x").arg(deb).arg(dir)).map(drop)
}
