//! `.` and `..` of each directory, as the FAT specification has them: its first two entries, with nothing in between.
//!
//! The `fatfs` crate gives every name an entry for a long name, these two as well, and then the first entry of a directory
//! is no `.` any more. Linux and EDK2 read it all the same; `fsck.vfat` calls such a directory damaged, and another maker's
//! firmware may too. The crate has no other way to make a directory, its newest release writes the same, and a FAT writer
//! of our own for 96 MiB would be more code than this.
//!
//! **When.** After the directories were made and before the first file was: then what begins like such a directory is one.
//!
//! Source: Microsoft, "FAT: General Overview of On-Disk Format", "FAT Directory Structure".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of an entry.
const ENTRY: usize = 32;
/// The four entries that `fatfs` begins a directory with.
const BEGINNING: usize = 4 * ENTRY;
/// Attributes of an entry of a long name, and of a directory.
const LONG: u8 = 0x0f;
const DIRECTORY: u8 = 0x10;
/// First byte of an entry that is free, with others behind it.
const FREE: u8 = 0xe5;

/// Mends this many directories of the FAT32 on `volume`, all of them.
pub(super) fn mend(volume: &File, directories: usize) -> io::Result<()> {
    let mut boot = [0; 512];
    volume.read_exact_at(&mut boot, 0)?;
    let half = |at: usize| u32::from(boot[at]) | u32::from(boot[at + 1]) << 8;
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let (sector, cluster) = (half(11), u32::from(boot[13]) * half(11));
    let data = u64::from(half(14) + u32::from(boot[16]) * word(36)) * u64::from(sector);
    let root = word(44);
    let mut left = directories;
    let mut place = data;
    while left > 0 {
        let mut bytes = [0; BEGINNING];
        // The end of the volume is an error: a directory is missing.
        volume.read_exact_at(&mut bytes, place)?;
        if mend_beginning(&mut bytes, root) {
            volume.write_all_at(&bytes, place)?;
            left -= 1;
        }
        place += u64::from(cluster);
    }
    Ok(())
}

/// Mends a directory by its first four entries; `false` when it is none, or one that is right already.
fn mend_beginning(bytes: &mut [u8; BEGINNING], root: u32) -> bool {
    let entry = |number: usize| &bytes[number * ENTRY..(number + 1) * ENTRY];
    let is_long = |number: usize| entry(number)[11] == LONG;
    let is = |number: usize, name: &[u8; 11]| entry(number)[..11] == *name && entry(number)[11] == DIRECTORY;
    if !(is_long(0) && is(1, b".          ") && is_long(2) && is(3, b"..         ")) {
        return false;
    }
    bytes.copy_within(ENTRY..2 * ENTRY, 0);
    bytes.copy_within(3 * ENTRY..4 * ENTRY, ENTRY);
    for free in [2, 3] {
        bytes[free * ENTRY..(free + 1) * ENTRY].fill(0);
        bytes[free * ENTRY] = FREE;
    }
    // In the root `..` leads to 0, not to the root's own number.
    let parent = &mut bytes[ENTRY..2 * ENTRY];
    if [parent[26], parent[27], parent[20], parent[21]] == root.to_le_bytes() {
        [parent[26], parent[27], parent[20], parent[21]] = [0; 4];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8; 11], attributes: u8, cluster: u8) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        entry[..11].copy_from_slice(name);
        (entry[11], entry[26]) = (attributes, cluster);
        entry
    }

    fn beginning(parent: u8) -> [u8; BEGINNING] {
        let entries = [
            entry(b"A.         ", LONG, 0),
            entry(b".          ", DIRECTORY, 7),
            entry(b"A.         ", LONG, 0),
            entry(b"..         ", DIRECTORY, parent),
        ];
        entries.concat().try_into().unwrap()
    }

    #[test]
    fn the_two_become_the_first_entries_and_what_they_took_is_free() {
        let mut bytes = beginning(5);
        assert!(mend_beginning(&mut bytes, 2));
        assert_eq!(bytes[..ENTRY], entry(b".          ", DIRECTORY, 7));
        assert_eq!(bytes[ENTRY..2 * ENTRY], entry(b"..         ", DIRECTORY, 5));
        assert_eq!((bytes[2 * ENTRY], bytes[3 * ENTRY]), (FREE, FREE));
        assert!(!mend_beginning(&mut bytes, 2), "it is right now");
    }

    #[test]
    fn below_the_root_the_parent_is_number_0() {
        let mut bytes = beginning(2);
        assert!(mend_beginning(&mut bytes, 2));
        assert_eq!(bytes[ENTRY..2 * ENTRY], entry(b"..         ", DIRECTORY, 0));
    }

    #[test]
    fn what_is_no_such_directory_stays_as_it_is() {
        for at in [11, ENTRY, ENTRY + 11, 2 * ENTRY + 11, 3 * ENTRY + 1] {
            let mut bytes = beginning(5);
            bytes[at] ^= 0x21;
            let before = bytes;
            assert!(!mend_beginning(&mut bytes, 2), "byte {at}");
            assert_eq!(bytes, before);
        }
    }
}
