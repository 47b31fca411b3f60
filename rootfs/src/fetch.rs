//! Downloading what the lock files pin, and nothing else.
//!
//! A file is in the cache under its SHA-256, and is put there only after that sum was computed from the bytes on
//! disk. What apt or pip checked before is not relied on. When everything is in the cache, no network is touched.

use crate::apt::{AptError, Archive};
use crate::cache::{Cache, CacheError, at, sha256_file};
use crate::lock::{DebianLock, DebianPackage, Purpose, Wheel};
use crate::run::{RunError, checked};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A pinned file could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What arrived is not what is pinned.
    #[error(
        "no download has the pinned sum of {name} {version} ({sha256}): the archive changed it, or the lock is wrong; run `cargo xtask lock` and read the difference"
    )]
    MatchSum {
        /// Package or project.
        name: String,
        /// The pinned version.
        version: String,
        /// The pinned sum.
        sha256: String,
    },
    /// The suite has no such package.
    #[error("Debian {suite} has no package {name}: was it renamed?")]
    FindPackage {
        /// The suite.
        suite: String,
        /// The package.
        name: String,
    },
    /// apt failed.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// pip failed.
    #[error("{0}\nif the pinned wheel is gone from the index: run `cargo xtask lock`")]
    Pip(#[from] RunError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The cached .deb file of one package of any suite, brought here first if need be.
pub fn fetch_debian(
    cache: &Cache,
    suite: &str,
    package: &DebianPackage,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, FetchError> {
    debs(cache, suite, std::iter::once(package), progress)
        .map(|paths| paths.into_iter().next().unwrap_or_default())
}

/// The newest version of a package that a suite offers.
pub fn newest_debian(cache: &Cache, suite: &str, name: &str) -> Result<DebianPackage, FetchError> {
    let archive = Archive::open(cache, suite)?;
    archive.refresh()?;
    newest(&archive, suite, name)
}

/// Pins the newest version of every package of a lock file of tools.
pub fn renew_tools(cache: &Cache, suite: &str, lock: &mut DebianLock) -> Result<(), FetchError> {
    let archive = Archive::open(cache, suite)?;
    archive.refresh()?;
    for package in &mut lock.packages {
        *package = newest(&archive, suite, &package.name)?;
    }
    Ok(())
}

fn newest(archive: &Archive, suite: &str, name: &str) -> Result<DebianPackage, FetchError> {
    let offer = archive
        .newest(name)?
        .ok_or_else(|| FetchError::FindPackage { suite: suite.to_owned(), name: name.to_owned() })?;
    Ok(DebianPackage {
        name: name.to_owned(),
        version: offer.version,
        arch: offer.arch,
        sha256: offer.sha256,
        purpose: Purpose::Tool,
    })
}

/// The cached .deb files of `packages`, in their order.
pub(crate) fn debs<'a>(
    cache: &Cache,
    suite: &str,
    packages: impl Iterator<Item = &'a DebianPackage>,
    progress: &dyn Fn(&str),
) -> Result<Vec<PathBuf>, FetchError> {
    let mut archive = None;
    let mut paths = Vec::new();
    for package in packages {
        let place = cache.entry("debs", &format!("{}.deb", package.sha256));
        if !place.is_file() {
            progress(&format!("downloading {} {}", package.name, package.version));
            if archive.is_none() {
                let opened = Archive::open(cache, suite)?;
                opened.refresh()?;
                archive = Some(opened);
            }
            let scratch = cache.scratch()?;
            if let Some(archive) = &archive {
                archive.download(package, scratch.path())?;
            }
            cache.kind("debs")?;
            if !keep_match(scratch.path(), &package.sha256, |_| place.clone())? {
                return Err(mismatch(&package.name, &package.version, &package.sha256));
            }
        }
        paths.push(place);
    }
    Ok(paths)
}

/// The cached wheels, in their order. Each lies in a directory named by its sum, under its own file name.
pub fn wheels(cache: &Cache, wheels: &[Wheel], progress: &dyn Fn(&str)) -> Result<Vec<PathBuf>, FetchError> {
    let missing: Vec<_> = wheels.iter().filter(|wheel| cached_wheel(cache, wheel).is_none()).collect();
    if !missing.is_empty() {
        progress(&format!("downloading {} wheels", missing.len()));
        let scratch = cache.scratch()?;
        let list = scratch.path().join("requirements.txt");
        let text: Vec<_> = missing.iter().map(|wheel| wheel.requirement()).collect();
        fs::write(&list, text.join("\n")).map_err(at("writing", &list))?;
        let files = scratch.path().join("wheels");
        fs::create_dir(&files).map_err(at("making", &files))?;
        checked(pip_download(&files).args(["--no-deps", "--require-hashes", "-r"]).arg(&list))?;
        for wheel in missing {
            let dir = cache.kind(&format!("wheels/{}", wheel.sha256))?;
            if !keep_match(&files, &wheel.sha256, |name| dir.join(name))? {
                return Err(mismatch(&wheel.name, &wheel.version, &wheel.sha256));
            }
        }
    }
    wheels
        .iter()
        .map(|wheel| {
            cached_wheel(cache, wheel).ok_or_else(|| mismatch(&wheel.name, &wheel.version, &wheel.sha256))
        })
        .collect()
}

/// `pip download` for the image's interpreter and platform, whatever the host's are.
pub(crate) fn pip_download(dir: &Path) -> Command {
    let mut command = pip("download");
    command.arg("--dest").arg(dir);
    command
}

/// Installs wheels into the folder `site` as pip does, for the image's interpreter, with nothing compiled and nothing
/// downloaded. The image itself is not made with it: what pip adds differs from version to version.
pub fn pip_install(wheels: &[PathBuf], site: &Path) -> Result<(), FetchError> {
    let mut command = pip("install");
    // pip compares Requires-Python with the interpreter that it runs on itself, whatever it installs for.
    command.args(["--no-index", "--no-deps", "--no-compile", "--ignore-requires-python", "--target"]);
    checked(command.arg(site).args(wheels))?;
    Ok(())
}

fn pip(verb: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    command.args(["--python-version", "3.13", "--implementation", "cp", "--abi", "cp313"]);
    for platform in ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"] {
        command.args(["--platform", platform]);
    }
    command
}

fn cached_wheel(cache: &Cache, wheel: &Wheel) -> Option<PathBuf> {
    let mut files = fs::read_dir(cache.entry("wheels", &wheel.sha256)).ok()?;
    Some(files.next()?.ok()?.path())
}

/// Moves the file of `dir` that has this sum to its place; false where none has.
fn keep_match(
    dir: &Path,
    sha256: &str,
    place: impl Fn(&std::ffi::OsStr) -> PathBuf,
) -> Result<bool, CacheError> {
    for item in fs::read_dir(dir).map_err(at("listing", dir))? {
        let item = item.map_err(at("listing", dir))?;
        if item.path().is_file() && sha256_file(&item.path())? == sha256 {
            let place = place(&item.file_name());
            fs::rename(item.path(), &place).map_err(at("keeping", &place))?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn mismatch(name: &str, version: &str, sha256: &str) -> FetchError {
    FetchError::MatchSum { name: name.into(), version: version.into(), sha256: sha256.into() }
}
