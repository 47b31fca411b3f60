//! Gate of phase 1, the disk: `/var` grows to the end of whatever disk there is, in steps and while the node serves; power may
//! fail at any moment meanwhile; and what is on the disk afterwards is sound for the checkers that everybody uses.
//!
//! What is asserted are bytes of the disk after the machine is off, read by tools that aren't ours. Run by
//! `cargo xtask gate phase1`. `ASTROMESH_DISK_TIB=64` has the disk that is cut three times as large as that, in the folder for
//! temporary files: `TMPDIR` must then be where a file may be so long, such as on a tmpfs.

mod booted;

use astromesh_qemu::node::{Delivery, Image, PROVIDER_NAME, Setup, board, network};
use astromesh_qemu::{Disk, Provider, Vm, VmBuilder, relay_path, tamper};
use astromesh_rootfs::check::{Checkers, Left};
use astromesh_rootfs::lock::DebianLock;
use astromesh_rootfs::{Cache, Tools};
use astromesh_verity::grow::to_disk_end;
use astromesh_verity::{Gpt, SectorSize};
use booted::{GIB, Result, SOON, images, start};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A copy of an image's disk on a medium of `size` bytes.
fn larger(image: &Image, size: u64) -> Result<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("disk.raw");
    tamper::copy_image(&image.disk, &path)?;
    File::options().write(true).open(&path)?.set_len(size)?;
    Ok((directory, path))
}

/// `/var` of a disk that is off, by tools that aren't ours: both tables, the partition up to the last whole MiB, and a
/// clean file system that fills it; everything else on the disk is sound, too. Returns its bytes.
fn var_fills(disk: &Path) -> Result<u64> {
    let length = std::fs::metadata(disk)?.len();
    let table = gpt::GptConfig::new().open(disk)?;
    let (primary, backup) = (table.primary_header()?.clone(), table.backup_header()?.clone());
    assert_eq!(primary.backup_lba, length / 512 - 1);
    assert_eq!((backup.current_lba, backup.crc32_parts), (primary.backup_lba, primary.crc32_parts));
    let var = table.partitions().values().find(|partition| partition.name == "var").ok_or("no /var")?.clone();
    assert_eq!((var.last_lba + 1) * 512, length - (1 << 20), "up to the MiB that holds the backup table");

    Checkers::open()?.disk(disk, Left::Whole)?;
    let bytes = (var.last_lba - var.first_lba + 1) * 512;
    assert_eq!(ext4_bytes(disk)?, bytes);
    Ok(bytes)
}

/// Where `/var` begins on every disk of an image, in bytes.
fn var_start(disk: &Path) -> Result<u64> {
    let table = gpt::GptConfig::new().open(disk)?;
    let var = table.partitions().values().find(|partition| partition.name == "var");
    Ok(var.ok_or("no /var")?.first_lba * 512)
}

/// How long the file system on `/var` is, by its superblock as it lies on the disk.
fn ext4_bytes(disk: &Path) -> Result<u64> {
    ext4_bytes_at(&File::open(disk)?, var_start(disk)?)
}

fn ext4_bytes_at(disk: &File, start: u64) -> Result<u64> {
    let mut superblock = [0; 1024];
    disk.read_exact_at(&mut superblock, start + 1024)?;
    let word =
        |at: usize| u64::from(u32::from_le_bytes(superblock[at..at + 4].try_into().expect("four bytes")));
    Ok((word(0x150) << 32 | word(4)) * 4096)
}

/// A node on this disk that is only switched on.
fn switched_on(image: &Image, disk: &Path) -> Result<Vm> {
    let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let machine = image.machine_with_disk(Disk::new(disk).sparse()).nic(network(&relay_path()?));
    Ok(setup.deliver(machine, Delivery::Smbios).start()?)
}

#[test]
fn what_the_build_leaves_is_sound_for_every_checker() -> Result {
    Checkers::open()?.disk(&images().release.disk, Left::Whole)?;
    Ok(())
}

#[test]
fn var_grows_to_the_end_of_a_larger_disk_and_keeps_what_was_there() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, std::fs::metadata(&probe.disk)?.len())?;

    // As built, something is kept.
    let cloud = start(probe.cloud_machine(Disk::new(&path)), |nic| nic)?;
    let kept = cloud.probe("keep")?;
    assert_eq!(kept["bytes"], 3 << 20);
    let small = kept["room"].as_u64().ok_or("no room told")?;
    cloud.off()?;
    assert_eq!(var_fills(&path)?, 16 << 20);

    // The same disk, larger: the file system is too, and what was kept is there.
    File::options().write(true).open(&path)?.set_len(20 * GIB)?;
    let cloud = start(probe.cloud_machine(Disk::new(&path)), |nic| nic)?;
    cloud.is(probe)?;
    let later = cloud.probe("kept")?;
    assert_eq!(later["sha256"], kept["sha256"]);
    assert!(later["room"].as_u64() > Some(19 * GIB) && small < 16 << 20, "{later}");
    cloud.off()?;
    assert!(var_fills(&path)? > 19 * GIB);
    Ok(())
}

#[test]
fn power_that_failed_while_the_table_was_written_costs_nothing() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, 2 * GIB)?;
    // What a node writes, up to the middle of the primary table: the backup is whole, the primary's header belongs to
    // other entries.
    let disk = File::options().read(true).write(true).open(&path)?;
    let mut start_of_disk = vec![0; SectorSize::B512.table_bytes()];
    disk.read_exact_at(&mut start_of_disk, 0)?;
    let gpt = Gpt::parse(&start_of_disk, SectorSize::B512)?;
    let table = to_disk_end(&gpt, 6, SectorSize::B512, 2 * GIB / 512).ok_or("not grown")?;
    disk.write_all_at(&table.backup, table.backup_start)?;
    disk.write_all_at(&table.primary[1024..], 1024)?;
    disk.sync_all()?;
    // Somebody else's reader agrees that it is torn.
    assert!(gpt::GptConfig::new().open(&path).is_err());

    boots_and_is_sound(probe.cloud_machine(Disk::new(&path)), &path)
}

#[test]
fn a_node_killed_while_it_grows_finishes_at_its_next_boot() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, 4 * GIB)?;
    let before = std::fs::read(&probe.disk)?[..SectorSize::B512.table_bytes()].to_vec();
    let mut vm = switched_on(probe, &path)?;
    // The table is the first thing that changes; the plug is pulled as soon as it has.
    let deadline = Instant::now() + SOON;
    let mut now = before.clone();
    while now == before {
        assert!(Instant::now() < deadline && vm.is_running(), "{}", vm.serial().tail());
        std::thread::sleep(Duration::from_millis(1));
        File::open(&path)?.read_exact_at(&mut now, 0)?;
    }
    vm.kill();
    drop(vm);

    boots_and_is_sound(probe.machine_with_disk(Disk::new(&path)), &path)
}

/// A machine with the probe's disk at `path` boots it, and leaves table and file systems sound, `/var` to the end.
fn boots_and_is_sound(machine: VmBuilder, path: &Path) -> Result {
    let cloud = start(machine, |nic| nic)?;
    cloud.is(&images().probe)?;
    cloud.off()?;
    var_fills(path).map(drop)
}

/// Kernel and node read the backup: without the word `gpt` on the command line, the kernel has no partition where the primary
/// header is gone. No firmware is there to mend it first.
#[test]
fn a_disk_whose_primary_header_is_gone_boots_from_the_backup_and_has_both_again() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, std::fs::metadata(&probe.disk)?.len())?;
    File::options().write(true).open(&path)?.write_all_at(&[0; 512], 512)?;
    boots_and_is_sound(probe.machine_with_disk(Disk::new(&path)), &path)
}

#[test]
fn a_disk_of_terabytes_is_cut_three_times_while_it_grows_and_ends_whole() -> Result {
    let probe = &images().probe;
    let tebibytes = std::env::var("ASTROMESH_DISK_TIB").map_or(Ok(2), |text| text.parse::<u64>())?;
    let size = tebibytes << 40;
    let (_directory, path) = larger(probe, size)?;
    let start_of_var = var_start(&path)?;
    let disk = File::open(&path)?;
    let mut length = ext4_bytes_at(&disk, start_of_var)?;
    for cut in 1..=3 {
        let mut vm = switched_on(probe, &path)?;
        let deadline = Instant::now() + SOON;
        // A step further than before, and then somewhere in the next ones.
        while ext4_bytes_at(&disk, start_of_var)? <= length {
            assert!(Instant::now() < deadline && vm.is_running(), "{}", vm.serial().tail());
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(150 * cut));
        vm.kill();
        let console = vm.serial().log();
        assert!(!console.contains("Kernel panic") && !console.contains("kernel BUG"), "{console}");
        length = ext4_bytes_at(&disk, start_of_var)?;
        assert!(length < size - (1 << 40), "it was to be cut while it grows, and has {length} bytes");
        println!("cut {cut}: {} GiB", length >> 30);
    }
    let cloud = start(probe.machine_with_disk(Disk::new(&path).sparse()), |nic| nic)?;
    let stages = cloud.grown()?;
    println!("{}", stages.iter().find(|stage| stage.name == "grow").ok_or("no stage grow")?.note);
    cloud.is(probe)?;
    cloud.off()?;
    var_fills(&path)?;
    Ok(())
}

/// What `state` may take with it, in percent of what the kernel took before PID 1 in the same boot: wall time on a busy host
/// decides nothing. It takes about 0.57 s then, a third of the kernel's share; on a small disk 0.1 s.
const MOST_PERCENT: u64 = 75;

/// Mounting a file system means reading about each of its block groups, and the boot waits for it.
#[test]
fn a_file_system_of_8_tib_adds_little_to_the_boot() -> Result {
    let probe = &images().probe;
    let size = 8 << 40;
    let (_directory, path) = larger(probe, size)?;
    let start_of_var = var_start(&path)?;
    // As a node's is that has grown: the descriptors of each 8 GiB lie there. What it begins with is not zeroed again.
    let mut mkfs = tool("usr/sbin/mkfs.ext4")?;
    mkfs.env("MKE2FS_CONFIG", "/dev/null").args(["-q", "-F", "-b", "4096", "-G", "1024", "-N", "268435456"]);
    mkfs.args(["-O", "extent,64bit,flex_bg,metadata_csum,sparse_super,meta_bg,^resize_inode,has_journal"]);
    mkfs.args(["-E", &format!("offset={start_of_var},lazy_itable_init=1,lazy_journal_init=1")]).arg(&path);
    let made = mkfs.arg(format!("{}k", (size - start_of_var - (1 << 20)) >> 10)).output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let cloud = start(probe.machine_with_disk(Disk::new(&path).sparse()), |nic| nic)?;
    cloud.is(probe)?;
    let stages = cloud.node.boot()?;
    let state = stages.iter().find(|stage| stage.name == "state").ok_or("no stage state")?;
    let kernel = stages.iter().find(|stage| stage.name == "kernel").ok_or("no stage kernel")?;
    println!("state: {} ms, {}; kernel: {} ms", state.took_us / 1000, state.note, kernel.took_us / 1000);
    assert!(state.took_us * 100 < kernel.took_us * MOST_PERCENT, "{state:?} after {kernel:?}");
    cloud.off()
}

/// A program of the tools that make the image.
fn tool(program: &str) -> Result<Command> {
    let cache = Cache::open(&Cache::default_path()?)?;
    Ok(Tools::open(&cache, &DebianLock::load()?, &|_| ())?.command(program))
}

/// Puts onto the disk what power leaves that fails in a step of growing: the file system has `size` bytes, its superblock and
/// descriptors are those of before, and the journal has the new ones.
fn fails_in_a_step(disk: &Path, size: u64) -> Result {
    const BLOCK: usize = 4096;
    /// Superblock, descriptors, what is kept free for more of them, and the bitmap of the first group.
    const CHANGED: usize = 4 * BLOCK;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let run = |command: &mut Command| -> Result {
        let output = command.stdin(Stdio::null()).output()?;
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let target = File::options().read(true).write(true).open(disk)?;
    let start = var_start(disk)?;
    let mut before = vec![0; 16 << 20];
    target.read_exact_at(&mut before, start)?;
    std::fs::write(path("var"), &before)?;
    File::options().write(true).open(path("var"))?.set_len(size)?;
    // resize2fs wants a file system that was checked.
    run(tool("usr/sbin/e2fsck")?.arg("-fy").arg(path("var")))?;
    run(tool("usr/sbin/resize2fs")?.arg(path("var")))?;
    let grown = File::options().read(true).write(true).open(path("var"))?;
    let mut after = vec![0; CHANGED];
    grown.read_exact_at(&mut after, 0)?;
    std::fs::write(path("changed"), &after)?;
    grown.write_all_at(&before[..CHANGED], 0)?;
    let commands =
        format!("journal_open\njournal_write -b 0-3 {}\njournal_close\n", path("changed").display());
    std::fs::write(path("commands"), commands)?;
    run(tool("usr/sbin/debugfs")?.arg("-w").arg("-f").arg(path("commands")).arg(path("var")))?;
    let (mut piece, zeros) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for place in (0..size).step_by(piece.len()) {
        grown.read_exact_at(&mut piece, place)?;
        if piece != zeros {
            target.write_all_at(&piece, start + place)?;
        }
    }
    Ok(())
}

#[test]
fn power_that_failed_in_a_step_of_growing_costs_nothing_and_the_next_boot_goes_on() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, 6 * GIB)?;
    let before = ext4_bytes(&path)?;
    fails_in_a_step(&path, 2 * GIB)?;
    assert_eq!(ext4_bytes(&path)?, before, "the new length is in the journal alone");
    let cloud = start(probe.machine_with_disk(Disk::new(&path)), |nic| nic)?;
    cloud.is(probe)?;
    // Replayed, mounted again, and grown from there.
    let console = cloud.node.vm.serial().log();
    assert!(console.contains("power failed while /var grew"), "{console}");
    assert!(console.contains("/var grown from 2048 to"), "{console}");
    cloud.off()?;
    assert!(var_fills(&path)? > 5 * GIB);
    Ok(())
}

/// A copy of the image's disk whose boot partition has another PARTUUID, as a node has that was installed from another image.
fn another_nodes_disk(image: &Image) -> Result<(tempfile::TempDir, PathBuf)> {
    let (directory, path) = larger(image, std::fs::metadata(&image.disk)?.len())?;
    let mut table = gpt::GptConfig::new().writable(true).open(&path)?;
    let mut partitions = table.partitions().clone();
    let esp = partitions.get_mut(&1).ok_or("no boot partition")?;
    esp.part_guid = "0f0f0f0f-0000-4000-8000-000000000001".parse()?;
    table.update_partitions(partitions)?;
    table.write()?;
    Ok((directory, path))
}

#[test]
fn of_two_disks_with_the_release_the_one_that_the_boot_loader_came_from_is_the_nodes_own() -> Result {
    let probe = &images().probe;
    let (_other_directory, other) = another_nodes_disk(probe)?;
    let (_directory, own) = larger(probe, std::fs::metadata(&probe.disk)?.len())?;
    // The kernel finds the other one first.
    let machine = board().uefi().disk(Disk::new(other)).disk(Disk::new(own).boot());
    let cloud = start(machine, |nic| nic)?;
    cloud.is(probe)?;
    let stages = cloud.node.boot()?;
    let state = stages.iter().find(|stage| stage.name == "state").ok_or("no stage state")?;
    assert_eq!(state.note, "/var on /dev/vdb6");
    cloud.off()
}

#[test]
fn of_two_copies_of_a_disk_none_is_taken_and_both_are_named() -> Result {
    let probe = &images().probe;
    let (_directory, path) = larger(probe, std::fs::metadata(&probe.disk)?.len())?;
    let machine = probe.machine_with_disk(Disk::new(&probe.disk).snapshot()).disk(Disk::new(path));
    let vm = machine.start()?;
    vm.serial().expect("root: vda and vdb hold the release with root hash", SOON)?;
    vm.serial().expect("attach the node's own disk alone", SOON)?;
    Ok(())
}
