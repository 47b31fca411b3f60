//! `cargo xtask sbom`: is the bill of materials in `out/` complete, and valid by a validator that others wrote.
//!
//! Apart from `sbom.rs`, which the image's build writes the bill with: the check builds an image where there is none.

use super::{BZIMAGE, INIT, NAME, UKI, file, output, path_beside};
use crate::progress::Progress;
use crate::{image, project};
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_qemu::node::Image;
use astromesh_rootfs::origins::Sums;
use astromesh_rootfs::{Cache, esp, sbom, sha256_hex};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command, and the step of the tests: the bill accounts for every file, and the validator accepts it.
pub fn check() -> Result<()> {
    let description = project().join("out/image.json");
    let image = if description.is_file() { Image::load(&description)? } else { image::build()? };
    let path = path_beside(&image);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} can't be read: run `cargo xtask build`", path.display()))?;
    let mut faults = sbom::faults(&text, &image.stage)?;
    let document: Value = serde_json::from_str(&text)?;
    for (name, sums) in boot_files(&image)? {
        if !states(&document, &name, &sums.sha256) {
            faults.push(format!("{name}: no entry with the sum that it has"));
        }
    }
    ensure!(faults.is_empty(), "the bill of materials is not the image's:\n{}", faults.join("\n"));

    let validator = install_validator()?;
    if let Some(complaint) = complaint(&validator, &path)? {
        bail!("the validator refuses {}:\n{complaint}", path.display());
    }
    // The twin: a validator that accepts anything would have accepted this too.
    let scratch = tempfile::tempdir()?;
    for (what, broken) in broken(&document) {
        let path = scratch.path().join(NAME);
        fs::write(&path, broken.to_string())?;
        ensure!(complaint(&validator, &path)?.is_some(), "the validator accepts a document with {what}");
    }
    let count = |list: &str| document[list].as_array().map_or(0, Vec::len);
    println!("{}: {} packages, {} files", path.display(), count("packages"), count("files"));
    Ok(())
}

/// The files of an image that are not in its root, `(name in the document, sums)`: the parts of the unified kernel
/// image, and what the boot partition of the finished disk holds.
fn boot_files(image: &Image) -> Result<Vec<(String, Sums)>> {
    let mut files = Vec::new();
    for (name, place) in [(BZIMAGE, &image.kernel), (INIT, &image.init)] {
        files.push((name.to_owned(), file((name, place))?.sums));
    }
    for (path, bytes) in esp::read(&image.disk)? {
        // The name of the unified kernel image has the version, and says nothing that the bill needs.
        let name = if path.starts_with("EFI/Linux/") { UKI.to_owned() } else { format!("./esp/{path}") };
        files.push((name, Sums::of(&bytes)));
    }
    Ok(files)
}

/// Whether the document has exactly one file of that name, with that SHA-256.
fn states(document: &Value, name: &str, sha256: &str) -> bool {
    let files = document["files"].as_array().map_or(&[][..], Vec::as_slice);
    let named: Vec<_> = files.iter().filter(|file| file["fileName"] == name).collect();
    let has_sum = |file: &Value| {
        let sums = file["checksums"].as_array().map_or(&[][..], Vec::as_slice);
        sums.iter().any(|sum| sum["algorithm"] == "SHA256" && sum["checksumValue"] == sha256)
    };
    matches!(named[..], [file] if has_sum(file))
}

/// The document with one field broken in each.
fn broken(document: &Value) -> Vec<(&'static str, Value)> {
    let change = |pointer: &str, value: &str| {
        let mut copy = document.clone();
        if let Some(field) = copy.pointer_mut(pointer) {
            *field = value.into();
        }
        copy
    };
    vec![
        ("a sum that is too short", change("/files/0/checksums/0/checksumValue", "abc")),
        ("a licence that there is none of", change("/packages/0/licenseDeclared", "Nobodys-1.0")),
        ("a relationship to nothing", change("/relationships/0/relatedSpdxElement", "SPDXRef-nothing")),
    ]
}

/// The directory of the validator, installed with pip from `sbom-validator.lock` if it is not in the cache.
fn install_validator() -> Result<PathBuf> {
    let lock = project().join("xtask/sbom-validator.lock");
    let cache = Cache::open(&Cache::default_path()?)?;
    // Compiled parts are for one version of Python.
    let python = output(Command::new("python3").arg("--version"))?;
    let pins = fs::read_to_string(&lock).with_context(|| format!("{} can't be read", lock.display()))?;
    let key = sha256_hex(format!("{python}\n{pins}").as_bytes());
    cache.directory("validators", &key[..32], |dir| {
        Progress::new().note("installing the validator of SPDX documents");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
        ]);
        pip.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--target"]).arg(dir);
        output(pip.arg("--requirement").arg(&lock)).map(drop)
    })
}

/// What the validator has against a document; `None` when it accepts it.
fn complaint(validator: &Path, document: &Path) -> Result<Option<String>> {
    let mut command = Command::new("python3");
    command.args(["-B", "-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile"]).arg(document);
    command.env("PYTHONPATH", validator).stdin(Stdio::null());
    let output = command.output().context("python3 can't be started: run `cargo xtask deps`")?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // A validator that fails for another reason refuses nothing.
    ensure!(
        output.status.success() || !text.contains("Traceback"),
        "the validator failed itself: remove `validators` from the cache and try again\n{text}"
    );
    Ok((!output.status.success()).then(|| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_counts_only_once_and_with_its_own_sum() {
        let entry =
            json!({ "fileName": "./a", "checksums": [{ "algorithm": "SHA256", "checksumValue": "1" }] });
        let document = json!({ "files": [entry] });
        assert!(states(&document, "./a", "1"));
        assert!(!states(&document, "./a", "2") && !states(&document, "./b", "1"));
        assert!(!states(&json!({ "files": [entry, entry] }), "./a", "1"));
    }
}
