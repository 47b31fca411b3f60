//! Finding partitions by what they are, not by where they hang.
//!
//! The kernel has parsed the partition tables already, but in 6.12 it does not tell partitions' UUIDs to user space,
//! so the table is read once more, by [`astromesh_verity`]'s strict parser, and the kernel's numbering is used to
//! name the device.

use astromesh_verity::{DeviceNumber, Gpt, SectorSize, find};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::path::{Path, PathBuf};

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

/// The partition of `disk` for which `wanted` holds.
pub fn find(disk: &str, wanted: impl Fn(&find::Partition) -> bool) -> Option<Partition> {
    let sector = fs::read_to_string(format!("/sys/block/{disk}/queue/logical_block_size")).ok()?;
    let sector = SectorSize::new(sector.trim().parse().ok()?)?;
    let table = read_start(&format!("/dev/{disk}"), sector.table_bytes())?;
    let entry = Gpt::parse(&table, sector).ok()?.partitions().find(wanted)?;
    let number = entry.number.to_string();
    list(&Path::new("/sys/block").join(disk)).into_iter().find_map(|name| {
        let value = |file: &str| fs::read_to_string(format!("/sys/block/{disk}/{name}/{file}")).ok();
        if value("partition")?.trim() != number {
            return None;
        }
        let number = value("dev")?.trim().parse().ok()?;
        Some(Partition { disk: disk.to_owned(), device: format!("/dev/{name}").into(), number })
    })
}

/// The first `length` bytes of a device; `None` when it is shorter or can't be read.
pub fn read_start(device: &str, length: usize) -> Option<Vec<u8>> {
    let file = rustix::fs::open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match rustix::io::pread(&file, &mut bytes[filled..], filled as u64) {
            Ok(0) | Err(_) => return None,
            Ok(count) => filled += count,
        }
    }
    Some(bytes)
}

fn list(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default()
}
