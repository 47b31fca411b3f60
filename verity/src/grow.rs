//! The partition table for a disk that is larger than the image was: backup at the new end, last partition up to it.
//!
//! An image is written to a disk of any size, so at first boot the backup table is somewhere in the middle and the space
//! behind it belongs to nobody. This module computes both copies of the table for the disk as it is, as a pure function
//! of the copy that was read; the caller writes them.
//!
//! **Write the backup first, make it durable, then the primary.** At each moment one valid table is on the disk: until
//! the primary is touched, the old primary; while it is, the new backup, which stands where firmware and kernel look for
//! one. Computing again from either copy gives the same bytes, so a boot after a power cut simply finishes.
//!
//! Refuses to move or shrink anything, and to touch any entry but the last partition's end.
//!
//! Source: UEFI Specification 2.10, sections 5.2.3 and 5.3.

use crate::find::{ENTRY_SIZE, Gpt, MAX_ENTRIES, Partition, SectorSize, entries_checksum, header_checksum};

/// Partitions end at whole MiB, where they begin too.
const ALIGNMENT: u64 = 1 << 20;

/// Bytes of the header that carry something.
const HEADER_SIZE: u32 = 92;

/// Both copies of a table, as they must stand on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrownTable {
    /// From sector 0: protective MBR, header, entries.
    pub primary: Vec<u8>,
    /// The disk's last bytes: entries, header.
    pub backup: Vec<u8>,
    /// Where they begin, in bytes.
    pub backup_start: u64,
    /// The partition that reaches to the end now.
    pub last: Partition,
}

/// The table `gpt` for a disk of `sectors` sectors with partition `number` grown to its end.
///
/// `None` when the partition isn't the last on the disk, or the disk is too small for the table as it is.
pub fn to_disk_end(gpt: &Gpt<'_>, number: u32, sector_size: SectorSize, sectors: u64) -> Option<GrownTable> {
    let sector = sector_size.bytes() as u64;
    let mut last = gpt.partitions().find(|partition| partition.number == number)?;
    if gpt.partitions().any(|other| other.first_lba > last.first_lba) {
        return None;
    }
    let entry_sectors = (MAX_ENTRIES * ENTRY_SIZE) as u64 / sector;
    let backup_entries = sectors.checked_sub(1 + entry_sectors)?;
    let aligned = backup_entries.checked_mul(sector)? / ALIGNMENT * ALIGNMENT / sector;
    let usable = (gpt.usable().0, backup_entries.checked_sub(1)?);
    if last.last_lba > usable.1 {
        return None;
    }
    last.last_lba = last.last_lba.max(aligned.checked_sub(1)?);

    let mut entries = vec![0; MAX_ENTRIES * ENTRY_SIZE];
    entries[..gpt.entries().len()].copy_from_slice(gpt.entries());
    let end = (number as usize - 1) * ENTRY_SIZE + 40;
    entries[end..end + 8].copy_from_slice(&last.last_lba.to_le_bytes());

    let table = Table { gpt, usable, entries: &entries, sector: sector_size.bytes() };
    let (first, end) = (1, sectors - 1);
    let mut primary = protective_mbr(sectors, sector_size);
    primary.extend(table.header(first, end, 2));
    primary.extend_from_slice(&entries);
    let mut backup = entries.clone();
    backup.extend(table.header(end, first, backup_entries));
    Some(GrownTable { primary, backup, backup_start: backup_entries * sector, last })
}

struct Table<'a> {
    gpt: &'a Gpt<'a>,
    usable: (u64, u64),
    entries: &'a [u8],
    sector: usize,
}

impl Table<'_> {
    /// The header for sector `place`, with the other copy at `other` and the entries at `entries_at`.
    fn header(&self, place: u64, other: u64, entries_at: u64) -> Vec<u8> {
        let mut header = b"EFI PART".to_vec();
        header.extend(0x0001_0000_u32.to_le_bytes());
        header.extend(HEADER_SIZE.to_le_bytes());
        header.extend([0; 8]); // checksum, reserved
        for value in [place, other, self.usable.0, self.usable.1] {
            header.extend(value.to_le_bytes());
        }
        header.extend(self.gpt.disk_guid().to_bytes_le());
        header.extend(entries_at.to_le_bytes());
        for value in [MAX_ENTRIES, ENTRY_SIZE] {
            header.extend(u32::try_from(value).unwrap_or_default().to_le_bytes());
        }
        header.extend(entries_checksum(self.entries).to_le_bytes());
        let checksum = header_checksum(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header.resize(self.sector, 0);
        header
    }
}

/// One record over the whole disk, of type 0xEE.
fn protective_mbr(sectors: u64, sector_size: SectorSize) -> Vec<u8> {
    let mut mbr = vec![0; sector_size.bytes()];
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&length.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
