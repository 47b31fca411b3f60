//! Promise: a table grown to a larger disk is one that an independent reader (the `gpt` crate) takes, with nothing
//! changed but the end of the last partition; and whatever sector power fails at while it is written, one valid table is
//! on the disk, from which growing again gives the same bytes.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

use std::io::Cursor;

use astromesh_verity::grow::{GrownTable, to_disk_end};
use astromesh_verity::{Gpt, SectorSize};
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::LINUX_FS;

const SECTOR: SectorSize = SectorSize::B512;
const MIB: usize = 1 << 20;

/// A disk of 8 MiB with two partitions, on a medium of `size` bytes.
fn disk(size: usize) -> Vec<u8> {
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(Cursor::new(vec![0; 8 * MIB]), None)
        .unwrap();
    for name in ["one", "var"] {
        disk.add_partition(name, MIB as u64, LINUX_FS, 0, Some(2048)).unwrap();
    }
    let mut disk = disk.write().unwrap();
    gpt::mbr::ProtectiveMBR::with_lb_size(8 * 2048 - 1).overwrite_lba0(&mut disk).unwrap();
    let mut bytes = disk.into_inner();
    bytes.resize(size, 0);
    bytes
}

/// The table of a disk, as firmware and kernel choose it: the primary, else the backup in the last sectors.
fn read(disk: &[u8]) -> Gpt<'_> {
    let end = &disk[disk.len() - SECTOR.backup_bytes()..];
    Gpt::parse(disk, SECTOR)
        .or_else(|_| Gpt::parse_backup(end, SECTOR, (disk.len() / 512) as u64))
        .expect("one of the two tables is valid")
}

fn grow(disk: &[u8]) -> GrownTable {
    to_disk_end(&read(disk), 2, SECTOR, (disk.len() / 512) as u64).unwrap()
}

/// Every write that has to be made, in its order: place and bytes of one sector.
fn writes(table: &GrownTable) -> Vec<(usize, Vec<u8>)> {
    let start = usize::try_from(table.backup_start).unwrap();
    let pieces = [(start, &table.backup), (0, &table.primary)];
    pieces
        .into_iter()
        .flat_map(|(start, bytes)| {
            bytes.chunks(512).enumerate().map(move |(index, sector)| (start + 512 * index, sector.to_vec()))
        })
        .collect()
}

fn write(disk: &mut [u8], writes: &[(usize, Vec<u8>)]) {
    for (at, sector) in writes {
        disk[*at..*at + 512].copy_from_slice(sector);
    }
}

#[test]
fn an_independent_reader_takes_both_copies_and_sees_only_the_last_end_changed() {
    let mut bytes = disk(64 * MIB + 512 * 5);
    let before: Vec<_> = read(&bytes).partitions().collect();
    let table = grow(&bytes);
    write(&mut bytes, &writes(&table));

    let parsed = gpt::GptConfig::new().open_from_device(Cursor::new(bytes.clone())).unwrap();
    let (primary, backup) = (parsed.primary_header().unwrap(), parsed.backup_header().unwrap());
    assert_eq!(primary.backup_lba, (bytes.len() / 512 - 1) as u64);
    assert_eq!(backup.current_lba, primary.backup_lba);
    assert_eq!(backup.crc32_parts, primary.crc32_parts);

    let after: Vec<_> = read(&bytes).partitions().collect();
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].first_lba, before[1].first_lba);
    assert_eq!(after[1].unique_guid, before[1].unique_guid);
    // 64 MiB and five sectors: the last whole MiB that leaves 33 sectors is 63.
    assert_eq!(after[1].last_lba, 63 * 2048 - 1);
}

#[test]
fn power_may_fail_at_any_sector_and_the_next_boot_finishes() {
    let whole = disk(64 * MIB);
    let table = grow(&whole);
    let writes = writes(&table);
    for done in 0..=writes.len() {
        let mut torn = whole.clone();
        write(&mut torn, &writes[..done]);
        assert_eq!(read(&torn).partitions().count(), 2, "after {done} sectors");
        assert_eq!(grow(&torn), table, "after {done} sectors");
    }
}

#[test]
fn twin_with_the_primary_first_there_is_a_moment_without_any_table() {
    let whole = disk(64 * MIB);
    let mut writes = writes(&grow(&whole));
    writes.rotate_left(SECTOR.backup_bytes() / 512);
    let readable = (0..=writes.len()).all(|done| {
        let mut torn = whole.clone();
        write(&mut torn, &writes[..done]);
        let end = &torn[torn.len() - SECTOR.backup_bytes()..];
        Gpt::parse(&torn, SECTOR).is_ok() || Gpt::parse_backup(end, SECTOR, (torn.len() / 512) as u64).is_ok()
    });
    assert!(!readable);
}

#[test]
fn a_disk_of_the_same_size_changes_nothing_but_to_use_what_is_left() {
    let mut bytes = disk(8 * MIB);
    let table = grow(&bytes);
    write(&mut bytes, &writes(&table));
    assert_eq!(grow(&bytes), table);
    assert_eq!(table.last.last_lba, 7 * 2048 - 1);
}

#[test]
fn only_the_last_partition_grows_and_nothing_shrinks() {
    let bytes = disk(64 * MIB);
    let gpt = read(&bytes);
    assert_eq!(to_disk_end(&gpt, 1, SECTOR, 64 * 2048), None, "another one follows");
    assert_eq!(to_disk_end(&gpt, 3, SECTOR, 64 * 2048), None, "no such partition");
    for sectors in [0, 1, 33, 34, 4096, gpt.partitions().last().unwrap().last_lba + 10] {
        assert_eq!(to_disk_end(&gpt, 2, SECTOR, sectors), None, "{sectors} sectors");
    }
}

#[test]
fn a_backup_that_is_not_at_the_disks_end_or_was_changed_is_refused() {
    let bytes = disk(8 * MIB);
    let end = bytes[bytes.len() - SECTOR.backup_bytes()..].to_vec();
    assert!(Gpt::parse_backup(&end, SECTOR, 8 * 2048).is_ok());
    assert!(Gpt::parse_backup(&end, SECTOR, 8 * 2048 + 1).is_err());
    assert!(Gpt::parse_backup(&end[1..], SECTOR, 8 * 2048).is_err());
    for sectors in [0, 32, 33, 34, u64::MAX] {
        assert!(Gpt::parse_backup(&end, SECTOR, sectors).is_err());
    }
    for at in (0..2 * 128).chain(end.len() - 512..end.len() - 512 + 92) {
        let mut changed = end.clone();
        changed[at] ^= 4;
        assert!(Gpt::parse_backup(&changed, SECTOR, 8 * 2048).is_err(), "byte {at}");
    }
}
