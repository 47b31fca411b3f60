//! Running cargo from a command: the tests, the measurements and `run` all do.

use crate::project;
use anyhow::{Context as _, Result, bail};
use std::process::{Command, Stdio};

/// Builds the program that carries a guest's connections: cargo builds a binary of another package only when asked.
pub fn build_relay() -> Result<()> {
    cargo(&["build", "--quiet", "--locked", "--package", "astromesh-qemu", "--bin", "astromesh-relay"])
}

/// Runs cargo in the project's folder.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    status(Command::new(env!("CARGO")).current_dir(project()).args(arguments))
}

/// Runs a command without input; an error unless it succeeds.
pub fn status(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("cargo can't be started")?;
    if !status.success() {
        bail!("cargo ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn astromeshctl_as_documented_carries_no_tables_of_lines() {
        let read = |name| std::fs::read_to_string(project().join(name)).unwrap();
        let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
        let desk = &manifest["profile"]["desk"];
        assert_eq!((desk["strip"].as_bool(), desk["debug"].as_bool()), (Some(true), Some(false)));
        let page = read("docs/operations.md");
        assert!(page.contains("`cargo build --profile desk --package astromeshctl`"));
        assert!(page.contains("`target/desk/astromeshctl`") && !page.contains("target/release"));
    }
}
