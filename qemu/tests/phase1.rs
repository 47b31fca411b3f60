//! Gate of phase 1: the image as a cloud has it. UEFI firmware starts it from a disk it knows nothing about, on each
//! bus and in each format. What a node makes of its disk is the part of the gate in `phase1_disk.rs`.
//!
//! What is asserted are facts: an HMAC that only the provider could make, the root hash in the device-mapper's table,
//! bytes of the disk after the machine is off, read by tools that aren't ours (the `gpt` crate, e2fsprogs, qemu-img).
//! Run by `cargo xtask gate phase1`, which builds the images.

mod booted;
#[path = "../../oci/tests/desk/mod.rs"]
mod desk;

use astromesh_oci::PullError;
use astromesh_qemu::{Disk, DiskFormat, DiskInterface, NicModel};
use booted::{GIB, Result, images, start};
use desk::server::Server;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release in one of its formats.
fn released(extension: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(&images().formats)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(&format!("-x86_64.{extension}")) {
            return Ok(path);
        }
    }
    Err(format!("no image .{extension}").into())
}

#[test]
fn the_raw_image_boots_under_uefi_and_answers_a_query() -> Result {
    let release = &images().release;
    let cloud = start(release.cloud_machine(Disk::new(released("raw")?).snapshot()), |nic| nic)?;
    cloud.is(release)?;
    cloud.answers()?;
    cloud.off()
}

#[test]
fn the_qcow2_image_boots_under_uefi_from_virtio_scsi_with_an_e1000e_and_answers_a_query() -> Result {
    let release = &images().release;
    let disk = Disk::new(released("qcow2")?).format(DiskFormat::Qcow2).interface(DiskInterface::VirtioScsi);
    let cloud = start(release.cloud_machine(disk.snapshot()), |nic| nic.model(NicModel::E1000e))?;
    cloud.is(release)?;
    cloud.answers()?;
    cloud.off()
}

#[test]
fn the_vhd_is_what_azure_takes_and_answers_a_query() -> Result {
    let release = &images().release;
    let path = released("vhd")?;
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let mut footer = [0; 512];
    file.read_exact_at(&mut footer, length - 512)?;
    let word = |at: usize| u32::from_be_bytes(footer[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_be_bytes(footer[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(&footer[..8], b"conectix");
    assert_eq!(
        (word(8), word(12), long(16)),
        (2, 0x0001_0000, u64::MAX),
        "features, version, no dynamic header"
    );
    assert_eq!((long(40), long(48)), (length - 512, length - 512), "original and current size");
    assert_eq!(long(48) % (1 << 20), 0, "Azure takes whole MiB");
    assert_eq!(word(60), 2, "fixed");
    let sum: u32 =
        footer.iter().enumerate().filter(|(at, _)| !(64..68).contains(at)).map(|(_, &b)| u32::from(b)).sum();
    assert_eq!(word(64), !sum, "checksum");
    let disk = Disk::new(path).format(DiskFormat::Vhd).interface(DiskInterface::VirtioScsi).snapshot();
    let cloud = start(release.cloud_machine(disk), |nic| nic)?;
    cloud.is(release)?;
    cloud.answers()?;
    cloud.off()
}

#[test]
fn the_vmdk_is_stream_optimized_and_answers_a_query_from_nvme() -> Result {
    let release = &images().release;
    let path = released("vmdk")?;
    let bytes = std::fs::read(&path)?;
    assert_eq!(&bytes[..4], b"KDMV");
    let flags = u32::from_le_bytes(bytes[8..12].try_into()?);
    assert_eq!(flags & 0x3_0000, 0x3_0000, "compressed grains, with markers");
    let capacity = u64::from_le_bytes(bytes[12..20].try_into()?) * 512;
    assert_eq!(capacity, std::fs::metadata(&release.disk)?.len());
    let head = String::from_utf8_lossy(&bytes[..1 << 16]).into_owned();
    assert!(head.contains("createType=\"streamOptimized\""));
    let disk = Disk::new(path).format(DiskFormat::Vmdk).interface(DiskInterface::Nvme).snapshot();
    let cloud = start(release.cloud_machine(disk), |nic| nic)?;
    cloud.is(release)?;
    cloud.answers()?;
    cloud.off()
}

/// Google's rule, field by field: QEMU boots no tar.
#[test]
fn the_tar_for_google_holds_one_disk_of_whole_gib_with_its_table_at_the_end() -> Result {
    let directory = tempfile::tempdir()?;
    let path = released("gce.tar.gz")?;
    let packed = std::fs::read(&path)?;
    assert_eq!(packed[..3], [0x1f, 0x8b, 8], "gzip");
    let plain = Command::new("gzip").arg("-dc").arg(&path).output()?.stdout;
    assert_eq!(&plain[257..265], b"ustar  \0", "the old GNU format");
    let list = Command::new("tar").arg("-tzf").arg(&path).output()?;
    assert_eq!(String::from_utf8(list.stdout)?, "disk.raw\n");
    assert!(Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(directory.path()).status()?.success());
    let disk = directory.path().join("disk.raw");
    let length = std::fs::metadata(&disk)?.len();
    assert_eq!(length % GIB, 0);
    let table = gpt::GptConfig::new().open(&disk)?;
    assert_eq!(table.primary_header()?.backup_lba, length / 512 - 1);
    assert!(table.backup_header().is_ok());
    // The same release: every partition as on the raw disk, byte for byte. The last of them reaches to the end of either.
    let release = gpt::GptConfig::new().open(&images().release.disk)?;
    assert_eq!(table.partitions().len(), release.partitions().len());
    for (number, partition) in release.partitions() {
        let mut there = table.partitions().get(number).ok_or("a partition is missing")?.clone();
        if partition.name == "var" {
            assert!(there.last_lba >= partition.last_lba);
            there.last_lba = partition.last_lba;
        }
        assert_eq!(there, *partition);
    }
    let (packed, raw) = (File::open(&disk)?, File::open(&images().release.disk)?);
    for partition in release.partitions().values() {
        let mut place = partition.first_lba * 512;
        let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        while place <= partition.last_lba * 512 {
            let piece = one.len().min(usize::try_from((partition.last_lba + 1) * 512 - place)?);
            packed.read_exact_at(&mut one[..piece], place)?;
            raw.read_exact_at(&mut two[..piece], place)?;
            assert!(one[..piece] == two[..piece], "{} differs at {place}", partition.name);
            place += piece as u64;
        }
    }
    Ok(())
}

#[test]
fn every_format_has_its_sum_and_the_same_disk_inside() -> Result {
    let sums = images().formats.join("SHA256SUMS");
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict"]).arg(&sums).current_dir(&images().formats);
    assert!(check.output()?.status.success());
    // Each file that is there has a line.
    let text = std::fs::read_to_string(&sums)?;
    let mut listed: Vec<_> =
        text.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
    listed.sort_unstable();
    let there = std::fs::read_dir(&images().formats)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut there = there.collect::<std::io::Result<Vec<_>>>()?;
    there.retain(|name| name != "SHA256SUMS");
    there.sort_unstable();
    assert_eq!(listed, there);
    let same = |path: &Path, format: &str| -> Result<bool> {
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-f", "raw", "-F", format]).arg(&images().release.disk).arg(path);
        Ok(compare.output()?.status.success())
    };
    for (extension, format) in [("raw", "raw"), ("qcow2", "qcow2"), ("vhd", "vpc"), ("vmdk", "vmdk")] {
        assert!(same(&released(extension)?, format)?, "{extension}");
    }
    // Twin: another disk is told apart.
    assert!(!same(&images().probe.disk, "raw")?);
    Ok(())
}

#[test]
fn the_one_file_that_firmware_starts_holds_kernel_initramfs_and_the_root_hash() -> Result {
    let release = &images().release;
    let directory = tempfile::tempdir()?;
    let section = |name: &str| -> Result<Vec<u8>> {
        let out = directory.path().join(name);
        let mut dump = Command::new("objcopy");
        dump.arg(format!("--dump-section={name}={}", out.display()))
            .arg(&release.uki)
            .arg(directory.path().join("rest"));
        let output = dump.output()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(std::fs::read(out)?)
    };
    assert_eq!(Sha256::digest(section(".linux")?), Sha256::digest(std::fs::read(&release.kernel)?));
    assert_eq!(Sha256::digest(section(".initrd")?), Sha256::digest(std::fs::read(&release.initrd)?));
    assert_eq!(String::from_utf8(section(".cmdline")?)?, release.cmdline());
    let version = String::from_utf8(section(".uname")?)?;
    assert!(version.starts_with("6.12."), "{version}");
    assert!(String::from_utf8(section(".osrel")?)?.contains("\nIMAGE_VERSION="));

    // It is what lies on the boot partition; preboot is where firmware looks, and the loader where preboot does.
    let disk = File::open(&release.disk)?;
    let table = gpt::GptConfig::new().open(&release.disk)?;
    let esp = table.partitions().get(&1).ok_or("no first partition")?;
    assert_eq!(esp.part_type_guid.guid.to_string().to_uppercase(), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    let length = usize::try_from((esp.last_lba - esp.first_lba + 1) * 512)?;
    let mut bytes = vec![0; length];
    disk.read_exact_at(&mut bytes, esp.first_lba * 512)?;
    let volume = fatfs::FileSystem::new(std::io::Cursor::new(bytes), fatfs::FsOptions::new())?;
    let read = |path: &str| -> Result<Vec<u8>> {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut volume.root_dir().open_file(path)?, &mut content)?;
        Ok(content)
    };
    for (place, file) in
        [("EFI/BOOT/BOOTX64.EFI", &release.preboot), ("EFI/systemd/systemd-bootx64.efi", &release.loader)]
    {
        assert_eq!(Sha256::digest(read(place)?), Sha256::digest(std::fs::read(file)?), "{place}");
    }
    let directory = volume.root_dir().open_dir("EFI/Linux")?;
    let images = directory.iter().collect::<std::result::Result<Vec<_>, _>>()?;
    let names: Vec<_> =
        images.iter().map(fatfs::DirEntry::file_name).filter(|name| !name.starts_with('.')).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let uki = read(&format!("EFI/Linux/{}", names[0]))?;
    assert_eq!(Sha256::digest(uki), Sha256::digest(std::fs::read(&release.uki)?));
    // Half of the partition is free with three such images.
    assert!(3 * std::fs::metadata(&release.uki)?.len() <= length as u64 / 2);
    Ok(())
}

#[test]
fn the_image_that_was_pushed_is_pulled_by_its_digest_verified_and_boots() -> Result {
    let release = &images().release;
    let registry = Server::start();
    let directory = tempfile::tempdir()?;
    let xtask = |arguments: &[&str]| -> Result<String> {
        let program = std::env::var("ASTROMESH_XTASK").expect("gates are run by `cargo xtask gate phase1`");
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "xtask {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let keys = directory.path().join("keys");
    xtask(&["keys", &keys.to_string_lossy()])?;
    let key = astromesh_oci::PublicKey::load(&keys.join("image.pub"))?;
    let said = xtask(&[
        "push",
        &registry.reference("astromesh-os:gate"),
        "--key",
        &keys.join("image.key").to_string_lossy(),
    ])?;
    let pinned = desk::refer(said.lines().next().ok_or("no digest")?);
    assert!(pinned.digest().is_some() && pinned.tag().is_none(), "{said}");

    // Twin: another key is refused, and nothing is written.
    let pulled = directory.path().join("pulled");
    let (_, stranger) = desk::pair();
    let refused = astromesh_oci::pull(&pinned, &[stranger], &pulled, &desk::options(), &mut |_| ());
    assert!(matches!(refused, Err(PullError::Verify(_))), "{refused:?}");
    assert!(desk::listing(&pulled).is_empty());

    let taken = astromesh_oci::pull(&pinned, &[key], &pulled, &desk::options(), &mut |_| ())?;
    assert_eq!(taken.verified.manifest().annotations["os.astromesh.root-hash"], release.root_hash);
    let sum = |path: &Path| -> Result<_> { Ok(Sha256::digest(std::fs::read(path)?)) };
    assert_eq!(sum(&pulled.join("astromesh.efi"))?, sum(&release.uki)?);
    assert_eq!(sum(&pulled.join("root.erofs"))?, sum(&release.root)?);
    assert_eq!(sum(&pulled.join("root.verity"))?, sum(&release.verity)?);
    assert!(desk::listing(&pulled).contains(&"sbom.spdx.json".to_owned()));

    let disk = pulled.join("disk.raw");
    let unpacked =
        Command::new("zstd").args(["-q", "-d", "--sparse"]).arg(pulled.join("disk.raw.zst")).output()?;
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let cloud = start(release.cloud_machine(Disk::new(&disk)), |nic| nic)?;
    cloud.is(release)?;
    cloud.answers()?;
    cloud.off()
}
