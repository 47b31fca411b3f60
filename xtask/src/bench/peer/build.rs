//! Building the peer: mmdebstrap makes a tree, which is checked, counted, and put into a file system.
//!
//! **The host's devices.** mmdebstrap mounts into the tree that it makes and removes that tree. It runs in mount and
//! process namespaces of its own, in which `files/isolate.sh` has taken the host's `/dev` away before anything starts;
//! when the command ends the kernel ends whatever it left, and its mounts go with the namespace. Nothing is mounted
//! afterwards: the archive is unpacked to a folder, and mkfs fills the file system from that.
//!
//! The result is in the cache under [`recipe::key`]. What was counted is beside it, since the tree is not kept.

use super::command::run;
use super::recipe::{self, LEFT_OUT, PACKAGES, ROOT_PARTUUID};
use super::tree::{self, Weight};
use crate::progress::Progress;
use crate::{compile, image, project};
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_rootfs::lock::PythonLock;
use astromesh_rootfs::{Cache, SUITE, archive_lines, esp, plain, wheels};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Python's own modules and the runtime's are in the peer.
const PYTHON: [&str; 2] = ["usr/lib/python3.13", "opt/astromesh/lib/python3.13/site-packages"];

/// What was counted when the peer was built, and what it is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Built {
    /// Everything on the root and in the boot partition, but the boot loader and what measures.
    pub(super) weight: Weight,
    /// Of that, kernel and initramfs.
    pub(super) boot_bytes: u64,
    /// The same as one tar archive, by `zstd -19`.
    pub(super) compressed: u64,
    /// How many Python modules have byte code that is used; all, or there is no peer.
    pub(super) bytecode: u64,
    /// How many of them one start of the runtime loads.
    pub(super) imported: usize,
    /// Name and version of every Debian package.
    pub(super) packages: Vec<(String, String)>,
    /// mmdebstrap's own version.
    pub(super) mmdebstrap: String,
}

/// A peer in the cache.
pub(super) struct Peer {
    pub(super) built: Built,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    root: PathBuf,
    certificates: PathBuf,
}

/// Builds it, or finds it.
pub(super) fn build(progress: &Progress) -> Result<Peer> {
    let cache = Cache::open(&Cache::default_path()?)?;
    let lock = PythonLock::load()?;
    let reporter = reporter()?;
    let dir = cache.directory("peers", &recipe::key(&lock, &reporter)?, |dir| -> Result<()> {
        let files = wheels(&cache, &lock.wheels, &|text| progress.note(text))?;
        let scratch = cache.scratch()?;
        progress.note("building the peer with mmdebstrap: a few minutes");
        let tree = bootstrap(&files, scratch.path())?;
        progress.note("checking and counting the peer");
        let built = finish(&tree, scratch.path())?;
        fs::write(dir.join("built.json"), serde_json::to_vec_pretty(&built)?)?;
        let certificates = tree.join(PYTHON[1]).join("certifi/cacert.pem");
        fs::copy(certificates, dir.join("cacert.pem"))
            .context("the peer has no certificates of authorities")?;
        for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd.img")] {
            // They go to the boot partition, as on a machine that has it mounted at /boot.
            let file = only(&tree.join("boot"), prefix)?;
            fs::copy(&file, dir.join(name))?;
            fs::remove_file(file)?;
        }
        recipe::add_reporter(&reporter, &tree)?;
        progress.note("writing the peer's file system");
        // A quarter more than its files, for what a running system writes.
        let size = (built.weight.bytes * 5 / 4 + (128 << 20)).next_multiple_of(1 << 20);
        Ok(plain::make_root(&image::tools()?, &tree, size, &dir.join("root.ext4"))?)
    })?;
    let path = |name: &str| dir.join(name);
    let built =
        fs::read(path("built.json")).with_context(|| format!("{} is not whole: remove it", dir.display()))?;
    Ok(Peer {
        built: serde_json::from_slice(&built)?,
        kernel: path("vmlinuz"),
        initrd: path("initrd.img"),
        root: path("root.ext4"),
        certificates: path("cacert.pem"),
    })
}

impl Peer {
    /// A disk of it in `out`, which trusts `authority` beside the public ones: the same file that our node is given.
    pub(super) fn disk(&self, authority: &str, loader: &Path, out: &Path) -> Result<PathBuf> {
        let path = |name: &str| out.join(name);
        let (root, trusted, boot, disk) = (path("root.ext4"), path("ca.pem"), path("esp"), path("disk.raw"));
        let mut bundle = fs::read(&self.certificates)?;
        bundle.push(b'\n');
        bundle.extend_from_slice(authority.as_bytes());
        fs::write(&trusted, bundle)?;
        run(
            Command::new("cp").args(["--sparse=always", "--"]).args([&self.root, &root]),
            "the peer's file system can't be copied",
        )?;
        plain::insert(&image::tools()?, &root, "etc/astromesh", "ca.pem", &trusted)?;
        let entry =
            format!("title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions {}\n", recipe::cmdline());
        let settings = "timeout 0\neditor no\ndefault debian.conf\n";
        let contents = [
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), fs::read(loader)?),
            ("loader/loader.conf".to_owned(), settings.into()),
            ("loader/entries/debian.conf".to_owned(), entry.into()),
            ("vmlinuz".to_owned(), fs::read(&self.kernel)?),
            ("initrd.img".to_owned(), fs::read(&self.initrd)?),
        ];
        esp::make_with(&["EFI", "EFI/BOOT", "loader", "loader/entries"], &contents, &boot)?;
        plain::assemble(&boot, &root, ROOT_PARTUUID, &disk)?;
        for part in [&root, &boot] {
            fs::remove_file(part)?;
        }
        Ok(disk)
    }
}

/// The reporter, static.
fn reporter() -> Result<PathBuf> {
    // Of its own: with other flags than `init` in the same place, each would make cargo build the other anew.
    let target = project().join("target/peer-reporter");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(project()).env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "astromesh-peer-reporter",
        "--profile",
        "node",
    ]);
    run(
        command.args(["--target", compile::TARGET, "--target-dir"]).arg(&target),
        "the reporter can't be built",
    )?;
    let program = target.join(compile::TARGET).join("node/peer-reporter");
    astromesh_rootfs::require_static_pie(&program)?;
    Ok(program)
}

/// Runs mmdebstrap and unpacks what it made.
fn bootstrap(wheels: &[PathBuf], scratch: &Path) -> Result<PathBuf> {
    let written = recipe::write(wheels, scratch)?;
    let sources = scratch.join("sources.list");
    fs::write(&sources, archive_lines(SUITE)?)?;
    let archive = scratch.join("root.tar");
    let temporary = scratch.join("tmp");
    fs::create_dir(&temporary)?;
    let include: Vec<_> = PACKAGES.iter().map(|(name, _)| *name).collect();

    let mut command = Command::new("unshare");
    // With its own process namespace nothing that it started outlives it, and so none of its mounts do.
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(&written.isolate).args(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]);
    command.arg(format!("--include={}", include.join(",")));
    command.args(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")));
    command.arg(format!("--customize-hook={}", written.customize.display()));
    command.arg(SUITE).arg(&archive).arg(&sources);
    command.env("HOST_NAMESPACE", fs::read_link("/proc/self/ns/mnt").context("/proc is not mounted")?);
    command.env("OVERLAY", &written.overlay).env("SITE", &written.site).env("TMPDIR", &temporary);
    // mmdebstrap would set every file's time back to it, and make each .pyc stale.
    command.env_remove("SOURCE_DATE_EPOCH").env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    let outcome = run(&mut command, "mmdebstrap failed");
    demand_devices()?;
    outcome?;

    let tree = scratch.join("tree");
    fs::create_dir(&tree)?;
    let mut unpack = Command::new("tar");
    // Device nodes stay in the archive: the kernel mounts its own.
    unpack.args(["--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--exclude=./dev/*"]);
    run(
        unpack.arg("--file").arg(&archive).arg("--directory").arg(&tree),
        "the peer's archive can't be unpacked",
    )?;
    fs::remove_file(archive)?;
    Ok(tree)
}

/// The host still has its devices.
fn demand_devices() -> Result<()> {
    for device in ["/dev/null", "/dev/zero", "/dev/urandom"] {
        let found =
            fs::metadata(device).with_context(|| format!("{device} is gone: restart this machine"))?;
        ensure!(
            found.file_type().is_char_device() && found.rdev() >> 8 == 1,
            "{device} is no device any more: restart this machine, and don't run this again before it is known why"
        );
    }
    Ok(())
}

/// Makes a machine of the tree that has been started before, checks its byte code, and counts.
fn finish(tree: &Path, scratch: &Path) -> Result<Built> {
    // Without these two a boot takes itself for the first one, and for one after an update: it would make an identity,
    // apply presets, and compile the hardware database (machine-id(5), systemd-update-done.service(8)).
    fs::write(tree.join("etc/machine-id"), "a57e0c1e0e0f50008004000070656572\n")?;
    for folder in ["etc", "var"] {
        fs::write(tree.join(folder).join(".updated"), "")?;
    }
    let mut valid = 0;
    for folder in PYTHON {
        let found = tree::bytecode(&tree.join(folder))?;
        ensure!(
            found.stale.is_empty() && found.missing.is_empty(),
            "the peer's byte code would not be used, so its start would be measured too slow: {} stale, {} missing, \
             as {:?}; correct files/customize.sh",
            found.stale.len(),
            found.missing.len(),
            found.stale.iter().chain(&found.missing).take(3).collect::<Vec<_>>()
        );
        valid += found.valid;
    }
    let weight = tree::weigh(tree)?;
    let boot = ["vmlinuz-", "initrd.img-"].map(|prefix| only(&tree.join("boot"), prefix));
    let mut boot_bytes = 0;
    for file in boot {
        boot_bytes += fs::metadata(file?)?.len();
    }
    let status =
        fs::read_to_string(tree.join("var/lib/dpkg/status")).context("the peer has no dpkg database")?;
    let version =
        Command::new("mmdebstrap").arg("--version").output().context("mmdebstrap can't be started")?;
    Ok(Built {
        weight,
        boot_bytes,
        compressed: compressed(tree, &["."])?,
        bytecode: valid,
        imported: demand_bytecode_in_use(tree, scratch)?,
        packages: packages(&status),
        mmdebstrap: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
    })
}

/// Lets the tree's own interpreter import the runtime and tell where each module came from.
fn demand_bytecode_in_use(tree: &Path, scratch: &Path) -> Result<usize> {
    let [library, site] = PYTHON.map(|folder| tree.join(folder));
    let home = scratch.join("home");
    fs::create_dir_all(home.join("agents"))?;
    let program = "import sys; sys.path[:] = sys.argv[1:]; import astromesh.api.main";
    // Through its own linker, as the build's tools run: no chroot, nothing mounted.
    let mut command = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(tree.join("usr/lib/x86_64-linux-gnu"))
        .arg(tree.join("usr/bin/python3.13"));
    command.args(["-S", "-B", "-v", "-c", program]).args([&library, &library.join("lib-dynload"), &site]);
    command.env_clear().env("PYTHONHOME", tree.join("usr"));
    command.env("HOME", &home).env("ASTROMESH_CONFIG_DIR", &home).env("ASTROMESH_PERSIST_AGENTS", "0");
    let output = command
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .context("the peer's python can't be started")?;
    let words = String::from_utf8_lossy(&output.stderr);
    let (matching, compiled) = tree::imported(&words);
    let last = words.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "the peer's python can't import the runtime: {last}");
    ensure!(
        compiled.is_empty() && matching > 0,
        "the peer compiles {} modules at each start, as {:?}; {matching} come from byte code",
        compiled.len(),
        compiled.first()
    );
    Ok(matching)
}

/// The one file of `folder` whose name begins with `prefix`.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} can't be listed", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("{} has {} files {prefix}*, not one", folder.display(), found.len()),
    }
}

/// Name and version of the installed packages in a dpkg database.
fn packages(status: &str) -> Vec<(String, String)> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let installed = |paragraph: &&str| paragraph.contains("Status: install ok installed");
    status
        .split("\n\n")
        .filter(installed)
        .filter_map(|paragraph| Some((field(paragraph, "Package")?, field(paragraph, "Version")?)))
        .collect()
}

/// Bytes of a tar archive of `names` in `folder`, by `zstd -19`.
pub(super) fn compressed(folder: &Path, names: &[&str]) -> Result<u64> {
    let mut archive = Command::new("tar")
        .args(["--create", "--sort=name", "--numeric-owner", "--directory"])
        .arg(folder)
        .args(names)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("tar can't be started")?;
    let input = archive.stdout.take().context("tar has no output")?;
    let mut zstd = Command::new("zstd")
        .args(["-q", "-19", "-c"])
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()
        .context("zstd can't be started: run `cargo xtask deps`")?;
    let mut output = zstd.stdout.take().context("zstd has no output")?;
    let bytes = std::io::copy(&mut output, &mut std::io::sink())?;
    ensure!(zstd.wait()?.success() && archive.wait()?.success(), "{} can't be compressed", folder.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_is_listed() {
        let status = "Package: systemd\nStatus: install ok installed\nVersion: 257.9-1\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: python3.13\nStatus: install ok installed\nVersion: 3.13.5-2\n";
        let names: Vec<_> =
            packages(status).into_iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(names, ["systemd 257.9-1", "python3.13 3.13.5-2"]);
    }

    #[test]
    fn this_host_has_its_devices() {
        demand_devices().unwrap();
    }
}
