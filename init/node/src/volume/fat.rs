//! The label of a FAT volume. It stands in two places: as an entry of the root directory, where every system that labels a
//! volume writes it, and in the boot sector, where formatting leaves it and where Windows writes `NO NAME`. So the entry is
//! the label, and the boot sector is asked only where there is none.
//!
//! Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03, sections "Boot Sector and BPB", "FAT Data Structure",
//! "FAT Directory Structure".

use super::bytes::{Bytes, Label, trimmed};

/// Most entries of the root directory that are looked at. A label is written when there are few.
const MOST_ENTRIES: usize = 4096;
/// Bytes of an entry.
const ENTRY: usize = 32;
/// The attribute of a label's entry, which no folder has. Others may be beside it.
const VOLUME_ID: u8 = 0x08;
const FOLDER: u8 = 0x10;
/// A part of a long name: it has the attribute of a label too, with three others.
const LONG_NAME: u8 = 0x0f;
/// First byte of a name: an entry that was deleted.
const DELETED: u8 = 0xe5;
/// What stands in the boot sector of a volume that was given no label.
const NO_NAME: &[u8] = b"NO NAME";

/// The label; `None` for what is no FAT volume. A volume may have an empty one.
pub(super) fn label(volume: &(impl Bytes + ?Sized)) -> Option<Label> {
    let mut boot = [0; 512];
    volume.read(0, &mut boot)?;
    let has = |at: usize, magic: &[u8]| boot[at..].starts_with(magic);
    if !has(0x1fe, &[0x55, 0xaa]) {
        return None;
    }
    let in_boot_sector = if has(0x36, b"FAT") {
        &boot[0x2b..0x36]
    } else if has(0x52, b"FAT32") {
        &boot[0x47..0x52]
    } else {
        return None;
    };
    let in_root = Layout::read(&boot).and_then(|layout| layout.label(volume));
    Some(in_root.unwrap_or_else(|| {
        let label = trimmed(in_boot_sector);
        if label == NO_NAME { Label::new() } else { label }
    }))
}

/// Where the root directory is.
struct Layout {
    bytes_per_sector: u64,
    sectors_per_cluster: u64,
    /// First sector of the first FAT.
    first_fat: u64,
    /// First sector behind the FATs: the root directory's of FAT12 and FAT16, else that of cluster 2.
    behind_fats: u64,
    root: Root,
}

enum Root {
    /// So many entries, in one piece.
    Fixed(usize),
    /// A chain of clusters.
    Chain(u32),
}

impl Layout {
    fn read(boot: &[u8; 512]) -> Option<Self> {
        let word = |at: usize| u16::from_le_bytes([boot[at], boot[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
        let bytes_per_sector = u64::from(word(0x0b));
        let sectors_per_cluster = u64::from(boot[0x0d]);
        let valid = bytes_per_sector.is_power_of_two()
            && (512..=4096).contains(&bytes_per_sector)
            && sectors_per_cluster.is_power_of_two();
        if !valid {
            return None;
        }
        let (first_fat, fats, entries) =
            (u64::from(word(0x0e)), u64::from(boot[0x10]), usize::from(word(0x11)));
        let (fat_sectors, root) = match word(0x16) {
            0 => (u64::from(long(0x24)), Root::Chain(long(0x2c))),
            short => (u64::from(short), Root::Fixed(entries)),
        };
        let behind_fats = first_fat + fats * fat_sectors;
        Some(Self { bytes_per_sector, sectors_per_cluster, first_fat, behind_fats, root })
    }

    /// The label's entry in the root directory. `None` when there is none, or the directory can't be read.
    fn label(&self, volume: &(impl Bytes + ?Sized)) -> Option<Label> {
        let mut left = MOST_ENTRIES;
        match self.root {
            Root::Fixed(entries) => {
                let at = self.behind_fats * self.bytes_per_sector;
                search(volume, at, entries.min(left)).found()
            }
            Root::Chain(mut cluster) => {
                let bytes = self.sectors_per_cluster * self.bytes_per_sector;
                let entries = usize::try_from(bytes).ok()? / ENTRY;
                while left >= entries {
                    // Clusters are counted from 2.
                    let number = u64::from(cluster.checked_sub(2)?);
                    let at = self.behind_fats * self.bytes_per_sector + number * bytes;
                    match search(volume, at, entries) {
                        Search::GoOn => {}
                        ended => return ended.found(),
                    }
                    left -= entries;
                    cluster = self.next(volume, cluster)?;
                }
                None
            }
        }
    }

    /// The cluster behind this one, by the first FAT; `None` at the chain's end.
    fn next(&self, volume: &(impl Bytes + ?Sized), cluster: u32) -> Option<u32> {
        let mut bytes = [0; 4];
        volume.read(self.first_fat * self.bytes_per_sector + 4 * u64::from(cluster), &mut bytes)?;
        // The highest four bits are not the number's.
        let next = u32::from_le_bytes(bytes) & 0x0fff_ffff;
        (2..0x0fff_fff7).contains(&next).then_some(next)
    }
}

enum Search {
    /// A label.
    Found(Label),
    /// The directory's end, or what can't be read.
    Ended,
    /// These entries are over, the directory may not be.
    GoOn,
}

impl Search {
    fn found(self) -> Option<Label> {
        if let Self::Found(label) = self { Some(label) } else { None }
    }
}

fn search(volume: &(impl Bytes + ?Sized), at: u64, entries: usize) -> Search {
    let mut entry = [0; ENTRY];
    for number in 0..entries {
        if volume.read(at + (number * ENTRY) as u64, &mut entry).is_none() || entry[0] == 0 {
            return Search::Ended;
        }
        let attributes = entry[11] & 0x3f;
        let is_label = attributes & (VOLUME_ID | FOLDER) == VOLUME_ID && attributes != LONG_NAME;
        if entry[0] != DELETED && is_label {
            return Search::Found(trimmed(&entry[..11]));
        }
    }
    Search::GoOn
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &[u8; 11] = b"OLDLABEL   ";

    fn entry(name: &[u8; 11], attribute: u8) -> Vec<u8> {
        let mut entry = vec![0; ENTRY];
        entry[..11].copy_from_slice(name);
        entry[11] = attribute;
        entry
    }

    /// FAT16 with 1024-byte sectors: one reserved, two FATs of three sectors, then a root of 64 entries.
    fn fat16(root: &[Vec<u8>]) -> Vec<u8> {
        let mut volume = vec![0; 0x8800];
        volume[0x0b..0x11].copy_from_slice(&[0, 4, 4, 1, 0, 2]);
        volume[0x11..0x13].copy_from_slice(&64_u16.to_le_bytes());
        volume[0x16] = 3;
        volume[0x2b..0x36].copy_from_slice(BOOT);
        volume[0x36..0x3e].copy_from_slice(b"FAT16   ");
        volume[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        let root = root.concat();
        volume[7 * 1024..][..root.len()].copy_from_slice(&root);
        volume
    }

    /// FAT32 with clusters of one sector: 32 reserved, one FAT of one sector; the root in clusters 5, 3, 4.
    fn fat32(root: &[Vec<u8>]) -> Vec<u8> {
        let mut volume = vec![0; 64 * 512];
        volume[0x0b..0x11].copy_from_slice(&[0, 2, 1, 32, 0, 1]);
        volume[0x24] = 1;
        volume[0x2c] = 5;
        volume[0x47..0x52].copy_from_slice(BOOT);
        volume[0x52..0x5a].copy_from_slice(b"FAT32   ");
        volume[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        for (cluster, next) in [(5, 3_u32), (3, 4), (4, 0x0fff_ffff)] {
            volume[32 * 512 + 4 * cluster..][..4].copy_from_slice(&next.to_le_bytes());
        }
        for (piece, cluster) in root.concat().chunks(512).zip([5, 3, 4]) {
            volume[(33 + cluster - 2) * 512..][..piece.len()].copy_from_slice(piece);
        }
        volume
    }

    fn read(volume: &[u8]) -> Vec<u8> {
        label(volume).unwrap().to_vec()
    }

    #[test]
    fn the_entry_in_the_root_directory_is_the_label_wherever_it_stands() {
        let mut root = vec![
            entry(b"\xe5STROMESH  ", 0x08),
            entry(b"Aa.b.c.d.e.", 0x0f),
            entry(b"FOLDER     ", 0x10),
            entry(b"ASTROMESH  ", 0x28),
            entry(b"OTHER      ", 0x08),
        ];
        for volume in [fat16(&root), fat32(&root)] {
            assert_eq!(read(&volume), b"ASTROMESH");
        }
        // Beyond the first cluster, and the second.
        for _ in 0..20 {
            root.insert(0, entry(b"FILE    TXT", 0x20));
        }
        for volume in [fat16(&root), fat32(&root)] {
            assert_eq!(read(&volume), b"ASTROMESH");
        }
    }

    #[test]
    fn the_boot_sector_is_asked_only_where_the_root_directory_has_no_label() {
        for volume in [fat16(&[]), fat32(&[]), fat16(&[entry(b"FILE    TXT", 0x20)])] {
            assert_eq!(read(&volume), b"OLDLABEL");
        }
        // A volume of Windows without a label.
        let mut unnamed = fat16(&[]);
        unnamed[0x2b..0x36].copy_from_slice(b"NO NAME    ");
        assert_eq!(read(&unnamed), b"");
        // Behind the end nothing counts, whatever a former directory left there.
        let mut ended = fat16(&[entry(b"FILE    TXT", 0x20)]);
        ended[7 * 1024 + 64..][..ENTRY].copy_from_slice(&entry(b"ASTROMESH  ", 0x08));
        assert_eq!(read(&ended), b"OLDLABEL");
    }

    #[test]
    fn a_chain_that_never_ends_or_leads_nowhere_ends_the_search() {
        let files = vec![entry(b"FILE    TXT", 0x20); 48];
        let mut round = fat32(&files);
        round[32 * 512 + 16..][..4].copy_from_slice(&5_u32.to_le_bytes());
        assert_eq!(read(&round), b"OLDLABEL");
        for cluster in [0, 1, 0x0fff_fff0] {
            let mut nowhere = fat32(&files);
            nowhere[0x2c..0x30].copy_from_slice(&u32::to_le_bytes(cluster));
            assert_eq!(read(&nowhere), b"OLDLABEL");
        }
        let whole = fat32(&files);
        for length in (0..whole.len()).step_by(97) {
            let _ = label(&whole[..length]);
        }
    }
}
