//! The same root with another launcher, for tests that need somebody inside.
//!
//! A gate must know what a process in the agent's place can do: write to the root, fork without end, see other
//! processes. Nothing in a release can be told to do so, and nothing should be. So the gate boots a root that differs
//! from the released one in one file, and that one runs with exactly the rights of the runtime.

use crate::cache::{Cache, at};
use crate::components::components;
use crate::erofs::ErofsOptions;
use crate::image::{BuildError, RootImage};
use crate::lock::DebianLock;
use crate::run::checked;
use crate::tools::{ToolError, Tools};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The launcher's place in the tree.
const LAUNCHER: &str = "usr/lib/astromesh/launch.pyc";
/// The place of a file that nothing reads unless it is told to.
const COLD: &str = "usr/share/astromesh/cold";

/// Makes the root of `base` with the launcher `source` (a `.py` file), and with `cold` as a file that nothing reads by
/// itself, in `out`.
pub fn with_launcher(
    base: &RootImage,
    source: &Path,
    cold: &[u8],
    out: &Path,
) -> Result<RootImage, BuildError> {
    changed(base, out, |tools, stage| {
        let launcher = stage.join(LAUNCHER);
        fs::remove_file(&launcher).map_err(at("replacing", &launcher))?;
        let program = "import py_compile, sys\n\
                       py_compile.compile(sys.argv[1], cfile=sys.argv[2], dfile='/usr/lib/astromesh/launch.py', doraise=True,\n\
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)";
        checked(tools.python().args(["-c", program]).arg(source).arg(&launcher)).map_err(ToolError::from)?;
        let place = stage.join(COLD);
        Ok(fs::write(&place, cold).map_err(at("writing", &place))?)
    })
}

/// Makes the root of `base` with one more file of this content, in `out`.
pub fn with_file(base: &RootImage, content: &[u8], out: &Path) -> Result<RootImage, BuildError> {
    changed(base, out, |_, stage| {
        let place = stage.join(COLD);
        Ok(fs::write(&place, content).map_err(at("writing", &place))?)
    })
}

fn changed(
    base: &RootImage,
    out: &Path,
    change: impl FnOnce(&Tools, &Path) -> Result<(), BuildError>,
) -> Result<RootImage, BuildError> {
    let cache = Cache::open(&Cache::default_path()?)?;
    let tools = Tools::open(&cache, &DebianLock::load()?, &|_| ())?;
    let scratch = cache.scratch()?;
    let stage = scratch.path().join("root");
    // Hard links: the tree is read-only, and a file that differs is removed before it is written.
    checked(Command::new("cp").args(["-a", "-l"]).arg(&base.stage).arg(&stage)).map_err(ToolError::from)?;
    change(&tools, &stage)?;
    fs::create_dir_all(out).map_err(at("making", out))?;
    let erofs = out.join("root.erofs");
    ErofsOptions::default().make(&tools, &stage, &erofs)?;
    let components = components(&stage).map_err(at("measuring", &stage))?;
    Ok(RootImage { erofs, components, ..base.clone() })
}
