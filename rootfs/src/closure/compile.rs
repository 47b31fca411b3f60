//! Python without sources: each module is one `.pyc` beside where its `.py` was.
//!
//! The interpreter of the image compiles its own image, so that the byte code's magic number can't differ. Three
//! choices make it reproducible and quick to start:
//! * `unchecked-hash`: the header holds a hash of the source and no time stamp, and nothing looks for the source;
//! * level 2: no docstrings and no asserts, a sixth less to read, unmarshal and keep in memory;
//! * the path inside each code object is the one in the image, not the one of the machine that built it.
//!
//! One process, with hashes that don't vary, since the marshalled form depends on what else the process has interned and in
//! which order.

use super::error::{ClosureError, write};
use crate::run::checked;
use crate::tools::Tools;
use crate::tree;
use std::fs;
use std::path::Path;

/// What `compileall` runs over, below the stage's root.
const ROOTS: [&str; 2] = ["usr/lib/python3.13", "usr/lib/astromesh"];

/// Compiles every module below [`ROOTS`] and removes the sources.
pub(super) fn compile(stage: &Path, tools: &Tools) -> Result<(), ClosureError> {
    let mut command = tools.python_with_fixed_hashes();
    command.args(["-m", "compileall", "-q", "-f", "-b", "-o", "2", "--invalidation-mode", "unchecked-hash"]);
    command.arg("-s").arg(stage).args(["-p", "/"]);
    command.args(ROOTS.map(|root| stage.join(root)));
    checked(&mut command)?;
    for entry in tree::walk(stage).map_err(write("searching", stage))? {
        if entry.path.extension().is_some_and(|extension| extension == "py") {
            let source = stage.join(&entry.path);
            fs::remove_file(&source).map_err(write("removing", &source))?;
        }
    }
    Ok(())
}
