//! The EFI system partition: `preboot`, systemd-boot and unified kernel images on a FAT that firmware reads.
//!
//! `\EFI\BOOT\BOOTX64.EFI` is what firmware starts from a disk that it knows nothing about, which every cloud image is. It
//! is `preboot`, which starts systemd-boot from the place that is its own.
//! No time, no random number, no serial number of the building machine: the same files are the same partition.
//!
//! **Room.** Each update puts a second image beside the running one, and a third for a moment while it replaces the
//! older; with those three, half of the partition must still be free. [`make`] refuses an image that breaks this sum,
//! since a partition can't be enlarged once a node is in the field.

mod dots;

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider, format_volume,
};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// systemd-boot in its package.
pub const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// The place of what firmware starts.
pub const FIRST: &str = "EFI/BOOT/BOOTX64.EFI";
/// The place of systemd-boot, where `preboot` looks for it.
pub const LOADER_PLACE: &str = "EFI/systemd/systemd-bootx64.efi";

/// Bytes of the partition. Twice three images at their ceilings (9.0 MB kernel and 2.5 MB initramfs each) is 69 MB; the
/// rest is for a kernel that grows, because this number is there to stay.
pub const SIZE: u64 = 96 << 20;

/// How many images there are at most: two releases, and one that is being written.
pub const IMAGES: u64 = 3;

/// FAT32 begins at 65525 clusters (Microsoft's "FAT: General Overview of On-Disk Format"); this makes 98304.
const CLUSTER: u32 = 1024;

/// Fixed, so that two builds agree.
const VOLUME_ID: u32 = 0xA57E_0C1E;

/// The boot loader's settings: loader.conf(5). No menu, nobody edits the command line, and the newest release that has
/// tries left is started at once.
pub const LOADER_CONF: &str = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n";

/// The partition could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// Reading a file or writing the partition.
    #[error("{action} {path} failed ({source})")]
    WriteEsp {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sum of the sizes.
    #[error(
        "a unified kernel image of {image} bytes is too large: {IMAGES} of them must leave half of the {SIZE} bytes of \
         the EFI system partition free; make kernel or init smaller"
    )]
    FitImages {
        /// Bytes of one image.
        image: u64,
    },
}

/// What goes onto the partition.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// What firmware starts first.
    pub preboot: &'a Path,
    /// systemd-boot.
    pub loader: &'a Path,
    /// The unified kernel image.
    pub uki: &'a Path,
    /// Its name below `\EFI\Linux`: the boot loader counts tries in it and sorts by it.
    pub uki_name: &'a str,
}

/// Writes the partition to `out`.
pub fn make(files: &Files<'_>, out: &Path) -> Result<(), EspError> {
    let image = fs::metadata(files.uki).map_err(at("reading", files.uki))?.len();
    check_room(image)?;
    let contents = [
        (FIRST.to_owned(), read_whole(files.preboot)?),
        (LOADER_PLACE.to_owned(), read_whole(files.loader)?),
        (format!("EFI/Linux/{}", files.uki_name), read_whole(files.uki)?),
        ("loader/loader.conf".to_owned(), LOADER_CONF.into()),
    ];
    make_with(&["EFI", "EFI/BOOT", "EFI/Linux", "EFI/systemd", "loader"], &contents, out)
}

/// Writes a partition with these directories, each behind its parent, and these files, as `(path, content)`. For a disk
/// that is not ours.
pub fn make_with(directories: &[&str], contents: &[(String, Vec<u8>)], out: &Path) -> Result<(), EspError> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(out);
    let file = file.map_err(at("making", out))?;
    file.set_len(SIZE).map_err(at("sizing", out))?;
    write(&file, directories, contents).map_err(at("writing", out))
}

fn read_whole(path: &Path) -> Result<Vec<u8>, EspError> {
    fs::read(path).map_err(at("reading", path))
}

fn check_room(image: u64) -> Result<(), EspError> {
    let room = SIZE / 2;
    if image.checked_mul(IMAGES).is_some_and(|images| images <= room) {
        Ok(())
    } else {
        Err(EspError::FitImages { image })
    }
}

fn write(device: &File, directories: &[&str], contents: &[(String, Vec<u8>)]) -> io::Result<()> {
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER)
        .volume_id(VOLUME_ID)
        .volume_label(*b"ESP        ");
    format_volume(device, options)?;
    let open = || {
        let mut device = device;
        device.rewind()?;
        FileSystem::new(device, FsOptions::new().time_provider(&FIXED))
    };
    let volume = open()?;
    for directory in directories {
        volume.root_dir().create_dir(directory)?;
    }
    volume.unmount()?;
    dots::mend(device, directories.len())?;
    let volume = open()?;
    for (name, content) in contents {
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    // Counts the free clusters once, so that the number is written down.
    volume.stats()?;
    volume.unmount()
}

/// What the boot partition of the finished `disk` holds: `(path, content)`, whoever wrote it there.
pub fn read(disk: &Path) -> Result<Vec<(String, Vec<u8>)>, EspError> {
    files(disk).map_err(at("reading the boot partition of", disk))
}

fn files(disk: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let table = gpt::GptConfig::new().open(disk).map_err(io::Error::other)?;
    let esp = table.partitions().values().find(|entry| entry.part_type_guid.guid == crate::disk::TYPE_ESP);
    let esp = esp.ok_or_else(|| io::Error::other("there is none in its table"))?;
    let start = esp.bytes_start(*table.logical_block_size()).map_err(io::Error::other)?;
    let mut bytes = vec![0; usize::try_from(SIZE).map_err(io::Error::other)?];
    File::open(disk)?.read_exact_at(&mut bytes, start)?;
    let volume = FileSystem::new(io::Cursor::new(bytes), FsOptions::new())?;
    let mut found = Vec::new();
    let mut directories = vec![(String::new(), volume.root_dir())];
    while let Some((path, directory)) = directories.pop() {
        for entry in directory.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if entry.is_dir() && name != "." && name != ".." {
                directories.push((format!("{path}{name}/"), entry.to_dir()));
            } else if entry.is_file() {
                let mut content = Vec::new();
                entry.to_file().read_to_end(&mut content)?;
                found.push((format!("{path}{name}"), content));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// FAT stores times; this is the first that it can.
#[derive(Debug)]
struct FixedTime;

static FIXED: FixedTime = FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time { hour: 0, min: 0, sec: 0, millis: 0 };
        DateTime { date: self.get_current_date(), time }
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EspError {
    let path = path.to_owned();
    move |source| EspError::WriteEsp { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let [preboot, loader, uki, out] =
            ["preboot", "loader", "uki", "esp"].map(|name| dir.path().join(name));
        fs::write(&preboot, vec![3; 400]).unwrap();
        fs::write(&loader, vec![1; 5000]).unwrap();
        fs::write(&uki, vec![2; 100_000]).unwrap();
        make(&Files { preboot: &preboot, loader: &loader, uki: &uki, uki_name: name }, &out).unwrap();
        (dir, out)
    }

    #[test]
    fn each_finds_the_next_firmware_preboot_loader_and_image() {
        let (_dir, out) = built("astromesh_0.1.0.efi");
        let volume = FileSystem::new(File::open(out).unwrap(), FsOptions::new()).unwrap();
        assert_eq!(volume.fat_type(), FatType::Fat32);
        for (path, length) in [
            ("EFI/BOOT/BOOTX64.EFI", 400),
            ("EFI/systemd/systemd-bootx64.efi", 5000),
            ("EFI/Linux/astromesh_0.1.0.efi", 100_000),
        ] {
            let mut content = Vec::new();
            volume.root_dir().open_file(path).unwrap().read_to_end(&mut content).unwrap();
            assert_eq!(content.len(), length, "{path}");
        }
    }

    /// Each directory's first entries, by their short names as they lie on the disk, with where they lead to.
    fn beginnings(volume: &[u8]) -> Vec<[(String, u32); 2]> {
        let half = |at: usize| u32::from(u16::from_le_bytes([volume[at], volume[at + 1]]));
        let word = |at: usize| half(at) | half(at + 2) << 16;
        let start = (half(14) + u32::from(volume[16]) * word(36)) * half(11);
        let at = |cluster: u32| usize::try_from(start + (cluster - 2) * CLUSTER).unwrap();
        let entry = |at: usize| {
            let name = String::from_utf8_lossy(&volume[at..at + 11]).trim_end().to_owned();
            (name, half(at + 26) | half(at + 20) << 16)
        };
        // The directories of these tests fit a cluster.
        let below = |cluster: u32| {
            let entries = (at(cluster)..at(cluster + 1)).step_by(32).take_while(|at| volume[*at] != 0);
            let directories = entries.filter(|at| volume[*at] != 0xe5 && volume[at + 11] == 0x10);
            let real = directories.filter(|at| volume[*at] != b'.').map(|at| entry(at).1);
            real.collect::<Vec<_>>()
        };
        let mut open = below(word(44));
        let mut found = Vec::new();
        while let Some(cluster) = open.pop() {
            found.push([entry(at(cluster)), entry(at(cluster) + 32)]);
            open.extend(below(cluster));
        }
        found
    }

    #[test]
    fn every_directory_begins_with_itself_and_its_parent() {
        let (_dir, out) = built("astromesh_0.1.0.efi");
        let found = beginnings(&fs::read(out).unwrap());
        assert_eq!(found.len(), 5);
        for [own, parent] in found {
            assert_eq!((own.0.as_str(), parent.0.as_str()), (".", ".."));
            assert!(parent.1 == 0 || parent.1 < own.1, "{own:?} {parent:?}");
        }
    }

    #[test]
    fn the_same_files_are_the_same_partition() {
        let ((_one_dir, one), (_two_dir, two)) = (built("a.efi"), built("a.efi"));
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
    }

    #[test]
    fn three_images_leave_half_of_the_partition_free_or_are_refused() {
        assert!(check_room(SIZE / 6).is_ok());
        assert!(matches!(check_room(SIZE / 6 + 1), Err(EspError::FitImages { .. })));
        assert!(matches!(check_room(u64::MAX), Err(EspError::FitImages { .. })));
    }
}
