//! Rewriting the lock files: the newest that trixie offers, and what pip resolves for the pinned runtime.

use super::python::parse_wheel_name;
use super::{DebianLock, LockError, PythonLock, Wheel};
use crate::apt::Archive;
use crate::cache::{Cache, sha256_file};
use crate::fetch;
use crate::run::checked;
use std::fs;
use std::path::Path;

/// The runtime that the image exists to run. Everything else in `python.lock` follows from it.
const RUNTIME: &str = "astromesh==0.74.1";

/// Rewrites both lock files to what the archives offer now. The names in `debian.lock` are the input.
pub fn update(cache: &Cache, progress: &dyn Fn(&str)) -> Result<(), LockError> {
    progress("asking Debian trixie for the newest versions");
    let mut debian = DebianLock::load()?;
    let archive = Archive::open(cache, crate::apt::SUITE)?;
    archive.refresh()?;
    for package in &mut debian.packages {
        let offer = archive.newest(&package.name)?;
        let offer = offer.ok_or_else(|| LockError::ResolvePackage(package.name.clone()))?;
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
        let (name, version) = parse_wheel_name(&file).ok_or(LockError::ReadWheelName(file))?;
        wheels.push(Wheel { name, version, sha256: sha256_file(&path)? });
    }
    wheels.sort();
    write(&PythonLock::path(), &PythonLock { wheels }.render())
}

fn write(path: &Path, text: &str) -> Result<(), LockError> {
    fs::write(path, text).map_err(reach(path))
}

fn reach(path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::ReachFile { path, source }
}
