//! Finding partitions by what they are, not by where they hang.
//!
//! The kernel has parsed the partition tables already, but in 6.12 it does not tell partitions' UUIDs to user space,
//! so the table is read once more, by [`astromesh_verity`]'s strict parser, and the kernel's numbering is used to
//! name the device. Where the primary table is damaged (power may have failed while it was written) the backup is read,
//! as the kernel does.

use crate::bounded_read::{self, ReadError};
use astromesh_verity::{DeviceNumber, Gpt, SectorSize, Uuid, find};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The type of an EFI system partition (UEFI Specification 2.10, table 5.7).
pub const TYPE_ESP: Uuid = Uuid::from_u128(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);

/// A partition of a disk.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Name of the whole disk, as in `/sys/block`.
    pub disk: String,
    /// Its device node.
    pub device: PathBuf,
    /// Its number in the kernel.
    pub number: DeviceNumber,
}

/// The disks, in the kernel's order: whole devices with a medium, no loop or device-mapper device.
pub fn disks() -> Vec<String> {
    let mut names: Vec<String> = list(Path::new("/sys/block"))
        .into_iter()
        .filter(|name| !name.starts_with("loop") && !name.starts_with("dm-") && !name.starts_with("ram"))
        .collect();
    names.sort_unstable();
    names
}

/// Whether the kernel has found partitions on a disk. It has read the table of each before anyone else does, so a disk that
/// doesn't answer has none.
pub fn has_partitions(disk: &str) -> bool {
    let folder = Path::new("/sys/block").join(disk);
    list(&folder).iter().any(|name| folder.join(name).join("partition").is_file())
}

/// A whole disk, with the bytes of both its partition tables.
#[derive(Debug)]
pub struct Disk {
    /// Name, as in `/sys/block`.
    pub name: String,
    /// Bytes in its sectors.
    pub sector_size: SectorSize,
    /// How many sectors it has.
    pub sectors: u64,
    /// Its first bytes.
    pub start: Vec<u8>,
    /// Its last bytes.
    pub end: Vec<u8>,
}

impl Disk {
    /// Reads the tables of a disk; `None` for what is too small for them or can't be read.
    pub fn open(name: &str) -> Option<Self> {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(format!("/sys/block/{name}/{file}")).ok()?.trim().parse().ok()
        };
        let sector_size = SectorSize::new(number("queue/logical_block_size")?.try_into().ok()?)?;
        // Always in units of 512 bytes, whatever the sectors are.
        let bytes = number("size")?.checked_mul(512)?;
        let device = format!("/dev/{name}");
        let start = read_at(&device, 0, sector_size.table_bytes())?;
        let length = sector_size.backup_bytes();
        let end = read_at(&device, bytes.checked_sub(length as u64)?, length)?;
        Some(Self {
            name: name.to_owned(),
            sector_size,
            sectors: bytes / sector_size.bytes() as u64,
            start,
            end,
        })
    }

    /// The primary table, or the backup where the primary is none.
    pub fn table(&self) -> Option<Gpt<'_>> {
        Gpt::parse(&self.start, self.sector_size)
            .or_else(|_| Gpt::parse_backup(&self.end, self.sector_size, self.sectors))
            .ok()
    }
}

/// The partition of `disk` for which `wanted` holds.
pub fn find(disk: &str, wanted: impl Fn(&find::Partition) -> bool) -> Option<Partition> {
    let whole = Disk::open(disk)?;
    let number = whole.table()?.partitions().find(wanted)?.number;
    by_number(disk, number)
}

/// The kernel's partition `number` of `disk`.
pub fn by_number(disk: &str, number: u32) -> Option<Partition> {
    let number = number.to_string();
    list(&Path::new("/sys/block").join(disk)).into_iter().find_map(|name| {
        let value = |file: &str| fs::read_to_string(format!("/sys/block/{disk}/{name}/{file}")).ok();
        if value("partition")?.trim() != number {
            return None;
        }
        let number = value("dev")?.trim().parse().ok()?;
        Some(Partition { disk: disk.to_owned(), device: format!("/dev/{name}").into(), number })
    })
}

/// The first `length` bytes of a device; `None` when it is shorter, can't be read or doesn't answer.
pub fn read_start(device: &str, length: usize) -> Option<Vec<u8>> {
    read_at(device, 0, length)
}

/// `length` bytes of a device; `None` when they aren't all there, can't be read or don't come.
fn read_at(device: &str, start: u64, length: usize) -> Option<Vec<u8>> {
    match bounded_read::read_at(&open(device)?, start, length) {
        Ok(bytes) => Some(bytes),
        Err(ReadError::Wait) => {
            log::warn!("{device}: {}; it is passed over", ReadError::Wait);
            None
        }
        Err(_) => None,
    }
}

/// Opens a device to read from it.
pub(crate) fn open(device: &str) -> Option<OwnedFd> {
    rustix::fs::open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn list(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default()
}
