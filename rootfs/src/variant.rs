//! The same root with something changed, for tests that need somebody inside, or another release.
//!
//! A gate must know what a process in the agent's place can do: write to the root, fork without end, see other
//! processes. Nothing in a release can be told to do so, and nothing should be. So the gate boots a root that differs
//! from the released one in one file, and that one runs with exactly the rights of the runtime.
//!
//! A gate of updates boots often and asks nothing of Python, so its roots are the release's without the interpreter,
//! the wheels and what belongs to them, and with a small program in the interpreter's place. What is taken away is
//! listed, not what is kept: whatever else comes into the release is in these roots too.
//!
//! None of it ever gets into a release. Each is cached under a hash of what it is made from.

use crate::cache::{Cache, at, sha256_file, sha256_hex};
use crate::closure::{self, SITE};
use crate::components::{Components, components};
use crate::erofs::ErofsOptions;
use crate::image::{BuildError, RootImage};
use crate::lock::DebianLock;
use crate::manifest::Manifest;
use crate::run::checked;
use crate::tools::{ToolError, Tools};
use crate::tree;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The launcher's place in the tree.
const LAUNCHER: &str = "usr/lib/astromesh/launch.pyc";
/// The place of a file that nothing reads unless it is told to.
const COLD: &str = "usr/share/astromesh/cold";
/// What `init` executes, and what stands in for it.
const INTERPRETER: &str = "usr/bin/python3.13";
/// The inner copy of the manifest.
const MANIFEST: &str = "usr/share/astromesh/manifest.json";

/// What belongs to Python and to nothing else. (Its shared libraries stay: others may need them too.)
const PYTHON: [&str; 6] =
    [INTERPRETER, "usr/lib/python3.13", SITE, LAUNCHER, closure::HOT_FILES, closure::REMEMBERED];

/// What stands in for the runtime: `qemu/stand-in`.
#[derive(Debug, Clone, Copy)]
pub struct StandIn<'a> {
    /// The program, static.
    pub program: &'a Path,
    /// What it is to do: the content of `/usr/lib/astromesh/stand-in`.
    pub behaviour: &'a str,
    /// Bytes that it reads before it serves: the content of `/usr/lib/astromesh/seed`.
    pub seed: &'a [u8],
}

/// Makes the root of `base` with the launcher `source` (a `.py` file), and with `cold` as a file that nothing reads by
/// itself, in `out`.
pub fn with_launcher(
    base: &RootImage,
    source: &Path,
    cold: &[u8],
    out: &Path,
) -> Result<RootImage, BuildError> {
    let key = format!("launcher {} cold {}", sha256_file(source)?, sha256_hex(cold));
    changed(base, &key, out, |tools, stage| {
        set_launcher(tools, stage, source)?;
        let place = stage.join(COLD);
        Ok(fs::write(&place, cold).map_err(at("writing", &place))?)
    })
}

/// Makes the root of `base` as the release `version` with the launcher `source` (a `.py` file), in `out`.
pub fn with_version_and_launcher(
    base: &RootImage,
    version: &str,
    source: &Path,
    out: &Path,
) -> Result<RootImage, BuildError> {
    let key = format!("version {version} launcher {}", sha256_file(source)?);
    changed(base, &key, out, |tools, stage| {
        set_launcher(tools, stage, source)?;
        set_version(stage, version)
    })
}

/// Compiles a launcher into a root.
fn set_launcher(tools: &Tools, stage: &Path, source: &Path) -> Result<(), BuildError> {
    let launcher = stage.join(LAUNCHER);
    fs::remove_file(&launcher).map_err(at("replacing", &launcher))?;
    let program = "import py_compile, sys\n\
                   py_compile.compile(sys.argv[1], cfile=sys.argv[2], dfile='/usr/lib/astromesh/launch.py', doraise=True,\n\
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)";
    checked(tools.python().args(["-c", program]).arg(source).arg(&launcher)).map_err(ToolError::from)?;
    Ok(())
}

/// Makes the root of `base` with one more file of this content, in `out`.
pub fn with_file(base: &RootImage, content: &[u8], out: &Path) -> Result<RootImage, BuildError> {
    changed(base, &format!("file {}", sha256_hex(content)), out, |_, stage| {
        let place = stage.join(COLD);
        Ok(fs::write(&place, content).map_err(at("writing", &place))?)
    })
}

/// Makes the root of `base` as the release `version` without Python and with `stand_in` in its place, in `out`.
pub fn with_stand_in(
    base: &RootImage,
    stand_in: &StandIn<'_>,
    version: &str,
    out: &Path,
) -> Result<RootImage, BuildError> {
    let (program, seed) = (sha256_file(stand_in.program)?, sha256_hex(stand_in.seed));
    let key = format!("stand-in {program} {:?} seed {seed} version {version}", stand_in.behaviour);
    changed(base, &key, out, |_, stage| {
        for path in PYTHON {
            remove(&stage.join(path))?;
        }
        let program = stage.join(INTERPRETER);
        fs::copy(stand_in.program, &program).map_err(at("writing", &program))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).map_err(at("sealing", &program))?;
        for (name, content) in
            [("stand-in", format!("{}\n", stand_in.behaviour).as_bytes()), ("seed", stand_in.seed)]
        {
            let place = stage.join("usr/lib/astromesh").join(name);
            fs::write(&place, content).map_err(at("writing", &place))?;
        }
        set_version(stage, version)
    })
}

/// Makes the root of `base` as the release `version`: beside the version, one file of one wheel differs, as it would
/// after the smallest of corrections.
pub fn with_version(base: &RootImage, version: &str, out: &Path) -> Result<RootImage, BuildError> {
    changed(base, &format!("version {version}"), out, |_, stage| {
        let file = stage.join(SITE).join("astromesh/__init__.pyc");
        let mut content = fs::read(&file).map_err(at("reading", &file))?;
        // The interpreter reads one object and passes over what is behind it (marshal.loads).
        content.extend_from_slice(version.as_bytes());
        replace(&file, &content)?;
        set_version(stage, version)
    })
}

/// Writes the version where a root tells it.
fn set_version(stage: &Path, version: &str) -> Result<(), BuildError> {
    replace(&stage.join("etc/os-release"), closure::os_release(version).as_bytes())?;
    let path = stage.join(MANIFEST);
    let text = fs::read(&path).map_err(at("reading", &path))?;
    let parsed = serde_json::from_slice::<Manifest>(&text).map_err(io::Error::other);
    let mut manifest = parsed.map_err(at("reading", &path))?;
    version.clone_into(&mut manifest.version);
    let text = manifest.render().map_err(at("writing", &path))?;
    replace(&path, text.as_bytes())
}

/// Writes a file anew: the one that is there is a hard link into the release's tree.
fn replace(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    fs::remove_file(path).map_err(at("replacing", path))?;
    fs::write(path, content).map_err(at("writing", path))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o444)).map_err(at("sealing", path))?)
}

fn remove(path: &Path) -> Result<(), BuildError> {
    let removed = if path.is_dir() { tree::remove(path) } else { fs::remove_file(path) };
    Ok(removed.map_err(at("removing", path))?)
}

/// The root of `base` after `change`, which `key` tells from every other change.
fn changed(
    base: &RootImage,
    key: &str,
    out: &Path,
    change: impl FnOnce(&Tools, &Path) -> Result<(), BuildError>,
) -> Result<RootImage, BuildError> {
    let cache = Cache::open(&Cache::default_path()?)?;
    // The stage's path holds the hash of what it was made from, this file among it.
    let key = sha256_hex(format!("{} {key} {:?}", base.stage.display(), ErofsOptions::default()).as_bytes());
    let entry = cache.directory("variants", &key[..32], |dir| {
        let tools = Tools::open(&cache, &DebianLock::load()?, &|_| ())?;
        let scratch = cache.scratch()?;
        let stage = scratch.path().join("root");
        // Hard links: the tree is read-only, and a file that differs is removed before it is written.
        checked(Command::new("cp").args(["-a", "-l"]).arg(&base.stage).arg(&stage))
            .map_err(ToolError::from)?;
        change(&tools, &stage)?;
        ErofsOptions::default().make(&tools, &stage, &dir.join("root.erofs"))?;
        let sizes = components(&stage).map_err(at("measuring", &stage))?;
        let place = dir.join("components.json");
        let text = serde_json::to_vec(&sizes).map_err(io::Error::other);
        Ok::<_, BuildError>(text.and_then(|text| fs::write(&place, text)).map_err(at("writing", &place))?)
    })?;
    fs::create_dir_all(out).map_err(at("making", out))?;
    let erofs = out.join("root.erofs");
    fs::copy(entry.join("root.erofs"), &erofs).map_err(at("writing", &erofs))?;
    let place = entry.join("components.json");
    let read = fs::read(&place)
        .and_then(|text| serde_json::from_slice::<Components>(&text).map_err(io::Error::other));
    let components = read.map_err(at("reading", &place))?;
    Ok(RootImage { erofs, components, ..base.clone() })
}
