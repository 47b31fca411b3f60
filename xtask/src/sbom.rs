//! The bill of materials of a build, `out/sbom.spdx.json`: the root's parts, `init` with its crates, the kernel, the
//! boot loader.
//!
//! What is linked into `init` is asked of cargo and not of a list, so a new dependency is in the bill without anyone
//! thinking of it. Two parts come from the building host and are pinned by nothing: the static C library and Rust's own
//! standard library. They stand in the bill with the host's versions and without a sum.

pub mod check;

use crate::{compile, project};
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_kernel::Kernel;
use astromesh_qemu::node::Image;
use astromesh_rootfs::lock::DebianLock;
use astromesh_rootfs::origins::Sums;
use astromesh_rootfs::sbom::{self, File, Licence, Part, Place, Sbom, boot, purl, root};
use astromesh_rootfs::{Tools, esp};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The document's name in `out/`.
pub const NAME: &str = "sbom.spdx.json";

const BZIMAGE: &str = "./bzImage";
const INIT: &str = "./initramfs/init";
const UKI: &str = "./esp/EFI/Linux/astromesh.efi";
const PREBOOT: &str = "./esp/EFI/BOOT/BOOTX64.EFI";
const LOADER_CONF: &str = "./esp/loader/loader.conf";

/// Writes the bill of `image`; the loader and its stub are taken from `tools`.
pub fn write(image: &Image, kernel: &Kernel, tools: &Tools) -> Result<()> {
    let lock = DebianLock::load()?;
    let mut parts = root::parts(&image.stage, &lock)?;
    // The first is the image itself, with what the project writes.
    let ours = parts.first_mut().context("the root has no parts")?;
    ours.files.push(File {
        comment: Some("The stub, the kernel and the initramfs in one EFI program.".to_owned()),
        ..file((UKI, &image.uki))?
    });
    let sums = Sums::of(esp::LOADER_CONF.as_bytes());
    ours.files.push(File { name: LOADER_CONF.to_owned(), sums, comment: None });
    let mut bill = Sbom::default();
    bill.add(parts);
    bill.add([
        boot::part(tools, &lock)?,
        kernel_part(kernel, (BZIMAGE, &image.kernel))?,
        program_part(
            "init",
            "PID 1 and the services of the node: one static binary in the initramfs.",
            (INIT, &image.init),
        )?,
        program_part(
            "preboot",
            "What firmware starts: it arms the watchdog and starts the boot loader.",
            (PREBOOT, &image.preboot),
        )?,
    ]);
    let lock = fs::read_to_string(project().join("Cargo.lock")).context("Cargo.lock can't be read")?;
    let trees = [
        ("init", linked_crates("init", compile::TARGET, "")?),
        ("preboot", linked_crates(compile::PREBOOT, compile::FIRMWARE, "firmware")?),
    ];
    bill.add(crates(&trees, &lock)?);
    bill.add([rust_part()?]);
    for library in ["libc.a", "libgcc_eh.a"] {
        bill.add([host_library(library)?]);
    }
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let text = bill.render(sbom::created(epoch.as_deref())?)?;
    let path = path_beside(image);
    fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
}

fn path_beside(image: &Image) -> PathBuf {
    image.root.with_file_name(NAME)
}

/// A part with nothing but names; contained in the image, licence unknown.
fn part(id: &str, name: &str, version: &str) -> Part {
    Part {
        id: id.to_owned(),
        name: name.to_owned(),
        version: Some(version.to_owned()),
        purl: None,
        sha256: None,
        licence: Licence::Unknown,
        supplier: None,
        comment: None,
        place: Place::Contained,
        files: Vec::new(),
    }
}

fn file((name, path): (&str, &Path)) -> Result<File> {
    let sums = Sums::of_path(path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(File { name: name.to_owned(), sums, comment: None })
}

fn kernel_part(kernel: &Kernel, bzimage: (&str, &Path)) -> Result<Part> {
    let source = astromesh_kernel::source()?;
    Ok(Part {
        // One package of the archive holds the source for every architecture.
        purl: Some(purl("deb/debian", &source.name, &source.version, &format!("arch={}", source.arch))),
        sha256: Some(source.sha256),
        licence: Licence::Expression("GPL-2.0-only WITH Linux-syscall-note".to_owned()),
        supplier: Some("Organization: Debian".to_owned()),
        comment: Some(format!(
            "bzImage is built from this source package of Debian {} with kernel-config/x86_64.config; the sum is \
             the source package's.",
            source.suite
        )),
        files: vec![file(bzimage)?],
        ..part("linux", "linux", &kernel.version)
    })
}

/// A program of ours, of this version.
fn program_part(name: &str, comment: &str, program: (&str, &Path)) -> Result<Part> {
    Ok(Part {
        licence: Licence::Expression("MIT OR Apache-2.0".to_owned()),
        comment: Some(comment.to_owned()),
        files: vec![file(program)?],
        ..part(name, name, env!("CARGO_PKG_VERSION"))
    })
}

/// Asks cargo what is linked into a program: `NAME vVERSION [(path)]|LICENCE`, one crate a line. Macros run in the compiler
/// and are not linked.
fn linked_crates(package: &str, target: &str, features: &str) -> Result<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(project()).args(["tree", "--locked", "--package", package, "--target", target]);
    command.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]);
    output(command.args(["--features", features, "--format", "{p}|{l}"]))
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates of each program's tree, as [`linked_crates`] gives it, with their sums from the text of `Cargo.lock`.
fn crates(trees: &[(&str, String)], lock: &str) -> Result<Vec<Part>> {
    let lock: Lock = toml::from_str(lock).context("Cargo.lock is not one")?;
    let mut programs_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (program, tree) in trees {
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let programs = programs_of.entry(line).or_default();
            if !programs.iter().any(|known| known == program) {
                programs.push((*program).to_owned());
            }
        }
    }
    let mut parts = Vec::new();
    for (line, programs) in programs_of {
        let (package, licence) =
            line.split_once('|').with_context(|| format!("{line:?} names no licence"))?;
        let mut words = package.split(' ');
        let (name, version) = words
            .next()
            .zip(words.next().and_then(|word| word.strip_prefix('v')))
            .with_context(|| format!("{line:?} is not a line of `cargo tree`"))?;
        if name == "init" || name == compile::PREBOOT {
            continue;
        }
        // Only a crate of ours is named with its path.
        let ours = words.next().is_some();
        let locked = lock.package.iter().find(|one| one.name == name && one.version == version);
        let locked = locked.with_context(|| format!("{name} {version} is not in Cargo.lock"))?;
        ensure!(
            ours != locked.checksum.is_some(),
            "{name} {version} has no sum in Cargo.lock: it comes from no registry, so nothing pins it"
        );
        parts.push(Part {
            purl: (!ours).then(|| purl("cargo", name, version, "")),
            sha256: locked.checksum.clone(),
            licence: Licence::of_crate(licence),
            comment: ours.then(|| "A crate of this project's own source.".to_owned()),
            place: Place::LinkedInto(programs),
            ..part(&format!("crate-{name}-{version}"), name, version)
        });
    }
    Ok(parts)
}

/// Rust's standard library, which is in every binary.
fn rust_part() -> Result<Part> {
    let text = output(Command::new("rustc").current_dir(project()).arg("-vV"))?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    let release = release.context("`rustc -vV` tells no release")?;
    Ok(Part {
        licence: Licence::Expression("MIT OR Apache-2.0".to_owned()),
        comment: Some("From the building host's toolchain; no sum pins it.".to_owned()),
        place: Place::LinkedInto(["init", "preboot"].map(str::to_owned).to_vec()),
        ..part("rust-std", "rust-std", release)
    })
}

/// The Debian package of the building host that a library comes from which the linker puts into a static binary.
fn host_library(library: &str) -> Result<Part> {
    let place = output(Command::new("cc").arg(format!("-print-file-name={library}")))?;
    let place = fs::canonicalize(place.trim()).with_context(|| format!("cc knows no {library}"))?;
    // dpkg knows the file under /usr, or under the name that it had before /usr was merged.
    let place = place.to_string_lossy().into_owned();
    let owner = output(Command::new("dpkg-query").args(["-S", &place]))
        .or_else(|_| output(Command::new("dpkg-query").args(["-S", place.trim_start_matches("/usr")])))?;
    let name = owner.split([':', ',']).next().unwrap_or_default();
    let version = output(Command::new("dpkg-query").args(["-W", "-f=${Version}", name]))?;
    Ok(Part {
        purl: Some(purl("deb/debian", name, &version, "arch=amd64")),
        supplier: Some("Organization: Debian".to_owned()),
        comment: Some(format!("{library} of the building host; no sum pins it.")),
        place: Place::LinkedInto(vec!["init".to_owned()]),
        ..part(&format!("host-{name}"), name, &version)
    })
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} can't be started: run `cargo xtask deps`"))?;
    if !output.status.success() {
        bail!("{program} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"log\"\nversion = \"0.4.1\"\nchecksum = \"aa\"\n\
                        [[package]]\nname = \"astromesh-proto\"\nversion = \"0.1.0\"\n";

    #[test]
    fn each_crate_stands_once_with_its_sum_and_ours_without_its_path() {
        let tree = "init v0.1.0 (/x)|MIT\nlog v0.4.1|MIT/Apache-2.0\nastromesh-proto v0.1.0 (/x/proto)|MIT\n\nlog v0.4.1|MIT/Apache-2.0\n";
        let trees = [("init", tree.to_owned()), ("preboot", "log v0.4.1|MIT/Apache-2.0\n".to_owned())];
        let parts = crates(&trees, LOCK).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].place, Place::LinkedInto(vec!["init".to_owned()]));
        assert_eq!(parts[1].place, Place::LinkedInto(vec!["init".to_owned(), "preboot".to_owned()]));
        assert!(parts.iter().all(|part| !format!("{part:?}").contains("/x")));
        assert_eq!(parts[1].sha256.as_deref(), Some("aa"));
        assert_eq!(parts[1].licence, Licence::Expression("MIT OR Apache-2.0".to_owned()));
        assert_eq!(parts[1].purl.as_deref(), Some("pkg:cargo/log@0.4.1"));
    }

    #[test]
    fn a_crate_that_nothing_pins_is_refused() {
        let crates = |tree: &str| crates(&[("init", tree.to_owned())], LOCK);
        assert!(crates("log v0.4.1|MIT\n").is_ok());
        for wrong in [
            "log v0.4.2|MIT",
            "astromesh-proto v0.1.0|MIT",
            "log v0.4.1 (elsewhere)|MIT",
            "log|MIT",
            "log v0.4.1",
        ] {
            assert!(crates(wrong).is_err(), "{wrong}");
        }
    }
}
