//! What a start of the runtime finds and compiles, recorded from one, so that no start on a node does it again.
//!
//! The launcher runs from the finished tree, through the tree's own `ld.so`, up to the moment at which it would listen;
//! it opens no socket, and has no network that it could use. What it recorded is in one file that the launcher reads (`launcher/launch.py`, `remember`).

use super::error::{ClosureError, write};
use crate::run::checked;
use crate::source::source_dir;
use crate::tools::through_linker;
use std::fs;
use std::path::Path;
use std::process::Command;

/// An agent, so that what only an agent brings about is recorded too. Nothing asks its provider anything.
const AGENT: &str = r#"{"apiVersion": "astromesh/v1", "kind": "Agent", "metadata": {"name": "recorded"},
"spec": {"model": {"primary": {"provider": "openai_compat", "model": "m", "endpoint": "https://provider.invalid/v1",
"api_key_env": "KEY"}}, "prompts": {"system": "Greet."}}}"#;

/// Records a start from the compiled tree into `file` of the tree. The same tree gives the same bytes.
pub(super) fn record(stage: &Path, file: &str) -> Result<(), ClosureError> {
    let stage = fs::canonicalize(stage).map_err(write("resolving", stage))?;
    let config = tempfile::tempdir().map_err(write("making a directory for", &stage))?;
    let agents = config.path().join("agents");
    fs::create_dir(&agents).map_err(write("making", &agents))?;
    let agent = agents.join("recorded.agent.yaml");
    fs::write(&agent, AGENT).map_err(write("writing", &agent))?;

    let python = through_linker(&stage, &stage.join("usr/bin/python3.13"));
    // This runs other people's code: pinned, but not to be trusted with the network of whoever builds.
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(python.get_program())
        .args(python.get_args());
    // Not -I, which would let hashes vary. The environment is empty but for this.
    command.env_clear().env("PYTHONHASHSEED", "0").env("LC_ALL", "C").env("TZ", "UTC");
    command
        .env("ASTROMESH_CONFIG_DIR", config.path())
        .env("ASTROMESH_PERSIST_AGENTS", "0")
        .env("KEY", "none");
    command.current_dir(config.path());
    command.args(["-P", "-s", "-S", "-B"]).arg(source_dir().join("launcher/record.py"));
    checked(command.arg(stage.join("usr/lib/astromesh/launch.pyc")).arg(stage.join(file)))?;
    Ok(())
}
