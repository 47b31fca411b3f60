//! What the peer is made of: the Debian that somebody would build who wants the same agent served and knows how.
//!
//! Each choice is made in the peer's favour where there is one: no ssh, no cloud-init, no time synchronisation, nothing
//! recommended and nothing that the agent doesn't need; the launcher that we tuned; its configuration lies on its disk,
//! where ours is parsed at each boot; it never boots for the first time. What it keeps is Debian as it comes: the
//! initramfs with every driver (ours starts on each cloud too), journal, udev, a resolver, a console to log in at.
//!
//! Everything here decides the result, so everything here is in [`key`].

use anyhow::{Context as _, Result};
use astromesh_qemu::node;
use astromesh_rootfs::{lock::PythonLock, pip_install, sha256_hex};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// To be raised when the steps in `build.rs` change.
const RECIPE: u32 = 1;

/// What is installed on top of what Debian requires (`minbase`), with what it needs and nothing recommended.
pub(super) const PACKAGES: &[(&str, &str)] = &[
    ("systemd-sysv", "PID 1"),
    ("udev", "devices"),
    ("systemd-resolved", "names, as our `net` has them from DHCP; the network itself is systemd-networkd"),
    ("linux-image-cloud-amd64", "the kernel with the drivers of clouds and virtual machines alone"),
    ("initramfs-tools", "Debian's own initramfs"),
    ("zstd", "the initramfs is unpacked faster than with gzip"),
    ("python3", "the runtime's interpreter"),
    ("ca-certificates", "the authorities of providers"),
];

/// What dpkg leaves out: documentation, translations, the package checker's notes. Licences stay.
pub(super) const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bug/*",
];

/// The root partition, by which the kernel's command line and fstab name it.
pub(super) const ROOT_PARTUUID: &str = "a57e0c1e-0e0f-5000-8003-0000726f6f74";
/// A second is enough: files of this age are older than every build, and nothing sets their time back.
const OLD: &str = "2025-01-01T00:00:00Z";
/// Key of the agent that the peer serves.
pub(super) const PROVIDER_KEY: &str = "throw-away-key";
/// Where the reporter listens.
pub(super) const REPORTER_PORT: u16 = 9100;

const CUSTOMIZE: &str = include_str!("files/customize.sh");
const ISOLATE: &str = include_str!("files/isolate.sh");
const ENVIRONMENT: &str = include_str!("files/environment");

/// Files of the peer itself.
const FILES: &[(&str, &str)] = &[
    ("etc/systemd/system/astromesh.service", include_str!("files/astromesh.service")),
    ("etc/systemd/network/80-dhcp.network", include_str!("files/dhcp.network")),
    ("etc/sysusers.d/astromesh.conf", include_str!("files/sysusers.conf")),
    ("etc/astromesh/environment", ENVIRONMENT),
    ("etc/hostname", "peer\n"),
];

/// Files that only the measuring needs, added when everything was counted.
const REPORTER_FILES: &[(&str, &str)] = &[
    ("etc/systemd/system/peer-reporter.service", include_str!("files/peer-reporter.service")),
    ("etc/systemd/system/astromesh.service.d/reported.conf", include_str!("files/reported.conf")),
    ("etc/tmpfiles.d/peer-ready.conf", include_str!("files/peer-ready.conf")),
];

/// The kernel's command line. The console is as quiet as Debian makes it: a serial line is slow.
pub(super) fn cmdline() -> String {
    format!("root=PARTUUID={ROOT_PARTUUID} ro console=ttyS0 quiet")
}

/// Files of the peer itself that are put together here.
fn composed() -> Result<Vec<(&'static str, String)>> {
    let endpoint = format!("https://{}/v1", node::PROVIDER_NAME);
    let agent = serde_json::to_string_pretty(&node::agent("assistant", &endpoint, "test-model"))?;
    let launcher = crate::project().join("rootfs/launcher/launch.py");
    let launcher =
        fs::read_to_string(&launcher).with_context(|| format!("{} can't be read", launcher.display()))?;
    Ok(vec![
        ("etc/astromesh/agents/assistant.agent.yaml", agent),
        ("etc/fstab", format!("PARTUUID={ROOT_PARTUUID} / ext4 rw,noatime 0 1\n")),
        (
            "etc/hosts",
            format!("127.0.0.1 localhost peer\n{} {}\n", node::PROVIDER_INSIDE.ip(), node::PROVIDER_NAME),
        ),
        ("usr/lib/astromesh/launch.py", launcher),
    ])
}

/// A hash of what decides the peer. Not of the packages' versions: those are Debian's of the day it was built, and are
/// kept beside the figures.
pub(super) fn key(lock: &PythonLock, reporter: &Path) -> Result<String> {
    let files = format!("{FILES:?} {REPORTER_FILES:?} {:?} {CUSTOMIZE} {ISOLATE}", composed()?);
    let choices = format!("{RECIPE} {PACKAGES:?} {LEFT_OUT:?} {ROOT_PARTUUID} {OLD}");
    let text = [files, choices, lock.render(), astromesh_rootfs::sha256_file(reporter)?].join("\n");
    Ok(sha256_hex(text.as_bytes())[..32].to_owned())
}

/// The two scripts and what they work with, written to a scratch folder.
pub(super) struct Written {
    pub(super) isolate: PathBuf,
    pub(super) customize: PathBuf,
    pub(super) overlay: PathBuf,
    pub(super) site: PathBuf,
}

/// Writes the scripts, the peer's own files, and what pip makes of the wheels.
pub(super) fn write(wheels: &[PathBuf], dir: &Path) -> Result<Written> {
    let path = |name: &str| dir.join(name);
    let written = Written {
        isolate: path("isolate.sh"),
        customize: path("customize.sh"),
        overlay: path("overlay"),
        site: path("site"),
    };
    for (script, content) in [(&written.isolate, ISOLATE), (&written.customize, CUSTOMIZE)] {
        put(script, content.as_bytes(), 0o755)?;
    }
    for (name, content) in FILES {
        put(&written.overlay.join(name), content.as_bytes(), 0o644)?;
    }
    for (name, content) in composed()? {
        put(&written.overlay.join(name), content.as_bytes(), 0o644)?;
    }
    pip_install(wheels, &written.site)?;
    // The commands that wheels bring begin with the path of the host's interpreter, and the unit starts none of them.
    let commands = written.site.join("bin");
    if commands.is_dir() {
        fs::remove_dir_all(&commands)?;
    }
    for folder in [&written.overlay, &written.site] {
        let mut find = Command::new("find");
        find.arg(folder).args(["-exec", "touch", "--no-dereference", "--date", OLD, "{}", "+"]);
        super::command::run(&mut find, "the peer's files can't be dated")?;
    }
    Ok(written)
}

/// Adds the reporter to a finished tree.
pub(super) fn add_reporter(reporter: &Path, tree: &Path) -> Result<()> {
    for (name, content) in REPORTER_FILES {
        put(&tree.join(name), content.as_bytes(), 0o644)?;
    }
    put(&tree.join("usr/lib/peer-reporter"), &fs::read(reporter)?, 0o755)?;
    let wants = tree.join("etc/systemd/system/multi-user.target.wants/peer-reporter.service");
    std::os::unix::fs::symlink("/etc/systemd/system/peer-reporter.service", &wants)
        .with_context(|| format!("{} can't be made", wants.display()))
}

fn put(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let failed = || format!("{} can't be written", path.display());
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).with_context(failed)?;
    fs::write(path, content).with_context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_told_the_key_the_place_and_the_addresses_that_the_bench_uses() {
        assert!(ENVIRONMENT.contains(&format!("PROVIDER_KEY={PROVIDER_KEY}\n")));
        assert!(ENVIRONMENT.contains(&format!("ASTROMESH_LISTEN=0.0.0.0:{}\n", node::API_PORT)));
        let (_, hosts) = composed().unwrap().into_iter().find(|(name, _)| *name == "etc/hosts").unwrap();
        assert!(
            hosts.contains(&node::PROVIDER_INSIDE.ip().to_string()) && hosts.contains(node::PROVIDER_NAME)
        );
        assert!(cmdline().contains(ROOT_PARTUUID));
    }

    #[test]
    fn nothing_is_run_before_the_hosts_devices_are_gone() {
        let run = ISOLATE.find("exec \"$@\"").unwrap();
        for guard in
            ["umount --recursive --lazy /dev", "mount -t tmpfs", "-type b", " - devtmpfs ", "HOST_NAMESPACE"]
        {
            assert!(ISOLATE.find(guard).unwrap() < run, "{guard}");
        }
        // The twin: there is one place where something is run, and it is the last line.
        assert_eq!(ISOLATE.matches("\"$@\"").count(), 2);
        assert!(ISOLATE.trim_end().ends_with("exec \"$@\""));
    }
}
