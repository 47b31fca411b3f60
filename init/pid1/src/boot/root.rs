//! The root: found by its root hash, opened through dm-verity, mounted read-only, made `/`.
//!
//! The root hash comes on the kernel's command line. Everything follows from it: which partitions they are (their UUIDs are
//! its two halves) and what every block must be. Nothing here proves who put that hash there: nothing is signed yet. A root
//! that does not verify is never mounted; a block that turns out wrong later reboots the machine
//! (`restart_on_corruption`).

pub mod proof;

use super::stage::{Report, StageError};
use crate::ground::Groundwork;
use astromesh_node::disk;
use astromesh_node::process::{PREFETCH, Process};
use astromesh_sys::spawn::{Spawn, spawn};
use astromesh_verity::command_line::{self, CommandLineError};
use astromesh_verity::superblock::SuperblockError;
use astromesh_verity::{
    Device, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, Superblock, Uuid, VerityTable, device, partition_uuids,
};
use proof::{VerifiedRoot, device_name};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long disks may take to appear; an emulated NVMe controller takes seconds.
const DISKS_APPEAR_WITHIN: Duration = Duration::from_secs(30);

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
    let device =
        Device::open_verity(&device_name(), superblock.uuid(), &table).map_err(RootError::OpenVerity)?;

    let source = CString::new(device.node().as_bytes()).unwrap_or_default();
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

fn wait_for_partitions(
    hash: &RootHash,
    work: &Groundwork,
) -> Result<(disk::Partition, disk::Partition), RootError> {
    let wanted = partition_uuids(hash);
    let deadline = Instant::now() + DISKS_APPEAR_WITHIN;
    loop {
        for name in disk::disks() {
            let found = (
                disk::find(&name, |entry| entry.type_guid == ROOT_X86_64 && entry.unique_guid == wanted.root),
                disk::find(&name, |entry| {
                    entry.type_guid == ROOT_X86_64_VERITY && entry.unique_guid == wanted.verity
                }),
            );
            if let (Some(data), Some(tree)) = found {
                return Ok((data, tree));
            }
        }
        if Instant::now() > deadline {
            return Err(RootError::FindPartitions { hash: *hash, data: wanted.root, tree: wanted.verity });
        }
        work.pet();
        std::thread::sleep(Duration::from_millis(5));
    }
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
