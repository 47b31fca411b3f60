//! Programs for the node: for which platforms they are compiled, and how.
//!
//! The image is put together from them, and the bill of materials asks cargo about the same platforms.

use crate::project;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `init` is built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The package of the program that firmware starts first.
pub const PREBOOT: &str = "astromesh-preboot";

/// Rust's name for firmware of this architecture.
pub const FIRMWARE: &str = "x86_64-unknown-uefi";

/// Builds a program of the workspace as `init` goes onto the node, and makes sure it is static-pie. With a feature it is
/// not the release's, and is moved to a directory of its own.
pub fn build_static(package: &str, feature: Option<&str>) -> Result<PathBuf> {
    let features: Vec<&str> = feature.into_iter().flat_map(|feature| ["--features", feature]).collect();
    let built =
        build_node(package, TARGET, &features, &["-Ctarget-feature=+crt-static", "-Crelocation-model=pie"])?;
    let built = built.join(package);
    astromesh_rootfs::require_static_pie(&built)?;
    feature.map_or(Ok(built.clone()), |feature| move_apart(&built, feature))
}

/// Builds the program that firmware starts first. With a feature it is not the release's, and is moved to a directory of its
/// own.
pub fn build_preboot(feature: Option<&str>) -> Result<PathBuf> {
    // The linker would write the time of the build into the program, and a sum over debug information that names the folders
    // of the build. (`/Brepro` puts another sum over the same in the time's place.)
    let flags = ["-Clink-arg=/TIMESTAMP:0", "-Clink-arg=/DEBUG:NONE"];
    let features: Vec<&str> =
        ["firmware"].into_iter().chain(feature).flat_map(|name| ["--features", name]).collect();
    let built = build_node(PREBOOT, FIRMWARE, &features, &flags)?.join("preboot.efi");
    feature.map_or(Ok(built.clone()), |feature| move_apart(&built, feature))
}

/// Moves what was built with a feature out of the release's place. The dependencies are shared with the release's build.
fn move_apart(built: &Path, feature: &str) -> Result<PathBuf> {
    let apart = project().join("target").join(feature);
    fs::create_dir_all(&apart).with_context(|| format!("{} can't be made", apart.display()))?;
    let moved = apart.join(built.file_name().unwrap_or_default());
    fs::rename(built, &moved).with_context(|| format!("{} can't be moved", built.display()))?;
    Ok(moved)
}

/// Builds a package for the node, with nothing of the building machine in it, and tells in which folder the result is.
fn build_node(package: &str, platform: &str, arguments: &[&str], flags: &[&str]) -> Result<PathBuf> {
    let target = project().join("target");
    let maps = [
        format!("--remap-path-prefix={}=/astromesh-os", project().display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home().display()),
    ];
    let flags: Vec<&str> = flags.iter().copied().chain(maps.iter().map(String::as_str)).collect();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project()).args(["build", "--package", package, "--profile", "node"]).args(arguments);
    build_for(platform, &target, cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")))?;
    Ok(target.join(platform).join("node"))
}

/// Runs a `cargo build` for a platform into a folder, saying nothing unless it fails.
pub fn build_for(platform: &str, target: &Path, cargo: &mut Command) -> Result<()> {
    cargo.args(["--quiet", "--locked", "--target", platform, "--target-dir"]).arg(target);
    let output = cargo.stdin(Stdio::null()).output().context("cargo can't be started")?;
    if !output.status.success() {
        bail!("{cargo:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}
