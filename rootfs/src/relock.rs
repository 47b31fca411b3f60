//! Rewriting the lock files: the newest that trixie offers, and what pip resolves for the pinned runtime.
//!
//! It stands above `lock.rs`: it asks the archive and pip, and what asks them for pinned packages reads lock files.

use crate::apt::{AptError, Archive, SUITE};
use crate::cache::{Cache, CacheError, sha256_file};
use crate::fetch;
use crate::lock::{DebianLock, LockError, PythonLock, Wheel, parse_wheel_name};
use crate::run::{RunError, checked};
use std::fs;
use std::path::{Path, PathBuf};

/// The runtime that the image exists to run. Everything else in `python.lock` follows from it.
const RUNTIME: &str = "astromesh==0.74.1";

/// The lock files were not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RelockError {
    /// A lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A folder or a lock file.
    #[error("reading or writing {path} failed ({source})")]
    ReachFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A package that the archive doesn't have.
    #[error("Debian trixie has no package {0}: correct its name in rootfs/debian.lock")]
    ResolvePackage(String),
    /// A wheel whose file name is not one.
    #[error("{0} is not the name of a wheel")]
    ReadWheelName(String),
    /// The archive could not be asked.
    #[error(transparent)]
    AskArchive(#[from] AptError),
    /// A tool failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Rewrites both lock files to what the archives offer now. The names in `debian.lock` are the input.
pub fn update(cache: &Cache, progress: &dyn Fn(&str)) -> Result<(), RelockError> {
    progress("asking Debian trixie for the newest versions");
    let mut debian = DebianLock::load()?;
    let archive = Archive::open(cache, SUITE)?;
    archive.refresh()?;
    for package in &mut debian.packages {
        let offer = archive.newest(&package.name)?;
        let offer = offer.ok_or_else(|| RelockError::ResolvePackage(package.name.clone()))?;
        package.version = offer.version;
        package.arch = offer.arch;
        package.sha256 = offer.sha256;
    }
    write(&DebianLock::path(), &DebianLock::parse(&debian.render())?.render())?;

    progress("asking pip for the wheels of the runtime");
    let scratch = cache.scratch()?;
    checked(fetch::pip_download(scratch.path()).arg(RUNTIME))?;
    let mut wheels = Vec::new();
    let listing = fs::read_dir(scratch.path()).map_err(reach(scratch.path()))?;
    for item in listing {
        let path = item.map_err(reach(scratch.path()))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (name, version) = parse_wheel_name(&file).ok_or(RelockError::ReadWheelName(file))?;
        wheels.push(Wheel { name, version, sha256: sha256_file(&path)? });
    }
    wheels.sort();
    write(&PythonLock::path(), &PythonLock { wheels }.render())
}

fn write(path: &Path, text: &str) -> Result<(), RelockError> {
    fs::write(path, text).map_err(reach(path))
}

fn reach(path: &Path) -> impl FnOnce(std::io::Error) -> RelockError {
    let path = path.to_owned();
    move |source| RelockError::ReachFile { path, source }
}
