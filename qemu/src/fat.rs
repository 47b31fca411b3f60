//! The boot partition as firmware sees it after a power cut: FAT32, read without ever writing.
//!
//! The crate `fatfs`, which reads and writes disks that are off, wants a file that it can write to and looks away from what
//! it can't use. After a cut that is the question: which names are there, and which bytes does the chain of each lead to.
//! So this is a reader of its own, pure and bounded by the number of clusters. Source: Microsoft's "FAT: General Overview
//! of On-Disk Format" 1.03.

use crate::write_log::Medium;
use std::io;

/// Bytes of a directory entry.
const ENTRY: usize = 32;
/// First byte of an entry after which there is none.
const END: u8 = 0;
/// First byte of an entry that was removed.
const REMOVED: u8 = 0xe5;
/// Attributes of a piece of a long name.
const LONG_NAME: u8 = 0x0f;
/// Attribute of a directory.
const DIRECTORY: u8 = 0x10;
/// Attribute of the volume's label.
const LABEL: u8 = 0x08;
/// Least number of a cluster that ends a chain; of the 32 bits, 28 count.
const LAST: u32 = 0x0fff_fff8;

/// A volume on a medium.
pub struct Volume<'a> {
    medium: &'a Medium<'a>,
    /// Where it begins on the medium, in bytes.
    start: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// The first FAT.
    table: Vec<u8>,
    /// Where the first cluster, number 2, begins in the volume.
    data: u64,
    root: u32,
}

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its long name, or its short one where it has none that belongs to it.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its bytes.
    pub size: u32,
    first: u32,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the boot partition is damaged: {what}"))
}

fn short(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<'a> Volume<'a> {
    /// The volume that begins at `start`.
    pub fn open(medium: &'a Medium<'a>, start: u64) -> io::Result<Self> {
        let boot = medium.read(start, 512)?;
        let (sector, per_cluster) = (short(&boot, 11), u64::from(boot[13]));
        let (reserved, tables) = (short(&boot, 14), u64::from(boot[16]));
        let (table_sectors, root) = (long(&boot, 36), long(&boot, 44));
        // With no entries in a fixed root, and no 16-bit length of its table, it is FAT32.
        if boot[510..] != [0x55, 0xaa] || sector != 512 || per_cluster == 0 || short(&boot, 17) != 0 {
            return Err(damaged("its first sector describes no FAT32"));
        }
        if short(&boot, 22) != 0 || table_sectors == 0 || table_sectors > 1 << 20 || tables == 0 {
            return Err(damaged("its first sector describes no table of FAT32"));
        }
        let table = medium.read(start + reserved * sector, table_sectors as usize * 512)?;
        let data = (reserved + tables * u64::from(table_sectors)) * sector;
        Ok(Self { medium, start, cluster: per_cluster * sector, table, data, root })
    }

    /// The clusters from `first` on, in order, as runs of neighbours: where each begins on the medium, and its bytes.
    fn chain(&self, first: u32) -> io::Result<Vec<(u64, u64)>> {
        let count = self.table.len() / 4;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut cluster = first;
        for _ in 0..count {
            if !(2..count as u64).contains(&u64::from(cluster)) {
                return Err(damaged("a chain of clusters leads nowhere"));
            }
            let place = self.start + self.data + u64::from(cluster - 2) * self.cluster;
            match runs.last_mut() {
                Some((start, length)) if *start + *length == place => *length += self.cluster,
                _ => runs.push((place, self.cluster)),
            }
            cluster = long(&self.table, cluster as usize * 4) & 0x0fff_ffff;
            if cluster >= LAST {
                return Ok(runs);
            }
        }
        Err(damaged("a chain of clusters never ends"))
    }

    fn content(&self, first: u32) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        for (place, length) in self.chain(first)? {
            content.extend(self.medium.read(place, usize::try_from(length).map_err(io::Error::other)?)?);
        }
        Ok(content)
    }

    fn entries(&self, first: u32) -> io::Result<Vec<Entry>> {
        let content = self.content(first)?;
        Ok(parse_directory(&content))
    }

    /// What lies in the directory at `path`, such as `EFI/Linux`, without `.`, `..` and the label.
    pub fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let mut entries = self.entries(self.root)?;
        for name in path.split('/') {
            let same = |entry: &&Entry| entry.is_directory && entry.name.eq_ignore_ascii_case(name);
            let found = entries.iter().find(same).ok_or_else(|| damaged(&format!("there is no {name}")))?;
            entries = self.entries(found.first)?;
        }
        Ok(entries)
    }

    /// Whether a file has exactly these bytes. One whose chain is broken has others.
    pub fn holds(&self, file: &Entry, wanted: &[u8]) -> io::Result<bool> {
        if u64::from(file.size) != wanted.len() as u64 {
            return Ok(false);
        }
        let Ok(runs) = self.chain(file.first) else { return Ok(wanted.is_empty()) };
        let mut rest = wanted;
        for (place, length) in runs {
            let (now, later) = rest.split_at(rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
            if self.medium.read(place, now.len())? != now {
                return Ok(false);
            }
            rest = later;
        }
        Ok(rest.is_empty())
    }
}

/// The entries of a directory. A long name counts only where its pieces are all there and have its entry's sum.
fn parse_directory(content: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut pieces: Vec<(u8, u8, [u16; 13])> = Vec::new();
    for entry in content.chunks_exact(ENTRY) {
        let (first, attributes) = (entry[0], entry[11]);
        if first == END {
            break;
        }
        if first != REMOVED && attributes == LONG_NAME {
            // The last piece comes first, and says so.
            if first & 0x40 != 0 {
                pieces.clear();
            }
            let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
            let units = places.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
            pieces.push((first & 0x3f, entry[13], units));
            continue;
        }
        if first != REMOVED && first != b'.' && attributes & LABEL == 0 {
            found.push(Entry {
                name: long_name(&pieces, short_sum(&entry[..11])).unwrap_or_else(|| short_name(entry)),
                is_directory: attributes & DIRECTORY != 0,
                size: long(entry, 28),
                first: u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]]),
            });
        }
        pieces.clear();
    }
    found
}

fn long_name(pieces: &[(u8, u8, [u16; 13])], sum: u8) -> Option<String> {
    // They stand before their entry, the last piece of the name first.
    let numbers = pieces.iter().map(|(number, ..)| usize::from(*number));
    if pieces.is_empty() || !numbers.eq((1..=pieces.len()).rev()) || pieces.iter().any(|piece| piece.1 != sum)
    {
        return None;
    }
    let units = pieces.iter().rev().flat_map(|(.., units)| *units).take_while(|&unit| unit != 0);
    String::from_utf16(&units.collect::<Vec<_>>()).ok()
}

fn short_sum(name: &[u8]) -> u8 {
    name.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match (part(&entry[..8]), part(&entry[8..11])) {
        (stem, extension) if extension.is_empty() => stem,
        (stem, extension) => format!("{stem}.{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_log::{Replay, tests::log};
    use std::io::Write as _;

    /// A volume that `fatfs` made, 1 MiB into a disk.
    fn disk() -> (std::fs::File, Vec<u8>) {
        const START: u64 = 1 << 20;
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut volume = io::Cursor::new(vec![0; 40 << 20]);
        let options =
            fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
        fatfs::format_volume(&mut volume, options).unwrap();
        {
            let opened = fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).unwrap();
            let root = opened.root_dir();
            let images = root.create_dir("EFI").unwrap().create_dir("Linux").unwrap();
            // Two files that grow in turn, so that neither is in one piece.
            let mut one = images.create_file("astromesh_0.1.0.efi").unwrap();
            let mut two = images.create_file("astromesh_0.2.0+3-0.efi").unwrap();
            for piece in content.chunks(50_000) {
                one.write_all(piece).unwrap();
                two.write_all(piece).unwrap();
            }
            images.create_file("gone.efi").unwrap();
            images.remove("gone.efi").unwrap();
            images.create_file("EMPTY.EFI").unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0; usize::try_from(START).unwrap()]).unwrap();
        file.write_all(&volume.into_inner()).unwrap();
        (file, content)
    }

    #[test]
    fn names_and_bytes_are_those_that_another_writer_put_there() {
        let (file, content) = disk();
        let log = log(&[]);
        let mut replay = Replay::new(&log, file);
        let medium = replay.after(&log.cut(0, |_| 0)).unwrap();
        let volume = Volume::open(&medium, 1 << 20).unwrap();
        let entries = volume.list("EFI/Linux").unwrap();
        let names: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.size)).collect();
        let size = u32::try_from(content.len()).unwrap();
        assert_eq!(
            names,
            [("astromesh_0.1.0.efi", size), ("astromesh_0.2.0+3-0.efi", size), ("EMPTY.EFI", 0)]
        );
        for entry in &entries[..2] {
            assert!(volume.holds(entry, &content).unwrap());
            let mut other = content.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(!volume.holds(entry, &other).unwrap(), "the last byte is looked at too");
            assert!(!volume.holds(entry, &content[1..]).unwrap());
        }
        assert!(volume.list("EFI/Windows").is_err());
    }

    #[test]
    fn a_long_name_whose_pieces_do_not_belong_to_its_entry_does_not_count() {
        let (file, _) = disk();
        let log = log(&[]);
        let mut replay = Replay::new(&log, file);
        let medium = replay.after(&log.cut(0, |_| 0)).unwrap();
        let volume = Volume::open(&medium, 1 << 20).unwrap();
        let root = volume.list("EFI").unwrap();
        let mut content = volume.content(root[0].first).unwrap();
        let first = |content: &[u8]| parse_directory(content)[0].name.clone();
        assert_eq!(first(&content), "astromesh_0.1.0.efi");
        // The piece that begins the name, from its second byte on; another sum in it.
        let piece = content.windows(10).position(|bytes| bytes == b"a\0s\0t\0r\0o\0").unwrap() - 1;
        content[piece + 13] ^= 1;
        assert!(!first(&content).starts_with("astromesh"), "{}", first(&content));
    }
}
