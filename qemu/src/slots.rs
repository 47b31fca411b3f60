//! What is installed on a disk that is off: the images on its boot partition, with their tries, and its slots.
//!
//! It exists so that a gate of updates asserts what lies on the disk, whoever wrote it there, and so that it can put a
//! release there by hand. Partition table and FAT are read and written by the crates `gpt` and `fatfs`, never by code
//! that a node runs. It refuses a disk with a table that is torn.
//!
//! Only for a disk whose machine is off: what a running guest has not written yet isn't here.

mod difference;

use crate::release::Release;
use astromesh_verity::{ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, Uuid, partition_uuids};
use fatfs::{FileSystem, FsOptions};
use gpt::partition::Partition;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The type of the EFI system partition (UEFI specification, "GPT Partition Entry").
pub(crate) const ESP: Uuid = Uuid::from_u128(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
/// Where the boot loader looks for unified kernel images.
const IMAGES: &str = "EFI/Linux";
/// Label of a slot that holds no release, as `systemd-sysupdate` knows it.
pub const EMPTY: &str = "_empty";
const SECTOR: u64 = 512;

/// Why a disk was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The partition table.
    #[error("the partition table of {path} can't be {action} ({source}). Is the machine off?")]
    Table {
        /// The disk.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the library said.
        source: gpt::GptError,
    },
    /// There is no such partition.
    #[error("{path} has no {what}. Is it a disk of ours?")]
    FindPartition {
        /// The disk.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file or a part of the disk.
    #[error("{what} on {path} can't be read or written ({source})")]
    UseDisk {
        /// The disk.
        path: PathBuf,
        /// What it was about.
        what: String,
        /// What the system or the library said.
        source: io::Error,
    },
    /// The release is not one.
    #[error("{0:?} is no root hash: give 64 hexadecimal digits")]
    ParseRootHash(String),
}

/// A unified kernel image on the boot partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki {
    /// Its name in `\EFI\Linux`.
    pub name: String,
    /// The version in it.
    pub version: String,
    /// Tries left and tries done; none when it is not counted: blessed, or never on trial.
    pub tries: Option<(u32, u32)>,
}

impl Uki {
    /// Reads a name such as `astromesh_0.2.0+2-1.efi` (UAPI group, Boot Loader Specification, "Boot counting").
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("astromesh_")?.strip_suffix(".efi")?;
        let (version, tries) = match stem.rsplit_once('+') {
            None => (stem, None),
            Some((version, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                (version, Some((left.parse().ok()?, done.parse().ok()?)))
            }
        };
        Some(Self { name: name.to_owned(), version: version.to_owned(), tries })
    }
}

/// What a partition of a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A root file system.
    Root,
    /// A hash tree.
    Verity,
}

/// A partition of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number in the table.
    pub number: u32,
    /// What it is for.
    pub part: Part,
    /// Its label: `root_0.1.0`, [`EMPTY`].
    pub label: String,
    /// Its PARTUUID.
    pub partuuid: Uuid,
    /// Its flags.
    pub flags: u64,
    start: u64,
    bytes: u64,
}

/// A raw disk image whose machine is off.
#[derive(Debug, Clone)]
pub struct Slots {
    path: PathBuf,
}

impl Slots {
    /// Of the disk at `path`.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Every image in `\EFI\Linux`, sorted by name; a name that is none of ours is an error.
    pub fn ukis(&self) -> Result<Vec<Uki>, SlotsError> {
        let names = self.on_esp(IMAGES, |root| {
            let mut names = Vec::new();
            for entry in root.open_dir(IMAGES)?.iter() {
                names.push(entry?.file_name());
            }
            names.retain(|name| name != "." && name != "..");
            names.sort();
            Ok(names)
        })?;
        let parse = |name: String| {
            Uki::parse(&name).ok_or_else(|| self.failed(&name)(io::Error::other("not a name of ours")))
        };
        names.into_iter().map(parse).collect()
    }

    /// The names of [`Slots::ukis`].
    pub fn uki_names(&self) -> Result<Vec<String>, SlotsError> {
        Ok(self.ukis()?.into_iter().map(|uki| uki.name).collect())
    }

    /// The bytes of a file on the boot partition, such as `EFI/Linux/astromesh_0.1.0.efi`.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, SlotsError> {
        self.on_esp(path, |root| {
            let mut content = Vec::new();
            root.open_file(path)?.read_to_end(&mut content)?;
            Ok(content)
        })
    }

    /// Writes a file of the boot partition, instead of one that is there.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<(), SlotsError> {
        self.on_esp(path, |root| {
            let mut file = root.create_file(path)?;
            file.truncate()?;
            file.write_all(content)?;
            file.flush()
        })
    }

    /// Renames an image in `\EFI\Linux`.
    pub fn rename_uki(&self, from: &str, to: &str) -> Result<(), SlotsError> {
        self.on_esp(from, |root| {
            let images = root.open_dir(IMAGES)?;
            images.rename(from, &images, to)
        })
    }

    /// Every partition of a slot, in the order of the table.
    pub fn slots(&self) -> Result<Vec<Slot>, SlotsError> {
        let slot = |(&number, partition): (&u32, &Partition)| {
            let part = match partition.part_type_guid.guid {
                kind if kind == ROOT_X86_64 => Part::Root,
                kind if kind == ROOT_X86_64_VERITY => Part::Verity,
                _ => return None,
            };
            Some(Slot {
                number,
                part,
                label: partition.name.clone(),
                partuuid: partition.part_guid,
                flags: partition.flags,
                start: partition.first_lba * SECTOR,
                bytes: (partition.last_lba - partition.first_lba + 1) * SECTOR,
            })
        };
        Ok(self.table(false)?.partitions().iter().filter_map(slot).collect())
    }

    /// The labels of the slots, in the order of the table.
    pub fn labels(&self) -> Result<Vec<String>, SlotsError> {
        Ok(self.slots()?.into_iter().map(|slot| slot.label).collect())
    }

    /// Whether something is written into a slot that has no label: an update is under way, or was cut off.
    pub fn starts_in_the_idle_slot(&self) -> Result<bool, SlotsError> {
        for slot in self.slots()?.iter().filter(|slot| slot.label == EMPTY) {
            let mut start = [0; 8192];
            let read = File::open(&self.path).and_then(|disk| disk.read_exact_at(&mut start, slot.start));
            read.map_err(self.failed(&slot.label))?;
            if start.iter().any(|&byte| byte != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a slot begins with exactly the bytes of `file`.
    pub fn holds(&self, slot: &Slot, file: &Path) -> Result<bool, SlotsError> {
        let same = || {
            let wanted = std::fs::read(file)?;
            let mut there = vec![0; wanted.len()];
            if wanted.len() as u64 > slot.bytes {
                return Ok(false);
            }
            File::open(&self.path)?.read_exact_at(&mut there, slot.start)?;
            Ok(there == wanted)
        };
        same().map_err(self.failed(&slot.label))
    }

    /// Whether `release` lies whole in one slot: labels, PARTUUIDs and bytes of root and hash tree.
    pub fn has(&self, release: &Release) -> Result<bool, SlotsError> {
        let slots = self.slots()?;
        for wanted in Wanted::of(release)? {
            let same = |slot: &&Slot| slot.part == wanted.part && slot.label == wanted.label;
            let mut found = slots.iter().filter(same);
            match (found.next(), found.next()) {
                (Some(slot), None)
                    if slot.partuuid == wanted.partuuid && self.holds(slot, wanted.file)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Puts `release` there by hand, as an updater would: bytes, PARTUUIDs and labels into the slot that is empty, the
    /// UKI under `name`.
    pub fn install(&self, release: &Release, name: &str) -> Result<(), SlotsError> {
        let slots = self.slots()?;
        let mut table = self.table(true)?;
        let mut partitions = table.partitions().clone();
        let disk = File::options().write(true).open(&self.path).map_err(self.failed("the disk"))?;
        for Wanted { part, label, partuuid, file } in Wanted::of(release)? {
            let empty = slots.iter().find(|slot| slot.part == part && slot.label == EMPTY);
            let what = "empty slot";
            let missing = || SlotsError::FindPartition { path: self.path.clone(), what };
            let slot = empty.ok_or_else(missing)?;
            let partition = partitions.get_mut(&slot.number).ok_or_else(missing)?;
            let write = |content: Vec<u8>| {
                if content.len() as u64 > slot.bytes {
                    return Err(io::Error::from(io::ErrorKind::FileTooLarge));
                }
                disk.write_all_at(&content, slot.start)
            };
            std::fs::read(file).and_then(write).map_err(self.failed(&label))?;
            partition.name = label;
            partition.part_guid = partuuid;
        }
        disk.sync_all().map_err(self.failed("the disk"))?;
        let written = table.update_partitions(partitions).and_then(|()| table.write());
        written.map_err(|source| SlotsError::Table { path: self.path.clone(), action: "written", source })?;
        let uki = std::fs::read(&release.uki).map_err(self.failed(name))?;
        self.write_file(&format!("{IMAGES}/{name}"), &uki)
    }

    /// Puts a file into the root directory of `/var`, which nothing on a node reads.
    pub fn put_on_var(&self, name: &str, content: &[u8]) -> Result<(), SlotsError> {
        let put = || {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(content)?;
            self.debugfs(&["-w"], &format!("write {} {name}", file.path().display())).map(drop)
        };
        put().map_err(self.failed(name))
    }

    /// Fills `/var` but for about `left` bytes, with a file in its root directory.
    pub fn fill_var(&self, left: u64) -> Result<(), SlotsError> {
        let fill = || {
            let stats = self.debugfs(&[], "stats -h")?;
            let field = |name: &str| {
                let line = stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
                line.ok_or_else(|| io::Error::other(format!("debugfs tells no {name:?}")))
            };
            let size = (field("Free blocks:")? * field("Block size:")?).saturating_sub(left);
            // Written block by block, or a file of zeros is one of holes.
            let mut file = tempfile::NamedTempFile::new()?;
            io::copy(&mut io::repeat(0xa5).take(size), &mut file)?;
            self.debugfs(&["-w"], &format!("write {} filler", file.path().display())).map(drop)
        };
        fill().map_err(self.failed("/var"))
    }

    /// Reads such a file.
    pub fn read_from_var(&self, name: &str) -> Result<Vec<u8>, SlotsError> {
        let read = || {
            let file = tempfile::NamedTempFile::new()?;
            self.debugfs(&[], &format!("dump {name} {}", file.path().display()))?;
            std::fs::read(file.path())
        };
        read().map_err(self.failed(name))
    }

    /// Has debugfs(8), which is in every Debian, do something to `/var`; what it said.
    fn debugfs(&self, options: &[&str], request: &str) -> io::Result<String> {
        let table = self.table(false).map_err(io::Error::other)?;
        let var = table.partitions().values().find(|partition| partition.name == "var");
        let start = var.ok_or_else(|| io::Error::other("there is no /var"))?.first_lba * SECTOR;
        let device = format!("{}?offset={start}", self.path.display());
        let output = Command::new("/sbin/debugfs").args(options).args(["-R", request, &device]).output()?;
        // It exits with 0 whatever happens. The first line of its standard error is its version.
        let said = String::from_utf8_lossy(&output.stderr);
        match said.lines().nth(1) {
            None if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            line => Err(io::Error::other(line.unwrap_or("debugfs failed").to_owned())),
        }
    }

    fn table(&self, writable: bool) -> Result<gpt::GptDisk<File>, SlotsError> {
        let action = "read";
        let opened = gpt::GptConfig::new().writable(writable).open(&self.path);
        opened.map_err(|source| SlotsError::Table { path: self.path.clone(), action, source })
    }

    /// Does something in the root directory of the boot partition.
    fn on_esp<T>(
        &self,
        what: &str,
        act: impl FnOnce(&fatfs::Dir<'_, Window>) -> io::Result<T>,
    ) -> Result<T, SlotsError> {
        let table = self.table(false)?;
        let esp = table.partitions().values().find(|partition| partition.part_type_guid.guid == ESP);
        let missing = || SlotsError::FindPartition { path: self.path.clone(), what: "boot partition" };
        let esp = esp.ok_or_else(missing)?;
        let (start, length) = (esp.first_lba * SECTOR, (esp.last_lba - esp.first_lba + 1) * SECTOR);
        let done = || {
            let file = File::options().read(true).write(true).open(&self.path)?;
            let volume = FileSystem::new(Window { file, start, length, place: 0 }, FsOptions::new())?;
            let result = act(&volume.root_dir())?;
            volume.unmount()?;
            Ok(result)
        };
        done().map_err(self.failed(what))
    }

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> SlotsError {
        let (path, what) = (self.path.clone(), what.to_owned());
        move |source| SlotsError::UseDisk { path, what, source }
    }
}

/// What a partition must be to be a release's.
struct Wanted<'a> {
    part: Part,
    label: String,
    partuuid: Uuid,
    file: &'a Path,
}

impl<'a> Wanted<'a> {
    /// Root and hash tree.
    fn of(release: &'a Release) -> Result<[Self; 2], SlotsError> {
        let hash: Result<RootHash, _> = release.root_hash.parse();
        let hash = hash.map_err(|_| SlotsError::ParseRootHash(release.root_hash.clone()))?;
        let ids = partition_uuids(&hash);
        let label = |kind| format!("{kind}_{}", release.version);
        Ok([
            Self { part: Part::Root, label: label("root"), partuuid: ids.root, file: &release.root },
            Self { part: Part::Verity, label: label("verity"), partuuid: ids.verity, file: &release.verity },
        ])
    }
}

/// A part of a file as a file.
struct Window {
    file: File,
    start: u64,
    length: u64,
    place: u64,
}

impl Window {
    fn room(&self, wanted: usize) -> usize {
        let left = self.length.saturating_sub(self.place);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.start + self.place)?;
        self.place += count as u64;
        Ok(count)
    }
}

impl Write for Window {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.file.write_at(&buffer[..room], self.start + self.place)?;
        self.place += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.place.checked_add_signed(by),
        };
        self.place = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_version_and_tries() {
        let uki = |version: &str, tries| Some((version.to_owned(), tries));
        let parse = |name| Uki::parse(name).map(|uki| (uki.version, uki.tries));
        assert_eq!(parse("astromesh_0.1.0.efi"), uki("0.1.0", None));
        assert_eq!(parse("astromesh_0.2.0+2-1.efi"), uki("0.2.0", Some((2, 1))));
        assert_eq!(parse("astromesh_0.2.0+3.efi"), uki("0.2.0", Some((3, 0))));
        for other in ["BOOTX64.EFI", "astromesh_0.2.0+x.efi", "astromesh_0.2.0+1-2.tmp", "astromesh.efi"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_window_ends_where_its_partition_does() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let mut window = Window { file, start: 10, length: 20, place: 0 };
        assert_eq!(window.write(&[7; 30]).unwrap(), 20);
        assert_eq!(window.write(&[7; 30]).unwrap(), 0);
        assert_eq!(window.seek(SeekFrom::End(-5)).unwrap(), 15);
        let mut rest = Vec::new();
        assert_eq!(window.read_to_end(&mut rest).unwrap(), 5);
        assert!(window.seek(SeekFrom::Current(-30)).is_err());
    }
}
