//! What the host lacks, installed by its own package manager, each with its reason.

use crate::compile::FIRMWARE;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Needed by these commands themselves.
const OURS: &[(&str, &str)] = &[
    ("cryptsetup-bin", "`veritysetup`, written by others, checks our hash trees"),
    ("dnsmasq-base", "leases addresses to our links in a test, in a network of the test's own"),
    ("iproute2", "lays that network, and asks the kernel what is in force there"),
    ("radvd", "advertises itself as their router"),
];

/// Installs what is missing; says what, and why. Does nothing, quickly, when all is there.
pub fn install() -> Result<()> {
    install_all(&[])
}

/// The same, with packages that only one command needs.
pub fn install_all(more: &[(&str, &str)]) -> Result<()> {
    install_firmware_target()?;
    let wanted =
        OURS.iter().chain(astromesh_kernel::HOST_PACKAGES).chain(astromesh_rootfs::HOST_PACKAGES).chain(more);
    let mut missing: Vec<(&str, &str)> = Vec::new();
    for &(package, why) in wanted {
        if !is_installed(package)? && !missing.iter().any(|(other, _)| *other == package) {
            missing.push((package, why));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing what this host lacks:");
    for (package, why) in &missing {
        eprintln!("  {package:20} {why}");
    }
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing.iter().map(|(package, _)| *package));
    apt(&arguments)
}

/// Rust's core library for firmware: `preboot` is built with it. It belongs to the toolchain, so rustup fetches it.
fn install_firmware_target() -> Result<()> {
    // The one that cargo would take: `cargo xtask repro` puts another in its place.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", FIRMWARE]).output();
    let output = output.context("rustc can't be started")?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!(
        "installing what this toolchain lacks:\n  {FIRMWARE:20} the program that firmware starts first"
    );
    let output = Command::new("rustup").args(["target", "add", FIRMWARE]).stdin(Stdio::null()).output();
    let output =
        output.context("rustup can't be started: the program that firmware starts needs its target")?;
    if !output.status.success() {
        bail!("rustup target add {FIRMWARE} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn is_installed(package: &str) -> Result<bool> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output()
        .context("dpkg-query can't be started: these commands need Debian 12 or 13")?;
    Ok(output.stdout == b"installed")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("apt-get can't be started: these commands need Debian 12 or 13")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed (is this root?):\n{}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
