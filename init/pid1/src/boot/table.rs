//! The partition of `/var` to the end of the disk: in the partition table, and in the kernel.
//!
//! An image is written to disks of any size. Both are compared with the disk at every boot and grown if they fall short, so
//! an interruption at any point is finished by the next boot, and a disk that is enlarged later is used as well. Nothing is
//! ever moved or shrunk. The order of the writes is [`astromesh_verity::grow`]'s. The file system follows once the boot is
//! over ([`super::grow`]).
//!
//! **Refuses** to write a table unless the disk is the one the verified root is on and `/var` its last partition. A node
//! whose disk can't be grown runs on what it has, and says so.

use astromesh_node::disk::{self, Disk};
use astromesh_sys::resize;
use astromesh_verity::grow::{GrownTable, to_disk_end};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What could not be grown.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table could not be written.
    #[error("the partition table of {disk} can't be written: {cause}; is the disk read-only?")]
    WriteTable {
        /// The disk.
        disk: String,
        /// Why.
        cause: Errno,
    },
    /// The kernel keeps the old length.
    #[error("the kernel does not take the new length of {device}: {cause}; it will at the next start")]
    ResizePartition {
        /// The partition.
        device: PathBuf,
        /// Why.
        cause: Errno,
    },
}

/// Makes partition `number` of `disk` reach to the disk's end, in the table and in the kernel.
pub fn grow(disk: &Disk, number: u32) -> Result<(), TableError> {
    let Some(table) =
        disk.table().and_then(|table| to_disk_end(&table, number, disk.sector_size, disk.sectors))
    else {
        return Ok(());
    };
    write_table(disk, &table).map_err(|cause| TableError::WriteTable { disk: disk.name.clone(), cause })?;
    let Some(partition) = disk::by_number(&disk.name, number) else { return Ok(()) };
    let sector = disk.sector_size.bytes() as u64;
    let (start, length) = (table.last.first_lba * sector, table.last.sectors() * sector);
    if bytes_of(&partition.device) == Some(length) {
        return Ok(());
    }
    open(Path::new("/dev").join(&disk.name).as_path(), OFlags::RDWR)
        .and_then(|whole| resize::partition(&whole, number, start, length))
        .map_err(|cause| TableError::ResizePartition { device: partition.device, cause })
}

/// Writes what differs, the backup first, each durable before the next.
fn write_table(disk: &Disk, table: &GrownTable) -> Result<(), Errno> {
    let (start, end) = (disk.start == table.primary, disk.end == table.backup);
    if start && end {
        return Ok(());
    }
    let device = open(Path::new("/dev").join(&disk.name).as_path(), OFlags::RDWR)?;
    for (same, at, bytes) in [(end, table.backup_start, &table.backup), (start, 0, &table.primary)] {
        if same {
            continue;
        }
        let mut written = 0;
        while written < bytes.len() {
            written += rustix::io::pwrite(&device, &bytes[written..], at + written as u64)?;
        }
        rustix::fs::fsync(&device)?;
    }
    Ok(())
}

/// Length of a block device as the kernel has it.
fn bytes_of(device: &Path) -> Option<u64> {
    let name = device.file_name()?.to_str()?;
    let sectors: u64 =
        std::fs::read_to_string(format!("/sys/class/block/{name}/size")).ok()?.trim().parse().ok()?;
    sectors.checked_mul(512)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}
