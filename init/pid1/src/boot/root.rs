//! The root: found by its root hash, opened through dm-verity, mounted read-only, made `/`.
//!
//! The root hash comes on the kernel's command line. Everything follows from it: which partitions they are (their UUIDs are
//! its two halves) and what every block must be. Nothing here proves who put that hash there: nothing is signed yet. A root
//! that does not verify is never mounted; a block that turns out wrong later reboots the machine
//! (`restart_on_corruption`).

mod choice;
pub mod proof;

use super::stage::{Report, StageError};
use crate::ground::Groundwork;
use astromesh_node::disk::{self, Disk};
use astromesh_node::process::{PREFETCH, Process};
use astromesh_node::twin::{self, Twin};
use astromesh_node::view::STRICT;
use astromesh_sys::spawn::{Spawn, spawn};
use astromesh_verity::command_line::{self, CommandLineError};
use astromesh_verity::superblock::SuperblockError;
use astromesh_verity::{
    Device, PartitionUuids, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, Superblock, Uuid, VerityTable, device,
    find, partition_uuids,
};
use choice::{Choice, choose, partition_in_variable};
use proof::{VerifiedRoot, device_name};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long disks may take to appear; an emulated NVMe controller takes seconds.
const DISKS_APPEAR_WITHIN: Duration = Duration::from_secs(30);

/// The Boot Loader Interface's variable for the partition that the boot loader came from (systemd, "The Boot Loader
/// Interface").
const LOADER_PARTITION: &str = "/run/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The command line can't be read.
    #[error("/proc/cmdline can't be read: {0}")]
    ReadCommandLine(std::io::Error),
    /// It does not name exactly one root.
    #[error(transparent)]
    ParseCommandLine(#[from] CommandLineError),
    /// The partitions did not appear.
    #[error(
        "no disk has both partitions of root hash {hash} (PARTUUIDs {data} and {tree}); the disk belongs to another release"
    )]
    FindPartitions {
        /// The hash.
        hash: RootHash,
        /// PARTUUID of the data.
        data: Uuid,
        /// PARTUUID of the hash tree.
        tree: Uuid,
    },
    /// Two disks are as good as each other.
    #[error(
        "{disks} hold the release with root hash {hash}, and the boot loader's word doesn't tell which is the node's own; \
         attach the node's own disk alone"
    )]
    ChooseDisk {
        /// The hash.
        hash: RootHash,
        /// The disks.
        disks: String,
    },
    /// The superblock can't be read.
    #[error("the verity superblock on {0} can't be read; the disk is damaged")]
    ReadSuperblock(PathBuf),
    /// The superblock is not one.
    #[error("the verity superblock on {on} is refused: {cause}")]
    ParseSuperblock {
        /// The partition.
        on: PathBuf,
        /// Why.
        cause: SuperblockError,
    },
    /// The kernel did not open the device.
    #[error("dm-verity refused the root: {0}")]
    OpenVerity(#[from] device::DeviceError),
    /// The file system was not mounted.
    #[error(
        "the verified root can't be mounted: {0}; its first blocks don't match the root hash, or it is no EROFS"
    )]
    MountRoot(Errno),
    /// The new root could not be entered.
    #[error("the verified root can't become /: {0}")]
    SwitchRoot(Errno),
}

/// The stage.
pub fn run(work: &mut Groundwork) -> Result<Report, StageError> {
    let line = std::fs::read_to_string("/proc/cmdline").map_err(RootError::ReadCommandLine)?;
    let hash = command_line::parse(&line).map_err(RootError::ParseCommandLine)?;
    let (data, tree) = wait_for_partitions(&hash, work)?;

    let superblock = disk::read_start(&tree.device.to_string_lossy(), 512)
        .and_then(|bytes| <[u8; 512]>::try_from(bytes).ok())
        .ok_or_else(|| RootError::ReadSuperblock(tree.device.clone()))?;
    let superblock = Superblock::parse(&superblock)
        .map_err(|cause| RootError::ParseSuperblock { on: tree.device.clone(), cause })?;
    let table = VerityTable::new(data.number, tree.number, &superblock, hash);
    let node = if twin::is(Twin::NoVerity) {
        data.device.to_string_lossy().into_owned()
    } else {
        let device =
            Device::open_verity(&device_name(), superblock.uuid(), &table).map_err(RootError::OpenVerity)?;
        device.node().as_str().to_owned()
    };

    let source = CString::new(node).unwrap_or_default();
    let target = c"/root";
    match rustix::fs::mkdir(target, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(RootError::SwitchRoot(cause).into()),
    }
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount(source.as_c_str(), target, c"erofs", flags, c"").map_err(RootError::MountRoot)?;
    #[cfg(feature = "tree-in-memory")]
    cover_with_tree(target, flags).map_err(RootError::MountRoot)?;
    switch_root().map_err(RootError::SwitchRoot)?;

    let note = format!("{hash} on {}, verity, read-only", data.device.display());
    work.stand_on(VerifiedRoot::read_back(hash, data.disk)?);
    if cfg!(not(feature = "tree-in-memory")) {
        start_prefetch(work);
    }
    Ok(Report::done(&note))
}

/// Starts the read-ahead, once, without a cgroup, as its row says. PID 1 reaps it like any orphan.
fn start_prefetch(work: &Groundwork) {
    let fds = [work.null.as_fd(), work.kmsg.as_fd(), work.kmsg.as_fd()];
    let Process { name, namespaces, .. } = PREFETCH;
    let what = Spawn { name, argument: None, namespaces: namespaces.flags(), cgroup: None, fds: &fds };
    if let Err(error) = spawn(&what) {
        log::warn!("prefetch: {error}; the runtime starts more slowly");
    }
}

/// Puts the same tree, unpacked from the initramfs, over the verified root: what `cargo xtask bench start` compares
/// with. Nothing verifies it: no image but that bench's is built with this feature.
#[cfg(feature = "tree-in-memory")]
fn cover_with_tree(target: &std::ffi::CStr, flags: MountFlags) -> Result<(), Errno> {
    rustix::mount::mount_bind(c"/tree", target)?;
    rustix::mount::mount_remount(target, MountFlags::BIND | flags, c"")
}

/// A disk that holds the release.
struct Found {
    disk: String,
    data: disk::Partition,
    tree: disk::Partition,
    /// The PARTUUIDs of everything on it.
    partitions: Vec<Uuid>,
}

/// What a disk is to a node that looks for its release.
enum Look {
    /// It holds the release.
    Found(Found),
    /// Its table says so, and the kernel is still making its partitions.
    NotYet,
    /// It is something else, or doesn't answer.
    Other,
}

fn look_at(name: &str, wanted: &PartitionUuids) -> Look {
    let Some(whole) = Disk::open(name) else { return Look::Other };
    let Some(table) = whole.table() else { return Look::Other };
    let data = table.find(ROOT_X86_64, wanted.root);
    let (Some(data), Some(tree)) = (data, table.find(ROOT_X86_64_VERITY, wanted.verity)) else {
        return Look::Other;
    };
    let kernels = |entry: find::Partition| disk::by_number(name, entry.number);
    let (Some(data), Some(tree)) = (kernels(data), kernels(tree)) else { return Look::NotYet };
    let partitions = table.partitions().map(|entry| entry.unique_guid).collect();
    Look::Found(Found { disk: name.to_owned(), data, tree, partitions })
}

/// Waits until the partitions of the root are there, on a disk that is the node's own beyond doubt.
fn wait_for_partitions(
    hash: &RootHash,
    work: &Groundwork,
) -> Result<(disk::Partition, disk::Partition), RootError> {
    let wanted = partition_uuids(hash);
    let loader = partition_of_the_loader();
    let deadline = Instant::now() + DISKS_APPEAR_WITHIN;
    // Those that were read to no avail once: what is on a disk doesn't change, and one that doesn't answer costs seconds.
    let mut others = Vec::new();
    let mut found: Vec<Found> = Vec::new();
    loop {
        for name in disk::disks() {
            let is_known = others.contains(&name) || found.iter().any(|found| found.disk == name);
            // The kernel may find some yet.
            if is_known || !disk::has_partitions(&name) {
                continue;
            }
            match look_at(&name, &wanted) {
                Look::Found(disk) => found.push(disk),
                Look::NotYet => {}
                Look::Other => others.push(name),
            }
            work.pet();
        }
        let is_last = Instant::now() > deadline;
        let partitions: Vec<_> = found.iter().map(|found| found.partitions.clone()).collect();
        match choose(&partitions, loader, is_last) {
            Choice::Take(index) => {
                let taken = found.swap_remove(index);
                return Ok((taken.data, taken.tree));
            }
            Choice::Refuse => {
                let names: Vec<_> = found.iter().map(|found| found.disk.as_str()).collect();
                return Err(RootError::ChooseDisk { hash: *hash, disks: names.join(" and ") });
            }
            Choice::Wait if is_last => {
                return Err(RootError::FindPartitions {
                    hash: *hash,
                    data: wanted.root,
                    tree: wanted.verity,
                });
            }
            Choice::Wait => {}
        }
        work.pet();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The partition that the boot loader came from, by its own word; `None` where there was none, or no UEFI.
fn partition_of_the_loader() -> Option<Uuid> {
    // The folder is made for the job `slots`, which mounts the same there, in its own namespace.
    let folder = c"/run/efivars";
    mount(c"efivarfs", folder, c"efivarfs", MountFlags::RDONLY | STRICT, c"").ok()?;
    let variable = std::fs::read(LOADER_PARTITION).ok();
    if let Err(cause) = unmount(folder, UnmountFlags::DETACH) {
        log::warn!("root: the firmware's variables stay mounted: {cause}");
    }
    partition_in_variable(&variable?)
}

/// Moves the kernel's trees into `/root` and makes it `/`. The initramfs stays below, holding this binary.
fn switch_root() -> Result<(), Errno> {
    for (from, to) in
        [(c"/dev", c"/root/dev"), (c"/proc", c"/root/proc"), (c"/sys", c"/root/sys"), (c"/run", c"/root/run")]
    {
        mount_move(from, to)?;
    }
    rustix::process::chdir(c"/root")?;
    mount_move(c".", c"/")?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}
