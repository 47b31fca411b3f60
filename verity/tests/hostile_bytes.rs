//! Promise: whatever a disk or a table line holds, parsing it ends in a value or a named error, never in a panic; and
//! what we write we read back.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod random;

use astromesh_verity::{
    DeviceNumber, Gpt, OnCorruption, RootHash, Salt, SectorSize, SignatureKey, Superblock, Uuid, VerityTable,
    layout::MAX_DATA_BLOCKS,
    superblock::{self, SuperblockError},
};
use random::Random;

fn superblock(random: &mut Random) -> Superblock {
    let uuid = Uuid::from_slice(&random.bytes(16)).unwrap();
    let salt_size = random.below(Salt::MAX + 1);
    let salt = Salt::new(&random.bytes(salt_size)).unwrap();
    let shift = random.below(51);
    let data_blocks = ((random.next() >> shift) % MAX_DATA_BLOCKS).max(1);
    Superblock::new(uuid, data_blocks, salt).unwrap()
}

#[test]
fn every_superblock_survives_the_way_through_bytes() {
    let mut random = Random(1);
    for _ in 0..10_000 {
        let superblock = superblock(&mut random);
        assert_eq!(Superblock::parse(&superblock.to_bytes()), Ok(superblock));
    }
}

#[test]
fn a_superblock_cut_short_is_truncated_and_nothing_else() {
    let bytes = superblock(&mut Random(2)).to_bytes();
    for length in 0..superblock::SIZE {
        assert_eq!(Superblock::parse_prefix(&bytes[..length]), Err(SuperblockError::Truncated { length }));
    }
}

#[test]
fn a_superblock_that_is_accepted_has_only_one_form() {
    let mut random = Random(3);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = superblock(&mut random).to_bytes();
        for _ in 0..=random.below(3) {
            bytes[random.below(superblock::SIZE)] = random.next().to_ne_bytes()[0];
        }
        if let Ok(parsed) = Superblock::parse(&bytes) {
            accepted += 1;
            assert_eq!(parsed.to_bytes(), bytes);
            assert!(parsed.layout().hash_device_blocks() >= 1);
        }
    }
    assert!(accepted > 0, "the mutations never left a superblock whole: the test says nothing");
}

#[test]
fn garbage_is_no_superblock() {
    let mut random = Random(4);
    for _ in 0..10_000 {
        let mut bytes = [0; superblock::SIZE];
        random.fill(&mut bytes);
        assert_eq!(Superblock::parse(&bytes), Err(SuperblockError::Magic));
    }
}

#[test]
fn garbage_is_no_partition_table() {
    let mut random = Random(5);
    for _ in 0..2_000 {
        let length = random.below(SectorSize::B4096.table_bytes() + 1);
        let mut disk = random.bytes(length);
        for (sector_size, at) in [(SectorSize::B512, 512), (SectorSize::B4096, 4096)] {
            assert!(Gpt::parse(&disk, sector_size).is_err());
            // Past the signatures, so that the fields are looked at.
            if let Some(mbr) = disk.get_mut(450..512) {
                (mbr[0], mbr[60], mbr[61]) = (0xee, 0x55, 0xaa);
            }
            if let Some(header) = disk.get_mut(at..at + 12) {
                header.copy_from_slice(b"EFI PART\0\0\x01\0");
            }
            assert!(Gpt::parse(&disk, sector_size).is_err());
        }
    }
}

#[test]
fn a_mutated_table_line_is_refused_or_reads_back_as_itself() {
    let mut random = Random(6);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let superblock = superblock(&mut random);
        let mut below = |bound| u32::try_from(random.below(bound)).unwrap();
        let mut number = || DeviceNumber { major: below(4096), minor: below(1 << 20) };
        let (data, hash) = (number(), number());
        let mut table = VerityTable::new(data, hash, &superblock, RootHash::new([0x5a; 32]));
        if random.below(2) == 0 {
            table.on_corruption = OnCorruption::Fail;
        }
        if random.below(2) == 0 {
            table.signature = Some(SignatureKey::new("key:1").unwrap());
        }
        let line = table.line().unwrap();
        assert_eq!(line.parse(), Ok(table));

        let mut bytes = line.as_bytes().to_vec();
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] = u8::try_from(0x20 + random.below(95)).unwrap(),
            1 => bytes.truncate(at),
            _ => bytes.insert(at, b' '),
        }
        let line = String::from_utf8(bytes).unwrap();
        if let Ok(table) = line.parse::<VerityTable>() {
            accepted += 1;
            assert_eq!(table.line().unwrap().parse(), Ok(table));
        }
    }
    assert!(accepted > 0, "no mutation was harmless: the test says nothing");
}
