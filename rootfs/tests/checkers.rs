//! Promise: what the build leaves on a disk is sound for the checkers that everybody uses, and they see what is not.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_rootfs::check::{CheckError, Checkers, Left};
use astromesh_rootfs::lock::DebianLock;
use astromesh_rootfs::{Cache, Tools, disk, esp};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

fn tools() -> Tools {
    let cache = Cache::open(&Cache::default_path().unwrap()).unwrap();
    Tools::open(&cache, &DebianLock::load().unwrap(), &|_| ()).unwrap()
}

/// A disk like a release's around a root of one file.
fn assembled(dir: &Path) -> PathBuf {
    let path = |name: &str| dir.join(name);
    for (name, length) in [("preboot", 400), ("loader", 5000), ("uki", 100_000), ("verity", 4096)] {
        fs::write(path(name), vec![7; length]).unwrap();
    }
    let files = esp::Files {
        preboot: &path("preboot"),
        loader: &path("loader"),
        uki: &path("uki"),
        uki_name: "astromesh_1.efi",
    };
    esp::make(&files, &path("esp")).unwrap();
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("tree/file"), vec![b'a'; 100_000]).unwrap();
    let tools = tools();
    let mut mkfs = tools.command("usr/bin/mkfs.erofs");
    let made = mkfs.args(["-zlz4hc", "--quiet"]).arg(path("root")).arg(path("tree")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    disk::make_var(&tools, &path("var")).unwrap();
    let contents = disk::Contents {
        esp: &path("esp"),
        version: "1",
        root: &path("root"),
        root_partuuid: "00112233-4455-6677-8899-aabbccddeeff",
        verity: &path("verity"),
        verity_partuuid: "ffeeddcc-bbaa-9988-7766-554433221100",
        var: &path("var"),
    };
    disk::assemble(&contents, &path("disk")).unwrap();
    path("disk")
}

/// Inverts a byte of partition `number`, counted from 1, or of the whole disk.
fn flip(disk: &Path, number: Option<u32>, at: u64) {
    let start = number.map_or(0, |number| {
        let table = gpt::GptConfig::new().open(disk).unwrap();
        table.partitions()[&number].first_lba * 512
    });
    let file = File::options().read(true).write(true).open(disk).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, start + at).unwrap();
    file.write_all_at(&[!byte[0]], start + at).unwrap();
}

/// The checker that is not content.
fn refuses(checkers: &Checkers, disk: &Path, left: Left) -> &'static str {
    match checkers.disk(disk, left) {
        Err(CheckError::Judge { checker, .. }) => checker,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_as_it_is_built_is_sound_and_each_checker_sees_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = assembled(dir.path());
    let checkers = Checkers::open().unwrap();
    checkers.disk(&disk, Left::Whole).unwrap();
    checkers.disk(&disk, Left::PowerFailed).unwrap();

    // Twins: one byte each, which is put back.
    let length = fs::metadata(&disk).unwrap().len();
    for (number, at, checker) in [
        // The backup header's checksum.
        (None, length - 512 + 16, "sgdisk -v"),
        // An entry of the first FAT, which the second has otherwise.
        (Some(1), 96 << 10, "fsck.vfat"),
        // The magic number, which is compared before anything else.
        (Some(2), 1024, "fsck.erofs"),
        // The superblock's count of free blocks.
        (Some(6), 1024 + 12, "e2fsck"),
    ] {
        flip(&disk, number, at);
        assert_eq!(refuses(&checkers, &disk, Left::Whole), checker);
        flip(&disk, number, at);
    }
    checkers.disk(&disk, Left::Whole).unwrap();
}

#[test]
fn a_fat_that_was_in_use_is_sound_only_where_power_failed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = assembled(dir.path());
    let checkers = Checkers::open().unwrap();
    let table = gpt::GptConfig::new().open(&disk).unwrap();
    let state = table.partitions()[&1].first_lba * 512 + 65;
    File::options().write(true).open(&disk).unwrap().write_all_at(&[1], state).unwrap();
    assert_eq!(refuses(&checkers, &disk, Left::Whole), "fsck.vfat");
    checkers.disk(&disk, Left::PowerFailed).unwrap();
}

#[test]
fn twin_directories_as_the_library_writes_them_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fat");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    file.set_len(esp::SIZE).unwrap();
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(1024);
    fatfs::format_volume(&file, options).unwrap();
    let volume = fatfs::FileSystem::new(&file, fatfs::FsOptions::new()).unwrap();
    volume.root_dir().create_dir("EFI").unwrap();
    volume.stats().unwrap();
    volume.unmount().unwrap();
    let fsck = || tools().command("usr/sbin/fsck.vfat").arg("-n").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&fsck().stdout).into_owned();
    assert!(!fsck().status.success() && said.contains("Expected a valid '.' entry"), "{said}");
}
