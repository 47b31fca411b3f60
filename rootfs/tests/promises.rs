//! Promise: what is in the root image is what is meant to be there, and nothing in it can be run but the runtime and
//! the updater.
//!
//! Each negative has its twin: the same check on a copy of the tree that was tampered with, where it must fail.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_rootfs::lock::DebianLock;
use astromesh_rootfs::{BuildOptions, Cache, ErofsOptions, RootImage, Tools, audit, build, components, disk};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn image() -> (tempfile::TempDir, RootImage) {
    let out = tempfile::tempdir().unwrap();
    let options = BuildOptions::new(out.path(), "0.0.0").unwrap();
    let image = build(&options, &|line| eprintln!("{line}")).unwrap();
    (out, image)
}

/// A writable copy of the part of the tree that the checks need.
fn tampered(stage: &Path, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib/systemd", "usr/lib/astromesh/launch.pyc"] {
        let to = copy.path().join(part);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(stage.join(part)).arg(&to).status().unwrap().success());
        let mode = if to.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
    }
    change(copy.path());
    copy
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn every_executable_is_on_the_allow_list_and_a_shell_is_caught() {
    let (_out, image) = image();
    assert_eq!(audit::unexpected_executables(&image.stage).unwrap(), Vec::<PathBuf>::new());
    for allowed in audit::allowed_executables() {
        let file = image.stage.join(allowed.path.strip_prefix("/").unwrap());
        assert!(file.is_file(), "{allowed:?} is allowed but not there");
    }

    let by_mode = tampered(&image.stage, |root| write(&root.join("usr/bin/sh"), b"x", 0o755));
    assert_eq!(audit::unexpected_executables(by_mode.path()).unwrap(), [Path::new("/usr/bin/sh")]);
    let by_shebang = tampered(&image.stage, |root| write(&root.join("usr/bin/sh"), b"#!/x\n", 0o644));
    assert_eq!(audit::unexpected_executables(by_shebang.path()).unwrap(), [Path::new("/usr/bin/sh")]);
    let by_interpreter = tampered(&image.stage, |root| {
        fs::copy(root.join("usr/bin/python3.13"), root.join("usr/lib/renamed")).unwrap();
        fs::set_permissions(root.join("usr/lib/renamed"), Permissions::from_mode(0o444)).unwrap();
    });
    assert_eq!(
        audit::unexpected_executables(by_interpreter.path()).unwrap(),
        [Path::new("/usr/lib/renamed")]
    );
}

#[test]
fn nothing_is_setuid_or_writable() {
    let (_out, image) = image();
    assert_eq!(audit::loose_modes(&image.stage).unwrap(), Vec::<PathBuf>::new());

    for mode in [0o4555, 0o2555, 0o644] {
        let copy = tempfile::tempdir().unwrap();
        write(&copy.path().join("file"), b"x", mode);
        assert_eq!(audit::loose_modes(copy.path()).unwrap(), [Path::new("/file")], "{mode:o}");
    }
}

#[test]
fn every_library_that_a_file_asks_for_is_in_the_image() {
    let (_out, image) = image();
    assert_eq!(audit::unresolved_libraries(&image.stage).unwrap(), Vec::<(PathBuf, String)>::new());

    let copy = tampered(&image.stage, |root| {
        fs::remove_file(root.join("usr/lib/x86_64-linux-gnu/libz.so.1")).unwrap();
    });
    let missing = audit::unresolved_libraries(copy.path()).unwrap();
    assert!(missing.iter().any(|(file, library)| file.ends_with("python3.13") && library == "libz.so.1"));
    // A library that is found by the RUNPATH of who asks for it.
    let copy = tampered(&image.stage, |root| {
        let dir = root.join("usr/lib/x86_64-linux-gnu/systemd");
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        fs::rename(dir.join("libsystemd-shared-257.so"), root.join("usr/lib/libsystemd-shared-257.so"))
            .unwrap();
    });
    let missing = audit::unresolved_libraries(copy.path()).unwrap();
    assert!(missing.iter().any(|(file, _)| file.ends_with("systemd-sysupdate")), "{missing:?}");
}

/// The only programs beside the interpreter.
const UPDATER: [&str; 2] = ["usr/lib/systemd/systemd-sysupdate", "usr/lib/systemd/systemd-import"];

#[test]
fn what_is_weighed_as_the_updater_is_it_and_the_libraries_that_nothing_else_needs() {
    let (_out, image) = image();
    let files = audit::only_for(&image.stage, &UPDATER).unwrap();
    // libcrypto is the runtime's too.
    assert!(files.iter().any(|file| file.ends_with("libsystemd-shared-257.so")), "{files:?}");
    assert!(!files.iter().any(|file| file.ends_with("libcrypto.so.3")), "{files:?}");
    let bytes: u64 = files.iter().map(|file| fs::metadata(image.stage.join(file)).unwrap().len()).sum();
    assert_eq!(components(&image.stage).unwrap().sysupdate, bytes, "{files:?}");

    let neighbour = tampered(&image.stage, |root| {
        fs::copy(root.join(UPDATER[0]), root.join("usr/bin/another")).unwrap();
    });
    let files = audit::only_for(neighbour.path(), &UPDATER).unwrap();
    assert!(files.contains(Path::new(UPDATER[0])), "{files:?}");
    assert!(!files.iter().any(|file| file.ends_with("libsystemd-shared-257.so")), "{files:?}");
}

#[test]
fn the_updater_and_its_libraries_are_at_most_8_mb_compressed() {
    let (_out, image) = image();
    let (alone, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for file in audit::only_for(&image.stage, &UPDATER).unwrap() {
        let to = alone.path().join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(image.stage.join(&file), to).unwrap();
    }
    let cache = Cache::open(&Cache::default_path().unwrap()).unwrap();
    let tools = Tools::open(&cache, &DebianLock::load().unwrap(), &|_| ()).unwrap();
    let packed = out.path().join("sysupdate.erofs");
    ErofsOptions::default().make(&tools, alone.path(), &packed).unwrap();
    let bytes = fs::metadata(&packed).unwrap().len();
    eprintln!("the updater and its libraries: {bytes} bytes compressed");
    assert!(bytes <= 8_000_000, "{bytes} bytes");
}

#[test]
fn all_python_is_byte_code_that_never_looks_for_its_source() {
    let (_out, image) = image();
    assert_eq!(audit::stale_python(&image.stage).unwrap(), Vec::<PathBuf>::new());

    let launcher = "usr/lib/astromesh/launch.pyc";
    let checked = tampered(&image.stage, |root| {
        let mut bytes = fs::read(root.join(launcher)).unwrap();
        bytes[4] = 3;
        write(&root.join(launcher), &bytes, 0o444);
    });
    assert_eq!(audit::stale_python(checked.path()).unwrap(), [Path::new("/").join(launcher)]);
    let source = tampered(&image.stage, |root| write(&root.join("usr/bin/x.py"), b"", 0o444));
    assert_eq!(audit::stale_python(source.path()).unwrap(), [Path::new("/usr/bin/x.py")]);
}

#[test]
fn the_image_is_whole_blocks_of_erofs_within_its_size() {
    let (_out, image) = image();
    let bytes = fs::read(&image.erofs).unwrap();
    assert_eq!(bytes.len() % 4096, 0);
    // The superblock is at 1024 and starts with EROFS_SUPER_MAGIC_V1.
    assert_eq!(bytes[1024..1028], 0xE0F5_E1E2_u32.to_le_bytes());
    assert!(bytes.len() <= 26 << 20, "the root is {} bytes", bytes.len());
}

#[test]
fn the_manifest_names_a_licence_for_every_package_and_wheel() {
    let (_out, image) = image();
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(image.manifest).unwrap()).unwrap();
    for list in ["packages", "wheels"] {
        let items = manifest[list].as_array().unwrap();
        assert!(!items.is_empty());
        for item in items {
            let licences = item["licences"].as_array().unwrap();
            assert!(!licences.is_empty() && licences[0] != "not stated", "{item}");
        }
    }
}

#[test]
fn every_hot_file_is_in_the_image() {
    let (_out, image) = image();
    let list = fs::read_to_string(image.stage.join(astromesh_rootfs::HOT_FILES)).unwrap();
    assert!(list.lines().count() > 100);
    for path in list.lines() {
        assert!(image.stage.join(&path[1..]).is_file(), "{path}: run `hot::record` again");
    }
}

#[test]
#[ignore = "builds the image twice from nothing: a minute"]
fn two_builds_from_nothing_are_the_same_bytes() {
    let shared = Cache::default_path().unwrap();
    let build_in = |name: &str| {
        // Downloads are shared, since they are checked by their sums; everything built is made again.
        let cache = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        for kind in ["debs", "wheels"] {
            std::os::unix::fs::symlink(shared.join(kind), cache.path().join(kind)).unwrap();
        }
        let options = BuildOptions {
            cache: cache.path().into(),
            out: cache.path().join("out"),
            version: "0.0.0".into(),
            erofs: ErofsOptions::default(),
        };
        fs::read(build(&options, &|_| ()).unwrap().erofs).unwrap()
    };
    assert!(build_in("first-") == build_in("second-of-another-length-"), "two builds differ");
}

#[test]
fn an_empty_var_is_the_same_bytes_each_time_and_a_sound_file_system() {
    let cache = Cache::open(&Cache::default_path().unwrap()).unwrap();
    let tools = Tools::open(&cache, &DebianLock::load().unwrap(), &|_| ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    disk::make_var(&tools, &one).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    disk::make_var(&tools, &two).unwrap();
    let bytes = fs::read(&one).unwrap();
    assert!(bytes == fs::read(&two).unwrap(), "two empty file systems differ");
    assert_eq!(bytes.len(), 16 << 20);
    // ext4's magic number, and its label.
    assert_eq!(bytes[1024 + 0x38..1024 + 0x3a], [0x53, 0xef]);
    assert_eq!(&bytes[1024 + 0x78..1024 + 0x78 + 13], b"astromesh-var");
}
