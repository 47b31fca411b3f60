//! The tree that becomes the root image: unpack, trim, strip, compile, add the skeleton, seal.
//!
//! The order matters. Trimming comes before compiling so that nothing is compiled in vain; the skeleton comes after
//! trimming so that no rule can eat it; the modes come last because from then on the tree is read-only. Astromesh
//! itself is never edited: what we tune is done by the launcher.

mod compile;
mod skeleton;
mod trim;

pub use skeleton::os_release;
pub use trim::{Cut, TrimRules};

use crate::cache::{Cache, CacheError};
use crate::fetch::{self, FetchError};
use crate::lock::{DebianLock, LockError, Purpose, PythonLock, source_dir};
use crate::origins::{Origin, Recorder};
use crate::run::{RunError, checked};
use crate::tools::{Tools, unpack};
use crate::tree;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the wheels are in the image.
pub const SITE: &str = "usr/lib/astromesh/site";
/// The files of the image in the order in which a boot first reads them.
pub const HOT_FILES: &str = "usr/lib/astromesh/hot-files";

/// The tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A file of the tree.
    #[error("{action} {path} failed ({source})")]
    WriteTree {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `trim.toml` is not what it should be.
    #[error("rootfs/trim.toml is not valid: {0}")]
    ParseTrim(String),
    /// A rule that cuts nothing hides that its reason is gone.
    #[error("rootfs/trim.toml: `{0}` matches nothing any more: remove the rule, or correct its pattern")]
    MatchTrim(String),
    /// A wheel that wants files outside of site-packages.
    #[error("{0} installs files outside of site-packages (a .data directory): decide where they belong")]
    PlaceWheel(PathBuf),
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
    /// A lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A tool.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The packages of an image, fetched.
pub(crate) struct Sources<'a> {
    pub(crate) debian: &'a DebianLock,
    pub(crate) python: &'a PythonLock,
    pub(crate) debs: Vec<PathBuf>,
    pub(crate) wheels: Vec<PathBuf>,
}

impl<'a> Sources<'a> {
    pub(crate) fn fetch(
        cache: &Cache,
        debian: &'a DebianLock,
        python: &'a PythonLock,
        progress: &dyn Fn(&str),
    ) -> Result<Self, ClosureError> {
        let debs = fetch::debs(cache, crate::apt::SUITE, debian.of(Purpose::Root), progress)?;
        let wheels = fetch::wheels(cache, &python.wheels, progress)?;
        Ok(Self { debian, python, debs, wheels })
    }
}

/// Unpacks every package and wheel into `stage`, whole.
pub(crate) fn unpack_all(
    sources: &Sources<'_>,
    tools: &Tools,
    stage: &Path,
    recorder: &mut Recorder<'_>,
) -> Result<(), ClosureError> {
    for (package, deb) in sources.debian.of(Purpose::Root).zip(&sources.debs) {
        unpack(deb, stage)?;
        recorder.unpacked(&Origin::Debian(package.name.clone()))?;
    }
    let site = stage.join(SITE);
    fs::create_dir_all(&site).map_err(write("making", &site))?;
    for (wheel, file) in sources.python.wheels.iter().zip(&sources.wheels) {
        checked(tools.python().args(["-m", "zipfile", "-e"]).arg(file).arg(&site))?;
        recorder.unpacked(&Origin::Wheel(wheel.name.clone()))?;
    }
    // A wheel is a zip whose root is site-packages, except for NAME.data (PEP 427).
    for item in fs::read_dir(&site).map_err(write("listing", &site))? {
        let path = item.map_err(write("listing", &site))?.path();
        if path.extension().is_some_and(|extension| extension == "data") {
            return Err(ClosureError::PlaceWheel(path));
        }
    }
    Ok(())
}

/// Turns the whole packages in `stage` into what the node runs.
pub(crate) fn refine(
    stage: &Path,
    tools: &Tools,
    version: &str,
    recorder: &mut Recorder<'_>,
    progress: &dyn Fn(&str),
) -> Result<Vec<Cut>, ClosureError> {
    progress("trimming");
    let cuts = TrimRules::load()?.apply(stage)?;
    progress("stripping");
    strip(stage, tools)?;
    install_launcher(stage)?;
    recorder.generated()?;
    progress("compiling");
    compile::compile(stage, tools)?;
    recorder.compiled()?;
    recorder.complete()?;
    skeleton::write_to(stage, version)?;
    recorder.generated()?;
    Ok(cuts)
}

/// Makes the tree read-only; only the interpreter and the dynamic linker stay executable.
pub(crate) fn seal(stage: &Path) -> Result<(), ClosureError> {
    let allowed = crate::audit::allowed_executables();
    let executable = |path: &Path| {
        let path = Path::new("/").join(path);
        allowed.iter().any(|entry| entry.path == path && entry.mode & 0o111 != 0)
    };
    tree::seal_modes(stage, executable).map_err(write("setting the modes of", stage))
}

/// Removes symbols and debug information that nothing at run time reads.
fn strip(stage: &Path, tools: &Tools) -> Result<(), ClosureError> {
    for path in crate::elf::files(stage).map_err(write("searching", stage))? {
        let file = stage.join(&path);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(write("opening for writing", &file))?;
        checked(tools.command("usr/bin/x86_64-linux-gnu-strip").arg("--strip-unneeded").arg(&file))?;
    }
    Ok(())
}

fn install_launcher(stage: &Path) -> Result<(), ClosureError> {
    let home = stage.join("usr/lib/astromesh");
    for (from, to) in [("launcher/launch.py", "launch.py"), ("hot-files.txt", "hot-files")] {
        let (from, to) = (source_dir().join(from), home.join(to));
        fs::copy(&from, &to).map_err(write("installing", &to))?;
    }
    Ok(())
}

/// Names the action and the path of an I/O error.
fn write(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ClosureError {
    let path = path.to_owned();
    move |source| ClosureError::WriteTree { action, path, source }
}

/// A symbolic link of the tree.
fn link(target: &str, path: &Path) -> Result<(), ClosureError> {
    symlink(target, path).map_err(write("linking", path))
}
