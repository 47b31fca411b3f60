//! Promise: the bill of materials accounts for each file of the root, once, with its sums and its package.
//!
//! Each negative has its twin: a tree or a document that was tampered with, where exactly that must be told.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_rootfs::lock::DebianLock;
use astromesh_rootfs::origins::{Origin, Origins};
use astromesh_rootfs::sbom::{Licence, Sbom, SbomError, faults, root};
use astromesh_rootfs::{BuildOptions, build};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Built once for all tests of this file, or found in the cache.
fn stage() -> PathBuf {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let out = tempfile::tempdir().unwrap();
        let options = BuildOptions::new(out.path(), "0.0.0").unwrap();
        build(&options, &|line| eprintln!("{line}")).unwrap().stage
    };
    STAGE.get_or_init(build).clone()
}

fn document(stage: &Path) -> String {
    let mut sbom = Sbom::default();
    sbom.add(root::parts(stage, &DebianLock::load().unwrap()).unwrap());
    sbom.render(0).unwrap()
}

/// A writable copy of the tree and of what lies beside it.
fn copy(stage: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = format!("{}/.", stage.parent().unwrap().display());
    assert!(Command::new("cp").args(["-a", &from]).arg(dir.path()).status().unwrap().success());
    assert!(Command::new("chmod").args(["-R", "u+w"]).arg(dir.path()).status().unwrap().success());
    let stage = dir.path().join("root");
    (dir, stage)
}

#[test]
fn each_file_of_the_image_maps_to_one_entry_and_a_stray_one_is_told() {
    let stage = stage();
    let text = document(&stage);
    assert_eq!(faults(&text, &stage).unwrap(), Vec::<String>::new());
    assert_eq!(text, document(&stage), "two bills of one image differ");

    let (_dir, changed) = copy(&stage);
    fs::write(changed.join("usr/lib/stray.so"), "x").unwrap();
    fs::write(changed.join("etc/passwd"), "x").unwrap();
    fs::remove_file(changed.join("etc/group")).unwrap();
    let told = faults(&text, &changed).unwrap();
    let expected = [
        "etc/passwd: its SHA1 is not the entry's",
        "etc/passwd: its SHA256 is not the entry's",
        "usr/lib/stray.so: no entry",
        "etc/group: not in the image",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_file_without_a_package_or_with_two_entries_is_told() {
    let stage = stage();
    let text = document(&stage);
    let change = |change: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&text).unwrap();
        change(&mut document);
        faults(&document.to_string(), &stage).unwrap()
    };
    assert_eq!(change(&|_| ()), Vec::<String>::new());
    let orphan = change(&|document| {
        let id = document["files"][0]["SPDXID"].clone();
        let relationships = document["relationships"].as_array_mut().unwrap();
        relationships.retain(|one| one["relatedSpdxElement"] != id);
    });
    assert_eq!(orphan.len(), 1);
    assert!(orphan[0].ends_with("belongs to 0 packages"), "{orphan:?}");
    let twice = change(&|document| {
        let files = document["files"].as_array_mut().unwrap();
        files.push(files[0].clone());
    });
    assert_eq!(twice.len(), 1);
    assert!(twice[0].ends_with("2 entries"), "{twice:?}");
}

#[test]
fn a_file_of_a_package_that_is_in_no_lock_is_refused() {
    let stage = stage();
    let lock = DebianLock::load().unwrap();
    assert!(root::parts(&stage, &lock).is_ok());
    let (_dir, changed) = copy(&stage);
    let path = Origins::path_of(&changed);
    let mut record: Origins = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record.0.values_mut().next().unwrap().origin = Origin::Debian("unknown".to_owned());
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    assert!(matches!(root::parts(&changed, &lock), Err(SbomError::FindPackage { .. })));
}

#[test]
fn files_belong_to_the_packages_that_one_knows_them_of() {
    let parts = root::parts(&stage(), &DebianLock::load().unwrap()).unwrap();
    for (file, package) in [
        ("./root/usr/bin/python3.13", "debian-python3.13-minimal"),
        ("./root/usr/lib/x86_64-linux-gnu/libc.so.6", "debian-libc6"),
        ("./root/usr/lib/astromesh/site/fastapi/routing.pyc", "wheel-fastapi"),
        ("./root/usr/lib/astromesh/launch.pyc", "astromesh-os"),
        ("./root/etc/os-release", "astromesh-os"),
        ("./root/usr/share/astromesh/manifest.json", "astromesh-os"),
        ("./root/lib64", "astromesh-os"),
    ] {
        let owner = parts.iter().find(|part| part.files.iter().any(|one| one.name == file));
        assert_eq!(owner.unwrap().id, package, "{file}");
    }
}

#[test]
fn every_package_states_a_version_a_sum_an_address_and_a_licence() {
    // Its copyright file is a link into gcc-14-base, which is not in the image: there is nothing to quote.
    let without_text = ["debian-libgcc-s1"];
    let parts = root::parts(&stage(), &DebianLock::load().unwrap()).unwrap();
    assert!(parts.len() > 20);
    for part in parts.iter().filter(|part| part.id != "astromesh-os") {
        assert!(part.version.is_some() && part.purl.is_some(), "{part:?}");
        assert_eq!(part.sha256.as_ref().unwrap().len(), 64, "{part:?}");
        assert_eq!(part.licence == Licence::Unknown, without_text.contains(&part.id.as_str()), "{}", part.id);
    }
}
