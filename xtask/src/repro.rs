//! `cargo xtask repro`: the same commit gives the same bits.
//!
//! Builds the image a second time where everything that must not matter is different - directory, user, clock, time
//! zone, locale, cache - and compares with what `cargo xtask build` made. Only downloads are shared: they are pinned by
//! their sums. The kernel is compiled again too, unless it is said that it need not be.

use crate::{deps, image, project, sbom};
use anyhow::{Context as _, Result, bail};
use astromesh_qemu::node::Image;
use astromesh_rootfs::{Cache, sha256_file};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Args)]
pub struct ReproArguments {
    /// Take the kernel from the cache: spares most of the time, and leaves the kernel unproved
    #[arg(long)]
    pub keep_kernel: bool,
}

/// What the second build needs beside the first: `(package, why)`.
pub const HOST_PACKAGES: &[(&str, &str)] = &[
    ("faketime", "`cargo xtask repro` builds on another day"),
    ("locales", "`cargo xtask repro` builds in another locale"),
];

/// Kinds of cache entries that are downloads, each checked against a pinned sum.
const DOWNLOADS: &[&str] = &["debs", "wheels"];

/// A locale whose upper and lower case are not English's.
const LOCALE: &str = "tr_TR";

/// The command.
pub fn run(arguments: &ReproArguments) -> Result<()> {
    deps::install_all(HOST_PACKAGES)?;
    let first = image::build()?;
    let place = tempfile::Builder::new().prefix("astromesh-repro-").tempdir()?;
    let second = build_elsewhere(place.path(), arguments.keep_kernel)?;
    compare(&first, &second)?;
    let kernel = if arguments.keep_kernel { " (the kernel was not compiled again)" } else { "" };
    println!("two builds, one image: {}{kernel}", first.root_hash);
    Ok(())
}

/// Copies the project below `place` and builds it there.
fn build_elsewhere(place: &Path, keep_kernel: bool) -> Result<Image> {
    let copy = place.join("elsewhere");
    copy_project(&copy)?;
    let cache = place.join("cache");
    let kept: Vec<&str> = DOWNLOADS.iter().copied().chain(keep_kernel.then_some("kernels")).collect();
    for kind in kept {
        let from = Cache::default_path()?.join(kind);
        if from.is_dir() {
            fs::create_dir_all(&cache)?;
            checked(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&from).arg(&cache))?;
        }
    }
    let locales = place.join("locales");
    fs::create_dir_all(&locales)?;
    let compiled = locales.join(format!("{LOCALE}.UTF-8"));
    checked(Command::new("localedef").args(["-i", LOCALE, "-f", "UTF-8"]).arg(compiled))?;

    let compiler = real_time_rustc(place)?;
    let path = std::env::var("PATH").unwrap_or_default();

    eprintln!("  building again in {}, as another user, on another day", copy.display());
    // Another identity that owns the same files: no capability of root's, and its names in `id` and `whoami`.
    // A second build that stands still must not stand still for ever: the first took minutes.
    let mut build = Command::new("timeout");
    build.args(["--kill-after=60", if keep_kernel { "1800" } else { "5400" }]);
    build.args(["unshare", "--user", "--map-user=4321", "--map-group=4321"]);
    build.args([
        "faketime",
        "-f",
        "+400d",
        env!("CARGO"),
        "run",
        "--quiet",
        "--locked",
        "-p",
        "xtask",
        "--",
        "build",
    ]);
    build.current_dir(&copy).env("ASTROMESH_CACHE", &cache).env("CARGO_TARGET_DIR", copy.join("target"));
    // Times of files stay the file system's: what is copied is compared by them.
    build.env("NO_FAKE_STAT", "1").env("TZ", "Asia/Kathmandu").env("USER", "somebody");
    build.env("RUSTC", compiler.join("rustc")).env("PATH", format!("{}:{path}", compiler.display()));
    build.env("LOCPATH", &locales).env("LC_ALL", format!("{LOCALE}.UTF-8")).env("LANG", LOCALE);
    checked(&mut build)?;
    Ok(Image::load(&copy.join("out/image.json"))?)
}

/// Makes a folder with a `rustc` that is not shown another day, and gives it. libfaketime hangs in rustc's allocator
/// (jemalloc asks for the time before the library is ready); everything else of the build is shown it, cargo, the
/// kernel's compiler and the tools that write file systems included.
fn real_time_rustc(place: &Path) -> Result<PathBuf> {
    let folder = place.join("bin");
    fs::create_dir_all(&folder)?;
    let wrapper = folder.join("rustc");
    let real = Path::new(env!("CARGO")).with_file_name("rustc");
    fs::write(&wrapper, format!("#!/bin/sh\nunset LD_PRELOAD\nexec '{}' \"$@\"\n", real.display()))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Every file that git knows or would add, as it lies in the work tree.
fn copy_project(to: &Path) -> Result<()> {
    let listed = Command::new("git")
        .current_dir(project())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("git can't be started: `cargo xtask repro` needs it")?;
    if !listed.status.success() {
        bail!("git can't list the project's files: is this a clone?");
    }
    for name in listed.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let (from, to) = (project().join(&name), to.join(&name));
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
        fs::copy(&from, &to).with_context(|| format!("{name} can't be copied"))?;
    }
    Ok(())
}

/// Demands equal digests; on a difference, names the first file that differs.
fn compare(first: &Image, second: &Image) -> Result<()> {
    let files = |image: &Image| -> [(&'static str, PathBuf); 9] {
        [
            ("kernel", image.kernel.clone()),
            ("init", image.init.clone()),
            ("preboot", image.preboot.clone()),
            ("initrd", image.initrd.clone()),
            ("root", image.root.clone()),
            ("verity", image.verity.clone()),
            ("UKI", image.uki.clone()),
            ("disk", image.disk.clone()),
            ("SBOM", image.root.with_file_name(sbom::NAME)),
        ]
    };
    for ((name, one), (_, two)) in files(first).into_iter().zip(files(second)) {
        let (one, two) = (sha256_file(&one)?, sha256_file(&two)?);
        println!("{name:8} {one} {}", if one == two { "=" } else { "differs" });
        if one != two {
            let file = match name {
                "root" => difference(&digests(&first.stage)?, &digests(&second.stage)?),
                _ => None,
            };
            let file =
                file.map_or_else(String::new, |file| format!("; the first file of it that differs: {file}"));
            bail!("two builds differ in the {name}{file}");
        }
    }
    Ok(())
}

/// Digest of each file below a directory, and the target of each link, by path.
fn digests(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let kind = fs::symlink_metadata(&path)?;
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_symlink() {
                found.insert(name, fs::read_link(&path)?.to_string_lossy().into_owned());
            } else {
                found.insert(name, sha256_file(&path)?);
            }
        }
    }
    Ok(found)
}

/// The first path that isn't the same on both sides.
fn difference(one: &BTreeMap<String, String>, two: &BTreeMap<String, String>) -> Option<String> {
    one.keys().chain(two.keys()).filter(|path| one.get(*path) != two.get(*path)).min().cloned()
}

fn checked(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can't be started", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}:\n{words}", command.get_program().to_string_lossy(), output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_differs_is_named_whichever_side_it_is_on() {
        let tree = |files: &[(&str, &str)]| -> BTreeMap<String, String> {
            files.iter().map(|&(path, sum)| (path.to_owned(), sum.to_owned())).collect()
        };
        let one = tree(&[("a", "1"), ("b", "2"), ("d", "4")]);
        assert_eq!(difference(&one, &one), None);
        assert_eq!(difference(&one, &tree(&[("a", "1"), ("b", "3"), ("d", "5")])), Some("b".to_owned()));
        let more = tree(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "5")]);
        assert_eq!(difference(&one, &more), Some("c".to_owned()));
        assert_eq!(difference(&more, &one), Some("c".to_owned()));
    }
}
