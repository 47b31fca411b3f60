//! What the host lacks, installed by its own package manager, each with its reason.

use anyhow::{Context as _, Result, bail};
use std::process::Command;

/// Needed by these commands themselves.
const OURS: &[(&str, &str)] = &[
    ("qemu-system-x86", "boots the image"),
    ("ovmf", "the UEFI firmware that a cloud's machine would have"),
    ("cryptsetup-bin", "`veritysetup`, written by others, checks our hash trees"),
];

/// Installs what is missing; says what, and why. Does nothing, quickly, when all is there.
pub fn install() -> Result<()> {
    install_all(&[])
}

/// The same, with packages that only one command needs.
pub fn install_all(more: &[(&str, &str)]) -> Result<()> {
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
        .stdin(std::process::Stdio::null())
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
