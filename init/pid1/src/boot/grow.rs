//! `/var` to the end of the disk: partition table, partition, file system.
//!
//! An image is written to disks of any size. Each of the three is compared with the disk at every boot and grown if it
//! falls short, so an interruption at any point is finished by the next boot, and a disk that is enlarged later is used
//! as well. Nothing is ever moved or shrunk. The order of the writes is [`astromesh_verity::grow`]'s; the file system is
//! grown by the kernel, mounted, through its journal.
//!
//! **Refuses** to write a table unless the disk is the one the verified root is on and `/var` its last partition. A node
//! whose disk can't be grown runs on what it has, and says so.

use astromesh_node::disk::{self, Disk, Partition};
use astromesh_sys::resize;
use astromesh_verity::grow::{GrownTable, to_disk_end};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What could not be grown.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
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
    /// The file system can't be read.
    #[error("{0} holds no ext4 superblock")]
    ReadSuperblock(PathBuf),
    /// The file system stays as it is.
    #[error("the file system on /var can't be grown: {0}; read the kernel's lines in `astromeshctl logs`")]
    ResizeFileSystem(Errno),
}

/// A length in MiB, before and after.
#[derive(Debug, Clone, Copy)]
pub struct Grown {
    from: u64,
    to: u64,
}

impl fmt::Display for Grown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grown from {} to {} MiB", self.from >> 20, self.to >> 20)
    }
}

/// Makes partition `number` of `disk` reach to the disk's end, in the table and in the kernel.
pub fn partition(disk: &Disk, number: u32) -> Result<(), GrowError> {
    let Some(table) =
        disk.table().and_then(|table| to_disk_end(&table, number, disk.sector_size, disk.sectors))
    else {
        return Ok(());
    };
    write_table(disk, &table).map_err(|cause| GrowError::WriteTable { disk: disk.name.clone(), cause })?;
    let Some(partition) = disk::by_number(&disk.name, number) else { return Ok(()) };
    let sector = disk.sector_size.bytes() as u64;
    let (start, length) = (table.last.first_lba * sector, table.last.sectors() * sector);
    if bytes_of(&partition.device) == Some(length) {
        return Ok(());
    }
    open(Path::new("/dev").join(&disk.name).as_path(), OFlags::RDWR)
        .and_then(|whole| resize::partition(&whole, number, start, length))
        .map_err(|cause| GrowError::ResizePartition { device: partition.device, cause })
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

/// Makes the ext4 on `partition`, mounted at `/var`, as long as its partition; tells when it was shorter.
pub fn file_system(partition: &Partition) -> Result<Option<Grown>, GrowError> {
    let size = disk::read_start(&partition.device.to_string_lossy(), SUPERBLOCK_END)
        .and_then(|bytes| Ext4Size::parse(&bytes))
        .ok_or_else(|| GrowError::ReadSuperblock(partition.device.clone()))?;
    let blocks = bytes_of(&partition.device).unwrap_or_default() / size.block;
    if blocks <= size.blocks {
        return Ok(None);
    }
    open(Path::new("/var"), OFlags::RDONLY)
        .and_then(|var| resize::ext4(&var, blocks))
        .map_err(GrowError::ResizeFileSystem)?;
    Ok(Some(Grown { from: size.blocks * size.block, to: blocks * size.block }))
}

/// Where an ext4 superblock ends.
const SUPERBLOCK_END: usize = 2048;

/// How long an ext4 is, by its superblock (fs/ext4/ext4.h, `struct ext4_super_block`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ext4Size {
    /// Bytes in a block.
    block: u64,
    /// Blocks in the file system.
    blocks: u64,
}

impl Ext4Size {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let superblock = bytes.get(1024..SUPERBLOCK_END)?;
        let word = |at: usize| {
            superblock.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
        };
        if superblock.get(56..58)? != [0x53, 0xef] {
            return None;
        }
        let block = 1024_u64.checked_shl(word(24)?).filter(|block| (1024..=65536).contains(block))?;
        let wide = word(96)? & INCOMPAT_64BIT != 0;
        let high = if wide { u64::from(word(0x150)?) } else { 0 };
        Some(Self { block, blocks: high << 32 | u64::from(word(4)?) })
    }
}

/// Block counts have an upper half.
const INCOMPAT_64BIT: u32 = 0x80;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(blocks: u32, log_block: u32, features: u32, high: u32) -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK_END];
        for (at, value) in [(4, blocks), (24, log_block), (96, features), (0x150, high)] {
            bytes[1024 + at..1024 + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
        bytes
    }

    #[test]
    fn the_length_is_blocks_times_their_size_and_the_upper_half_counts_only_with_its_feature() {
        let parsed = Ext4Size::parse(&superblock(4096, 2, INCOMPAT_64BIT, 1)).unwrap();
        assert_eq!(parsed, Ext4Size { block: 4096, blocks: (1 << 32) + 4096 });
        let parsed = Ext4Size::parse(&superblock(4096, 0, 0, 1)).unwrap();
        assert_eq!(parsed, Ext4Size { block: 1024, blocks: 4096 });
    }

    #[test]
    fn what_is_no_ext4_has_no_length() {
        assert_eq!(Ext4Size::parse(&vec![0; SUPERBLOCK_END]), None);
        assert_eq!(Ext4Size::parse(&superblock(1, 2, 0, 0)[..SUPERBLOCK_END - 1]), None);
        for log_block in [7, 63, 64, u32::MAX] {
            assert_eq!(Ext4Size::parse(&superblock(1, log_block, 0, 0)), None);
        }
    }
}
