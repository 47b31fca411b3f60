//! Finding the slot's partitions: a reader for the GUID partition table, primary or backup.
//!
//! PID 1 must find two partitions before anything is verified, on a disk that anyone may have written. So this is a
//! pure function from the disk's first sectors to entries: bounded (at most 128 entries of 128 bytes), without
//! allocation, unable to panic. It is not the kernel's parser, since the kernel tells device nodes, not type GUIDs.
//!
//! **What it finds is a candidate.** Nothing here is a security decision: two partitions may even carry the same
//! GUIDs, and the first is as good as the second, because dm-verity checks each block against the signed root hash.
//!
//! Refuses every header that is not exactly the usual shape. The two copies are read by two functions, and which to ask
//! is the caller's choice: the backup when the primary's checksums don't hold, as firmware and kernel do, because power
//! may fail while a table is written ([`crate::grow`], `systemd-sysupdate`).
//!
//! Source: UEFI Specification 2.10, section 5.3.

use core::{fmt, iter};

use crc::{CRC_32_ISO_HDLC, Crc};
use uuid::Uuid;

/// Most entries read; what every partitioner writes.
pub const MAX_ENTRIES: usize = 128;

/// Bytes of one entry; the only size accepted.
pub const ENTRY_SIZE: usize = 128;

/// Bytes of a header that its CRC must at least cover.
const HEADER_SIZE: usize = 92;

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// One 1 KiB table; the disk's 16 KiB of entries take well under a millisecond.
const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Bytes in a logical sector of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SectorSize {
    /// 512 bytes: virtio, most clouds.
    #[default]
    B512,
    /// 4096 bytes: 4Kn disks, some `NVMe`.
    B4096,
}

impl SectorSize {
    /// From the number in `/sys/class/block/NAME/queue/logical_block_size`.
    pub const fn new(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// Bytes in a sector.
    pub const fn bytes(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// Bytes to read from the start of the disk: protective MBR, header, 128 entries (34 sectors of 512).
    pub const fn table_bytes(self) -> usize {
        2 * self.bytes() + MAX_ENTRIES * ENTRY_SIZE
    }

    /// Bytes to read from the end of the disk: 128 entries, header.
    pub const fn backup_bytes(self) -> usize {
        self.bytes() + MAX_ENTRIES * ENTRY_SIZE
    }
}

/// A partition table whose checksums hold. Borrows the bytes it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Gpt<'a> {
    disk: Uuid,
    usable: (u64, u64),
    other: u64,
    entries: &'a [u8],
}

/// Where a header must say that it is, and how long the disk's sectors are.
#[derive(Clone, Copy)]
struct Place {
    header: u64,
    sector: usize,
}

impl<'a> Gpt<'a> {
    /// Reads the primary table from the first [`SectorSize::table_bytes`] bytes of a disk (more do no harm).
    pub fn parse(disk: &'a [u8], sector_size: SectorSize) -> Result<Self, GptError> {
        let sector = sector_size.bytes();
        let header = disk.get(sector..2 * sector).ok_or(GptError::Truncated { length: disk.len() })?;
        // Without it the kernel makes no partitions (`is_pmbr_valid()` in block/partitions/efi.c): say so here, not
        // later as a device that isn't there.
        let mut mbr_types = disk[446..510].chunks_exact(16).map(|record| record[4]);
        if disk[510..512] != [0x55, 0xaa] || !mbr_types.any(|kind| kind == 0xee) {
            return Err(GptError::ProtectiveMbr);
        }
        let gpt = Self::checked(header, disk, 0, Place { header: 1, sector })?;
        // In sectors, rounded up; can't overflow, as the entries lie inside a slice.
        let entries_end = u64_at(header, 72) + gpt.entries.len().div_ceil(sector) as u64;
        if gpt.usable.0 < entries_end { Err(GptError::UsableRange) } else { Ok(gpt) }
    }

    /// Reads the backup table from the last [`SectorSize::backup_bytes`] bytes of a disk of `sectors` sectors.
    pub fn parse_backup(end: &'a [u8], sector_size: SectorSize, sectors: u64) -> Result<Self, GptError> {
        let sector = sector_size.bytes();
        let length = sector_size.backup_bytes();
        let truncated = GptError::Truncated { length: end.len() };
        if end.len() != length {
            return Err(truncated);
        }
        let first =
            sectors.checked_sub((length / sector) as u64).filter(|&first| first > 1).ok_or(truncated)?;
        let header = &end[length - sector..];
        let gpt = Self::checked(header, end, first, Place { header: sectors - 1, sector })?;
        if gpt.usable.1 >= u64_at(header, 72) { Err(GptError::UsableRange) } else { Ok(gpt) }
    }

    /// Reads `header`, and the entries from `bytes`, which begin at sector `first`.
    fn checked(header: &[u8], bytes: &'a [u8], first: u64, place: Place) -> Result<Self, GptError> {
        if header[..8] != SIGNATURE {
            return Err(GptError::Signature);
        }
        let revision = u32_at(header, 8);
        if revision != REVISION {
            return Err(GptError::Revision { found: revision });
        }
        let size = u32_at(header, 12);
        let covered = usize::try_from(size)
            .ok()
            .filter(|&size| size >= HEADER_SIZE)
            .and_then(|size| header.get(..size))
            .ok_or(GptError::HeaderSize { found: size })?;
        if header_checksum(covered) != u32_at(header, 16) {
            return Err(GptError::HeaderChecksum);
        }
        if u64_at(header, 24) != place.header {
            return Err(GptError::HeaderPlace);
        }
        let usable = (u64_at(header, 40), u64_at(header, 48));
        let entry_size = u32_at(header, 84);
        if entry_size as usize != ENTRY_SIZE {
            return Err(GptError::EntrySize { found: entry_size });
        }
        let count = u32_at(header, 80);
        let length = usize::try_from(count)
            .ok()
            .filter(|count| (1..=MAX_ENTRIES).contains(count))
            .map(|count| count * ENTRY_SIZE)
            .ok_or(GptError::EntryCount { found: count })?;
        let entries_lba = u64_at(header, 72);
        let entries = entries_lba
            .checked_sub(first.max(2))
            .map(|_| entries_lba - first)
            .and_then(|lba| usize::try_from(lba).ok()?.checked_mul(place.sector))
            .and_then(|start| bytes.get(start..start.checked_add(length)?))
            .ok_or(GptError::EntriesPlace { lba: entries_lba })?;
        if CRC32.checksum(entries) != u32_at(header, 88) {
            return Err(GptError::EntriesChecksum);
        }
        if usable.0 < 2 || usable.1 < usable.0 {
            return Err(GptError::UsableRange);
        }
        let disk = Uuid::from_bytes_le(bytes_at(header, 56));
        let gpt = Self { disk, usable, other: u64_at(header, 32), entries };
        match gpt.partitions().find(|partition| !partition.lies_within(usable)) {
            Some(partition) => Err(GptError::PartitionRange { number: partition.number }),
            None => Ok(gpt),
        }
    }

    /// The sector where this copy of the table says the other one's header is.
    pub fn other_header(&self) -> u64 {
        self.other
    }

    /// The entries as they stand on disk, used and unused.
    pub fn entries(&self) -> &'a [u8] {
        self.entries
    }

    /// The disk's own GUID.
    pub fn disk_guid(&self) -> Uuid {
        self.disk
    }

    /// First and last sector that a partition may use.
    pub fn usable(&self) -> (u64, u64) {
        self.usable
    }

    /// The used entries, in table order.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<'a> {
        iter::zip(1.., self.entries.chunks_exact(ENTRY_SIZE)).filter(|(_, entry)| entry[..16] != [0; 16]).map(
            |(number, entry)| Partition {
                number,
                type_guid: Uuid::from_bytes_le(bytes_at(entry, 0)),
                unique_guid: Uuid::from_bytes_le(bytes_at(entry, 16)),
                first_lba: u64_at(entry, 32),
                last_lba: u64_at(entry, 40),
                attributes: u64_at(entry, 48),
                name: PartitionName(core::array::from_fn(|i| {
                    u16::from_le_bytes(bytes_at(entry, 56 + 2 * i))
                })),
            },
        )
    }

    /// The first partition of this type and with this unique GUID.
    pub fn find(&self, type_guid: Uuid, unique_guid: Uuid) -> Option<Partition> {
        self.partitions().find(|found| found.type_guid == type_guid && found.unique_guid == unique_guid)
    }
}

/// One used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1: the number in the device's name, and in `/sys/class/block/NAME/partition`.
    pub number: u32,
    /// What it is for.
    pub type_guid: Uuid,
    /// Which one it is; the kernel's `PARTUUID`.
    pub unique_guid: Uuid,
    /// First sector, in the disk's own sector size.
    pub first_lba: u64,
    /// Last sector, inclusive; not before the first.
    pub last_lba: u64,
    /// Attribute bits; bit 60 is "read-only" for the types of the Discoverable Partitions Specification.
    pub attributes: u64,
    /// Its label.
    pub name: PartitionName,
}

impl Partition {
    /// Length in sectors; at least 1.
    pub fn sectors(&self) -> u64 {
        self.last_lba - self.first_lba + 1
    }

    fn lies_within(&self, (first, last): (u64, u64)) -> bool {
        first <= self.first_lba && self.first_lba <= self.last_lba && self.last_lba <= last
    }
}

/// A partition's label: up to 36 UTF-16 code units, not checked on disk by anyone. Shown with replacement characters.
#[derive(Clone, PartialEq, Eq)]
pub struct PartitionName([u16; 36]);

impl PartialEq<str> for PartitionName {
    fn eq(&self, other: &str) -> bool {
        let length = self.0.iter().position(|&unit| unit == 0).unwrap_or(self.0.len());
        other.encode_utf16().eq(self.0[..length].iter().copied())
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        char::decode_utf16(self.0.into_iter().take_while(|&unit| unit != 0))
            .map(|decoded| decoded.ok().filter(|c| !c.is_control()).unwrap_or(char::REPLACEMENT_CHARACTER))
            .try_for_each(|character| fmt::Write::write_char(f, character))
    }
}

impl fmt::Debug for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The checksum of a header's covered bytes, in which the checksum's own field counts as zero.
pub(crate) fn header_checksum(covered: &[u8]) -> u32 {
    let mut digest = CRC32.digest();
    digest.update(&covered[..16]);
    digest.update(&[0; 4]);
    digest.update(&covered[20..]);
    digest.finalize()
}

/// The checksum of the entries.
pub(crate) fn entries_checksum(entries: &[u8]) -> u32 {
    CRC32.checksum(entries)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|i| bytes[at + i])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

/// What is wrong with a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// Too few bytes for a header.
    #[error(
        "partition table refused: {length} bytes read, the header needs two sectors; is this a whole disk?"
    )]
    Truncated {
        /// Bytes that were there.
        length: usize,
    },
    /// The first sector has no record of type 0xEE, or no boot signature.
    #[error(
        "partition table refused: no protective MBR in sector 0; is this a whole disk, and was it partitioned?"
    )]
    ProtectiveMbr,
    /// No `EFI PART` in the second sector.
    #[error(
        "partition table refused: no GPT signature in sector 1; is this the disk, and its sector size right?"
    )]
    Signature,
    /// A revision other than 1.0.
    #[error(
        "partition table refused: GPT revision {found:#x}, only 0x10000 is accepted; partition the disk again"
    )]
    Revision {
        /// The value on disk.
        found: u32,
    },
    /// Shorter than 92 bytes or longer than a sector.
    #[error("partition table refused: header of {found} bytes; restore the table from its backup")]
    HeaderSize {
        /// The value on disk.
        found: u32,
    },
    /// The header's CRC32 does not match.
    #[error("partition table refused: header checksum is wrong; restore the table from its backup")]
    HeaderChecksum,
    /// The header says that it belongs elsewhere.
    #[error(
        "partition table refused: its header says that it belongs into another sector; restore it from the other copy"
    )]
    HeaderPlace,
    /// An entry size other than 128.
    #[error(
        "partition table refused: entries of {found} bytes, only 128 is accepted; partition the disk again"
    )]
    EntrySize {
        /// The value on disk.
        found: u32,
    },
    /// No entries, or more than 128.
    #[error("partition table refused: {found} entries, expected 1 to 128; partition the disk again")]
    EntryCount {
        /// The value on disk.
        found: u32,
    },
    /// The entries are not among the bytes given.
    #[error(
        "partition table refused: entries at sector {lba}, expected right behind the header; partition again"
    )]
    EntriesPlace {
        /// The sector where they should be.
        lba: u64,
    },
    /// The entries' CRC32 does not match.
    #[error("partition table refused: checksum of the entries is wrong; restore the table from its backup")]
    EntriesChecksum,
    /// The usable range is empty or lies over the table.
    #[error("partition table refused: usable range is empty or covers the table; partition the disk again")]
    UsableRange,
    /// A partition ends before it starts, or leaves the usable range.
    #[error(
        "partition table refused: partition {number} lies outside the usable range; partition the disk again"
    )]
    PartitionRange {
        /// Its number, from 1.
        number: u32,
    },
}
