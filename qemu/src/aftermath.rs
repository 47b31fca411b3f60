//! Whether a disk that lost its power in the middle of an update still holds a node.
//!
//! It exists to look at hundreds of cuts without booting one: what firmware and boot loader would find is read from the
//! bytes ([`crate::write_log`]), by readers that never write. What must hold after every cut: some partition table is
//! whole; whatever the boot loader could start is, byte for byte, the kernel image of a release whose root and hash
//! tree are whole in the slot that it looks for; and the release that ran before is one of these.
//!
//! It refuses to guess: a name or a kernel image that is neither release's is a fault.

use crate::fat::Volume;
use crate::release::Release;
use crate::slots::{ESP, Uki};
use crate::write_log::{Cut, Event, Medium, Replay, WriteLog};
use astromesh_verity::{Gpt, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, SectorSize, Uuid, partition_uuids};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;

/// A release in memory, to compare with.
struct Whole {
    version: String,
    uki: Vec<u8>,
    root: Vec<u8>,
    verity: Vec<u8>,
    hash: RootHash,
}

impl Whole {
    fn read(release: &Release) -> io::Result<Self> {
        Ok(Self {
            version: release.version.clone(),
            uki: std::fs::read(&release.uki)?,
            root: std::fs::read(&release.root)?,
            verity: std::fs::read(&release.verity)?,
            hash: release.root_hash.parse().map_err(io::Error::other)?,
        })
    }
}

/// What the new release is on a disk that is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// The boot loader doesn't know it.
    Nothing,
    /// It has tries left, or had them.
    OnTrial,
    /// It is blessed.
    Kept,
}

/// Looks at disks between two releases.
pub struct Judge {
    old: Whole,
    new: Whole,
}

impl Judge {
    /// For an update from one release, which is blessed, to another.
    pub fn new(old: &Release, new: &Release) -> io::Result<Self> {
        Ok(Self { old: Whole::read(old)?, new: Whole::read(new)? })
    }

    /// The parts of a disk that [`Judge::look`] looks at: tables, boot partition, slots.
    pub fn looks_at(&self, medium: &Medium<'_>) -> Result<Vec<Range<u64>>, String> {
        let table = Table::read(medium)?;
        let mut parts = vec![0..1 << 20, (table.length - (1 << 20))..table.length];
        parts.extend(
            table
                .partitions
                .iter()
                .filter(|partition| partition.kind != Kind::Other)
                .map(|partition| partition.start..partition.start + partition.bytes),
        );
        Ok(parts)
    }

    /// What is wrong with a disk; or what it has of the new release.
    pub fn look(&self, medium: &Medium<'_>) -> Result<Found, String> {
        let table = Table::read(medium)?;
        let esp = table.partitions.iter().find(|partition| partition.kind == Kind::Esp);
        let esp = esp.ok_or("there is no boot partition")?;
        let volume = Volume::open(medium, esp.start).map_err(|error| error.to_string())?;
        let entries = volume.list("EFI/Linux").map_err(|error| error.to_string())?;
        let (mut old_is_kept, mut found) = (false, Found::Nothing);
        // The boot loader takes whatever ends so; a file without a byte it can't start, and passes over.
        let images = entries.iter().filter(|entry| {
            !entry.is_directory && entry.size > 0 && entry.name.to_lowercase().ends_with(".efi")
        });
        for image in images {
            let name = &image.name;
            let uki =
                Uki::parse(name).ok_or_else(|| format!("{name} could be started and is no name of ours"))?;
            let release = [&self.old, &self.new].into_iter().find(|release| release.version == uki.version);
            let release = release.ok_or_else(|| format!("{name} is of neither release"))?;
            if !volume.holds(image, &release.uki).map_err(|error| error.to_string())? {
                return Err(format!("{name} could be started and isn't whole"));
            }
            table.has(medium, release).map_err(|why| format!("{name} could be started, and {why}"))?;
            match (uki.version == self.old.version, uki.tries) {
                (true, tries) => old_is_kept |= tries.is_none(),
                (false, Some(_)) => found = found.max(Found::OnTrial),
                (false, None) => found = Found::Kept,
            }
        }
        if old_is_kept { Ok(found) } else { Err("the release that ran before can't be started".to_owned()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Esp,
    Root,
    Verity,
    Other,
}

struct Partition {
    kind: Kind,
    unique: Uuid,
    start: u64,
    bytes: u64,
}

/// The partition table that firmware and kernel take: the primary, or the backup where that one is torn.
struct Table {
    partitions: Vec<Partition>,
    length: u64,
}

impl Table {
    fn read(medium: &Medium<'_>) -> Result<Self, String> {
        let size = SectorSize::B512;
        let sector = size.bytes() as u64;
        let length = medium.length().map_err(|error| error.to_string())?;
        let read = |offset, length| medium.read(offset, length).map_err(|error| error.to_string());
        let start = read(0, size.table_bytes())?;
        let end = read(length - size.backup_bytes() as u64, size.backup_bytes())?;
        let table = Gpt::parse(&start, size).or_else(|primary| {
            Gpt::parse_backup(&end, size, length / sector)
                .map_err(|backup| format!("neither partition table is whole: {primary}; {backup}"))
        })?;
        let partition = |found: astromesh_verity::find::Partition| Partition {
            kind: match found.type_guid {
                kind if kind == ESP => Kind::Esp,
                kind if kind == ROOT_X86_64 => Kind::Root,
                kind if kind == ROOT_X86_64_VERITY => Kind::Verity,
                _ => Kind::Other,
            },
            unique: found.unique_guid,
            start: found.first_lba * sector,
            bytes: found.sectors() * sector,
        };
        Ok(Self { partitions: table.partitions().map(partition).collect(), length })
    }

    /// Whether root and hash tree of a release lie whole where its command line has them looked for.
    fn has(&self, medium: &Medium<'_>, release: &Whole) -> Result<(), String> {
        let ids = partition_uuids(&release.hash);
        for (what, kind, unique, wanted) in [
            ("root", Kind::Root, ids.root, &release.root),
            ("hash tree", Kind::Verity, ids.verity, &release.verity),
        ] {
            let same = |partition: &&Partition| partition.kind == kind && partition.unique == unique;
            let found = self.partitions.iter().find(same);
            let found = found.ok_or_else(|| format!("no partition is named as its {what}"))?;
            let holds = wanted.len() as u64 <= found.bytes
                && medium.read(found.start, wanted.len()).is_ok_and(|there| there == *wanted);
            if !holds {
                return Err(format!("its {what} isn't whole"));
            }
        }
        Ok(())
    }
}

/// In how many ways what no flush covers is lost at each write.
pub const WAYS: u64 = 8;

/// What power leaves when it fails after the first `at` events: in way 0 everything that was written, in way 1 what
/// was flushed, in every other way some writes, some parts of writes, and not the rest.
pub fn cut(log: &WriteLog, at: usize, way: u64, seed: u64) -> Cut {
    let mut state = mixed(seed ^ ((at as u64) << 8) ^ way);
    log.cut(at, |write| {
        state = mixed(state);
        match way {
            0 => write.length,
            1 => 0,
            _ => match state % 3 {
                0 => 0,
                1 => write.length,
                _ => (state >> 8) % write.length,
            },
        }
    })
}

/// splitmix64.
pub fn mixed(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a look at every cut of a log found.
#[derive(Debug, Default)]
pub struct Survey {
    /// How many cuts were looked at.
    pub cuts: usize,
    /// How many of them lost something that had been written.
    pub lost: usize,
    /// What sound disks had of the new release.
    pub found: BTreeMap<Found, usize>,
    /// After how many events, in which way, and what is wrong.
    pub faults: Vec<(usize, u64, String)>,
}

/// Looks at what power leaves when it fails after any write to the tables, the boot partition or the slots, in each
/// way. `disk` is as it was when the log began, and is written to.
pub fn survey(log: &WriteLog, disk: File, judge: &Judge, seed: u64) -> io::Result<Survey> {
    let mut replay = Replay::new(log, disk);
    let parts = judge.looks_at(&replay.after(&log.cut(0, |_| 0))?).map_err(io::Error::other)?;
    let mut survey = Survey::default();
    for (index, event) in log.events().iter().enumerate() {
        let Event::Write(write) = event else { continue };
        if !parts.iter().any(|part| write.offset < part.end && part.start < write.offset + write.length) {
            continue;
        }
        let at = index + 1;
        let whole = cut(log, at, 0, seed);
        for way in 0..WAYS {
            let cut = cut(log, at, way, seed);
            survey.cuts += 1;
            survey.lost += usize::from(cut != whole);
            match judge.look(&replay.after(&cut)?) {
                Ok(found) => *survey.found.entry(found).or_default() += 1,
                Err(fault) => survey.faults.push((at, way, fault)),
            }
        }
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;
    use crate::write_log::tests::log;
    use astromesh_rootfs::disk::{Contents, assemble};
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    const BLOCK: usize = 4096;

    /// Where it stands on the disk, and its bytes.
    type Block = (u64, Vec<u8>);

    /// Files of a release that are nothing but different from another's.
    fn release(home: &Path, version: &str, byte: u8) -> Release {
        let file = |name: &str, length: usize| -> PathBuf {
            let path = home.join(format!("{name}-{version}"));
            let content: Vec<u8> =
                (0..length).map(|at| byte ^ u8::try_from(at / 512 % 251).unwrap()).collect();
            std::fs::write(&path, content).unwrap();
            path
        };
        Release {
            version: version.to_owned(),
            uki: file("uki", 70_000),
            root: file("root", 16 * BLOCK),
            verity: file("verity", 2 * BLOCK),
            root_hash: format!("{byte:02x}").repeat(32),
        }
    }

    /// A boot partition with one kernel image.
    fn boot_partition(path: &Path, uki: &Release) {
        let mut file = File::options().create_new(true).read(true).write(true).open(path).unwrap();
        file.set_len(40 << 20).unwrap();
        let options =
            fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
        fatfs::format_volume(&mut file, options).unwrap();
        let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap();
        let images = volume.root_dir().create_dir("EFI").unwrap().create_dir("Linux").unwrap();
        let mut image = images.create_file(&uki.uki_name()).unwrap();
        image.write_all(&std::fs::read(&uki.uki).unwrap()).unwrap();
    }

    /// A disk before an update, and the blocks that it wrote: of the slot, of the tables, of the boot partition but
    /// for names, and names.
    struct Update {
        _home: tempfile::TempDir,
        judge: Judge,
        before: PathBuf,
        slot: Vec<Block>,
        tables: Vec<Block>,
        image: Vec<Block>,
        names: Vec<Block>,
    }

    impl Update {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let path = |name: &str| home.path().join(name);
            let (old, new) = (release(home.path(), "0.1.0", 0x11), release(home.path(), "0.2.0", 0x22));
            boot_partition(&path("esp"), &old);
            File::create(path("var")).unwrap().set_len(1 << 20).unwrap();
            let ids = partition_uuids(&old.root_hash.parse().unwrap());
            let (before, after) = (path("before"), path("after"));
            assemble(
                &Contents {
                    esp: &path("esp"),
                    version: &old.version,
                    root: &old.root,
                    root_partuuid: &ids.root.to_string(),
                    verity: &old.verity,
                    verity_partuuid: &ids.verity.to_string(),
                    var: &path("var"),
                },
                &before,
            )
            .unwrap();
            std::fs::copy(&before, &after).unwrap();
            Slots::of(&after).install(&new, &new.trial_name(3, 0)).unwrap();
            let mut update = Self {
                judge: Judge::new(&old, &new).unwrap(),
                before: before.clone(),
                slot: Vec::new(),
                tables: Vec::new(),
                image: Vec::new(),
                names: Vec::new(),
                _home: home,
            };
            let (before, after) = (std::fs::read(before).unwrap(), std::fs::read(after).unwrap());
            let esp = (1 << 20)..(41 << 20);
            for (at, (one, two)) in before.chunks(BLOCK).zip(after.chunks(BLOCK)).enumerate() {
                let at = at * BLOCK;
                if one == two {
                    continue;
                }
                let is_name = two.windows(7).any(|bytes| bytes == b"ASTROM~");
                let kind = match at {
                    at if at < 1 << 20 || at >= before.len() - (1 << 20) => &mut update.tables,
                    at if esp.contains(&at) && is_name => &mut update.names,
                    at if esp.contains(&at) => &mut update.image,
                    _ => &mut update.slot,
                };
                kind.push((at as u64, two.to_vec()));
            }
            for blocks in [&update.slot, &update.tables, &update.image, &update.names] {
                assert!(!blocks.is_empty());
            }
            update
        }

        /// Every cut of these writes; each group is flushed before the next begins.
        fn survey(&self, groups: &[&[Block]], seed: u64) -> Survey {
            let mut events = Vec::new();
            for group in groups {
                events.extend(group.iter().cloned().map(Some));
                events.push(None);
            }
            let disk = tempfile::NamedTempFile::new().unwrap();
            std::fs::copy(&self.before, disk.path()).unwrap();
            survey(&log(&events), disk.reopen().unwrap(), &self.judge, seed).unwrap()
        }
    }

    #[test]
    fn an_update_that_flushes_in_the_right_order_leaves_a_node_after_every_cut() {
        let update = Update::new();
        let survey = update.survey(&[&update.slot, &update.image, &update.tables, &update.names], 1);
        assert!(survey.faults.is_empty(), "{:?}", survey.faults);
        assert!(survey.cuts > 100 && survey.lost > 20, "{survey:?}");
        assert!(survey.found.contains_key(&Found::Nothing) && survey.found.contains_key(&Found::OnTrial));
    }

    #[test]
    fn twin_an_entry_before_its_slot_its_label_or_its_own_bytes_is_caught() {
        let update = Update::new();
        let Update { slot, tables, image, names, .. } = &update;
        let orders: [([&[Block]; 4], &str); 3] = [
            ([image, names, slot, tables], "no partition is named as its root"),
            ([tables, image, names, slot], "its root isn't whole"),
            ([slot, tables, names, image], "could be started and isn't whole"),
        ];
        for (order, fault) in orders {
            let faults = update.survey(&order, 1).faults;
            assert!(faults.iter().any(|(_, _, found)| found.contains(fault)), "{fault}: {faults:?}");
        }
        // In the right order, with nothing flushed between: only some ways of losing writes show it.
        let together: Vec<_> = [&slot[..], &image[..], &tables[..], &names[..]].concat();
        let faults: Vec<_> = (0..8).flat_map(|seed| update.survey(&[&together], seed).faults).collect();
        assert!(!faults.is_empty() && faults.iter().all(|(_, way, _)| *way > 1), "{faults:?}");
    }
}
