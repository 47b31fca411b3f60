//! Running the programs of others that build the peer and draw the picture.

use anyhow::{Context as _, Result, bail};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs a command to its end; its own last words are in the error.
pub(super) fn run(command: &mut Command, failed: &str) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can't be started: run `cargo xtask deps`", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    std::io::stderr().write_all(&output.stdout)?;
    bail!("{failed} ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}
