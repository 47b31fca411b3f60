//! The tree that becomes the root image: unpack, trim, strip, compile, add the skeleton, record a start, seal.
//!
//! The order matters. Trimming comes before compiling so that nothing is compiled in vain; the skeleton comes after
//! trimming so that no rule can eat it; the modes come last because from then on the tree is read-only. Astromesh
//! itself is never edited: what we tune is done by the launcher.

mod compile;
mod error;
mod remember;
mod skeleton;
mod trim;

pub use error::ClosureError;
pub use skeleton::os_release;
pub(crate) use skeleton::users;
pub use trim::{Cut, TrimRules};

use crate::cache::Cache;
use crate::fetch;
use crate::lock::{DebianLock, Purpose, PythonLock};
use crate::origins::{Origin, Recorder};
use crate::run::checked;
use crate::source::source_dir;
use crate::tools::{Tools, unpack};
use crate::tree;
use error::write;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the wheels are in the image.
pub const SITE: &str = "usr/lib/astromesh/site";
/// The files of the image in the order in which a boot first reads them.
pub const HOT_FILES: &str = "usr/lib/astromesh/hot-files";

/// What a start finds and compiles, recorded: see `remember.rs`.
pub const REMEMBERED: &str = "usr/lib/astromesh/remembered";

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
    progress("recording what a start compiles");
    remember::record(stage, REMEMBERED)?;
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
