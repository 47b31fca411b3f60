//! `/var`: the only place where the node keeps anything, shared by both slots.
//!
//! On the root's own disk, by its discoverable-partition type; never executable, never a device, never setuid. Its partition
//! grows to the disk's end here ([`super::table`]), its file system once the boot is over ([`super::grow`]). A node without
//! it runs from memory and says so: what it keeps is lost at the next start.

use super::stage::{Report, StageError};
use super::{directory, table};
use crate::ground::Ground;
use crate::node::Node;
use astromesh_node::disk::{self, Disk};
use astromesh_node::ext4::Ext4;
use astromesh_node::process;
use astromesh_node::view::STRICT;
use astromesh_verity::Uuid;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::path::Path;

/// Why there is no `/var` at all.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not even memory could be mounted.
    #[error("/var can't be mounted, not even in memory: {0}")]
    MountMemory(Errno),
    /// The runtime's directory could not be made.
    #[error("{path} can't be made: {cause}; /var may be full or damaged")]
    MakeDirectory {
        /// The directory.
        path: String,
        /// Why.
        cause: Errno,
    },
}

/// Type of the partition, by the Discoverable Partitions Specification.
const VAR: Uuid = Uuid::from_u128(0x4d21_b016_b534_45c2_a9fb_5c16_e091_fd2d);

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    let disk = Disk::open(ground.root().disk());
    let number = disk
        .as_ref()
        .and_then(|disk| disk.table()?.partitions().find(|entry| entry.type_guid == VAR))
        .map(|entry| entry.number);
    let (partition, grown) = match (&disk, number) {
        (Some(disk), Some(number)) => (disk::by_number(&disk.name, number), table::grow(disk, number)),
        _ => (None, Ok(())),
    };
    let mounted = partition.as_ref().map(|partition| mount_var(&partition.device));
    node.var = match (&partition, &mounted) {
        (Some(partition), Some(Ok(()))) => Some(partition.device.clone()),
        _ => None,
    };
    if node.var.is_none() {
        mount(c"tmpfs", c"/var", c"tmpfs", STRICT, c"mode=0755,size=64m").map_err(StateError::MountMemory)?;
    }
    let owned = process::directories("/var/lib/").map(|(directory, id)| (directory.path, id, directory.mode));
    for (path, owner, mode) in core::iter::once((c"/var/lib", 0, 0o755)).chain(owned) {
        directory::make(path, owner, mode).map_err(|cause| StateError::MakeDirectory {
            path: path.to_string_lossy().into_owned(),
            cause,
        })?;
    }
    Ok(match (partition, mounted) {
        (Some(partition), Some(Ok(()))) => {
            let device = partition.device.display();
            match grown {
                Ok(()) => Report::done(&format!("/var on {device}")),
                Err(cause) => Report::degraded(&format!("/var on {device}; {cause}")),
            }
        }
        (Some(partition), Some(Err(cause))) => Report::degraded(&format!(
            "/var in memory: {} can't be mounted ({cause}); what the node keeps is lost at the next start",
            partition.device.display()
        )),
        _ => Report::degraded("/var in memory: the disk has no var partition"),
    })
}

/// Mounts it, and once more where replaying its journal has changed its shape: power failed in a step of growing it.
///
/// The kernel takes the number of block groups from the superblock before it replays the journal, and the length of the file
/// system from the superblock after it (`ext4_fill_super()`, `ext4_flex_group_add()` in Linux 6.12). Where the two disagree,
/// a file in the new groups is an error, and the next step of growing is a `BUG()`. The second mount has nothing to replay.
fn mount_var(device: &Path) -> Result<(), Errno> {
    let source = CString::new(device.to_string_lossy().as_bytes()).unwrap_or_default();
    let file = rustix::fs::open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // What is reserved is for user 0, which `slots` is, and for `update`: an agent that fills /var keeps no update away.
    let options =
        CString::new(format!("errors=remount-ro,resgid={}", process::UPDATE.id)).unwrap_or_default();
    let mount_it = || mount(source.as_c_str(), c"/var", c"ext4", STRICT, options.as_c_str());
    let before = Ext4::read(&file);
    mount_it()?;
    if Ext4::read(&file) == before {
        return Ok(());
    }
    log::warn!("state: power failed while /var grew; it is mounted once more, with its new length");
    unmount(c"/var", UnmountFlags::empty())?;
    mount_it()
}
