//! Promise: a table that an independent writer made (the `gpt` crate) is read as written, and a table with any one
//! byte of header or entries changed is refused.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod random;

use std::io::Cursor;

use astromesh_verity::{
    Gpt, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, SectorSize, Uuid,
    find::{GptError, Partition},
    partition_uuids,
};
use gpt::{
    disk::LogicalBlockSize,
    partition_types::{OperatingSystem, Type},
};
use random::Random;

/// Names the partitions of the slot in the test disk.
const ROOT_HASH: [u8; 32] = *b"0123456789abcdefABCDEFGHIJKLMNOP";

fn partition_type(guid: Uuid) -> Type {
    Type { guid: guid.to_string().parse().unwrap(), os: OperatingSystem::None }
}

/// A disk with an ESP-like partition, root and verity; only its first sectors are returned.
fn disk(sector_size: SectorSize) -> Vec<u8> {
    let size = match sector_size {
        SectorSize::B512 => LogicalBlockSize::Lb512,
        SectorSize::B4096 => LogicalBlockSize::Lb4096,
    };
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(size)
        .create_from_device(Cursor::new(vec![0; 4 << 20]), None)
        .unwrap();
    let other = Uuid::from_u128(7);
    let first = disk.add_partition("other", 1 << 20, partition_type(other), 0, None).unwrap();
    assert_eq!(first, 1);
    for (name, guid) in [("root_1.2é", ROOT_X86_64), ("verity_1.2", ROOT_X86_64_VERITY)] {
        disk.add_partition(name, 256 << 10, partition_type(guid), 0, None).unwrap();
    }
    let uuids = partition_uuids(&RootHash::new(ROOT_HASH));
    let mut partitions = disk.partitions().clone();
    for (number, uuid) in [(2, uuids.root), (3, uuids.verity)] {
        partitions.get_mut(&number).unwrap().part_guid = uuid.to_string().parse().unwrap();
    }
    disk.update_partitions(partitions).unwrap();
    let mut disk = disk.write().unwrap();
    gpt::mbr::ProtectiveMBR::with_lb_size(u32::MAX).overwrite_lba0(&mut disk).unwrap();
    let mut bytes = disk.into_inner();
    bytes.truncate(sector_size.table_bytes());
    bytes
}

#[test]
fn the_partitions_of_a_release_are_found_by_its_root_hash() {
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let bytes = disk(sector_size);
        let gpt = Gpt::parse(&bytes, sector_size).unwrap();
        let uuids = partition_uuids(&RootHash::new(ROOT_HASH));
        let root = gpt.find(ROOT_X86_64, uuids.root).unwrap();
        let verity = gpt.find(ROOT_X86_64_VERITY, uuids.verity).unwrap();
        assert_eq!((root.number, verity.number), (2, 3));
        assert_eq!(root.name.to_string(), "root_1.2é");
        assert_eq!(verity.name, *"verity_1.2");
        assert_eq!(root.sectors() * sector_size.bytes() as u64, 256 << 10);
        assert!(verity.first_lba > root.last_lba);

        assert_eq!(gpt.find(ROOT_X86_64_VERITY, uuids.root), None, "the type counts too");
        let other = partition_uuids(&RootHash::new([0xa6; 32]));
        assert_eq!(gpt.find(ROOT_X86_64, other.root), None);
        assert_eq!(gpt.partitions().count(), 3);
    }
}

#[test]
fn the_wrong_sector_size_finds_no_table() {
    let (small, large) = (disk(SectorSize::B512), disk(SectorSize::B4096));
    assert_eq!(Gpt::parse(&large, SectorSize::B512).unwrap_err(), GptError::Signature);
    assert!(Gpt::parse(&small, SectorSize::B4096).is_err());
    assert_eq!(SectorSize::new(2048), None);
}

#[test]
fn a_flipped_bit_in_header_or_entries_is_refused() {
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let mut bytes = disk(sector_size);
        let sector = sector_size.bytes();
        let covered = (sector..sector + 92).chain(2 * sector..sector_size.table_bytes());
        for at in covered.filter(|at| at % 7 == 0 || *at < sector + 92) {
            bytes[at] ^= 0x10;
            assert!(Gpt::parse(&bytes, sector_size).is_err(), "byte {at}");
            bytes[at] ^= 0x10;
        }
        assert!(Gpt::parse(&bytes, sector_size).is_ok());
    }
}

#[test]
fn a_table_cut_short_is_refused() {
    let bytes = disk(SectorSize::B512);
    for length in (0..bytes.len()).step_by(13) {
        assert!(Gpt::parse(&bytes[..length], SectorSize::B512).is_err(), "{length} bytes");
    }
}

/// Writes `value` at `at` and makes both checksums right again: what a forger does.
fn forge(at: usize, value: &[u8]) -> Result<usize, GptError> {
    let mut bytes = disk(SectorSize::B512);
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let count = u32::from_le_bytes(bytes[592..596].try_into().unwrap()).min(128) as usize;
    let entries = crc.checksum(&bytes[1024..1024 + 128 * count]);
    bytes[600..604].copy_from_slice(&entries.to_le_bytes());
    bytes[528..532].fill(0);
    let size = u32::from_le_bytes(bytes[524..528].try_into().unwrap()).min(512) as usize;
    let header = crc.checksum(&bytes[512..512 + size]);
    bytes[528..532].copy_from_slice(&header.to_le_bytes());
    Gpt::parse(&bytes, SectorSize::B512)
        .map(|gpt| gpt.partitions().filter(|found| found.sectors() > 0).count())
}

#[test]
fn a_forged_table_with_good_checksums_is_still_held_to_its_bounds() {
    assert_eq!(forge(0, &[]), Ok(3));
    assert_eq!(forge(510, &[0]), Err(GptError::ProtectiveMbr));
    assert_eq!(forge(446 + 4, &[0x83]), Err(GptError::ProtectiveMbr));
    assert_eq!(forge(446 + 4 + 16, &[0x83]), Ok(3), "a hybrid MBR is the kernel's business");
    assert_eq!(forge(520, &2u32.to_le_bytes()), Err(GptError::Revision { found: 2 }));
    assert_eq!(forge(524, &91u32.to_le_bytes()), Err(GptError::HeaderSize { found: 91 }));
    assert_eq!(forge(524, &513u32.to_le_bytes()), Err(GptError::HeaderSize { found: 513 }));
    assert_eq!(forge(536, &2u64.to_le_bytes()), Err(GptError::HeaderPlace));
    assert_eq!(forge(552, &33u64.to_le_bytes()), Err(GptError::UsableRange));
    assert_eq!(forge(560, &33u64.to_le_bytes()), Err(GptError::UsableRange));
    for lba in [0, 1, 3, u64::MAX / 512, u64::MAX] {
        assert_eq!(forge(584, &lba.to_le_bytes()), Err(GptError::EntriesPlace { lba }));
    }
    assert_eq!(forge(592, &0u32.to_le_bytes()), Err(GptError::EntryCount { found: 0 }));
    assert_eq!(forge(592, &129u32.to_le_bytes()), Err(GptError::EntryCount { found: 129 }));
    assert_eq!(forge(592, &u32::MAX.to_le_bytes()), Err(GptError::EntryCount { found: u32::MAX }));
    assert_eq!(forge(596, &256u32.to_le_bytes()), Err(GptError::EntrySize { found: 256 }));
    // The second entry: before the usable range, past it, and its end before its start.
    let second = 1024 + 128;
    assert_eq!(forge(second + 32, &1u64.to_le_bytes()), Err(GptError::PartitionRange { number: 2 }));
    assert_eq!(forge(second + 32, &u64::MAX.to_le_bytes()), Err(GptError::PartitionRange { number: 2 }));
    assert_eq!(forge(second + 40, &u64::MAX.to_le_bytes()), Err(GptError::PartitionRange { number: 2 }));
    assert_eq!(forge(second + 40, &0u64.to_le_bytes()), Err(GptError::PartitionRange { number: 2 }));
}

#[test]
fn random_forgeries_never_panic() {
    let mut random = Random(8);
    for _ in 0..2_000 {
        let at = if random.below(2) == 0 { 512 + random.below(84) } else { 1024 + random.below(1024) };
        let value = random.bytes(8);
        let _: Result<usize, GptError> = forge(at, &value);
    }
}

#[test]
fn a_label_that_is_not_unicode_is_shown_with_replacements() {
    let mut bytes = disk(SectorSize::B512);
    let name = 1024 + 56;
    bytes[name..name + 2].copy_from_slice(&0xd800u16.to_le_bytes());
    bytes[name + 2..name + 4].copy_from_slice(&0x1bu16.to_le_bytes());
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let entries = crc.checksum(&bytes[1024..1024 + 128 * 128]).to_le_bytes();
    bytes[600..604].copy_from_slice(&entries);
    bytes[528..532].fill(0);
    let header = crc.checksum(&bytes[512..604]).to_le_bytes();
    bytes[528..532].copy_from_slice(&header);
    let gpt = Gpt::parse(&bytes, SectorSize::B512).unwrap();
    let first: Partition = gpt.partitions().next().unwrap();
    assert_eq!(first.name.to_string(), "\u{fffd}\u{fffd}her");
}
