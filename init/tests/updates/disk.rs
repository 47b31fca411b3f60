//! The disk of the model: boot entries, slots and floor, as small as they can be told apart; and the boot loader.

use astromesh_proto::boot_entry::{BootEntry, Tries};
use astromesh_proto::update::SlotPartition;
use astromesh_proto::version::Version;

/// A release: 1, 2 or 3; 0 where there is none.
pub type Number = u8;

/// All of them. The first is what the disk was made with.
pub const RELEASES: [Number; 3] = [1, 2, 3];

pub fn version(number: Number) -> Version {
    Version { major: 0, minor: number.into(), patch: 0 }
}

pub fn number(version: Version) -> Number {
    u8::try_from(version.minor).unwrap()
}

/// The names that the entry of one release can have: without count, the counts of three tries, and none left.
const NAMES: [Option<(u32, u32)>; 12] = [
    None,
    Some((3, 0)),
    Some((2, 1)),
    Some((1, 2)),
    Some((0, 0)),
    Some((0, 1)),
    Some((0, 2)),
    Some((0, 3)),
    Some((0, 4)),
    Some((0, 5)),
    Some((0, 6)),
    Some((0, 7)),
];

/// The names that the entry of one release has: more than one after a rename that power cut in two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Names(u16);

impl Names {
    fn bit(entry: &BootEntry) -> u16 {
        let tries = entry.tries.map(|tries| (tries.left, tries.done));
        let place = NAMES.iter().position(|name| *name == tries);
        1 << place.unwrap_or_else(|| panic!("{entry} is no name of the model"))
    }

    pub fn add(&mut self, entry: &BootEntry) {
        self.0 |= Self::bit(entry);
    }

    pub fn remove(&mut self, entry: &BootEntry) {
        self.0 &= !Self::bit(entry);
    }

    pub fn is_kept(self) -> bool {
        self.0 & 1 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As entries, the kept one first, then those with fewer tries left: as the node lists them.
    fn entries(self, release: Number) -> impl Iterator<Item = BootEntry> {
        const ORDER: [usize; 12] = [0, 4, 5, 6, 7, 8, 9, 10, 11, 3, 2, 1];
        ORDER.into_iter().filter(move |place| self.0 & 1 << place != 0).map(move |place| BootEntry {
            version: version(release),
            tries: NAMES[place].map(|(left, done)| Tries { left, done }),
        })
    }
}

/// What lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Entries of each release.
    pub names: [Names; 3],
    /// Whether the kernel image of each release's entry is what was signed.
    pub good: [bool; 3],
    /// Which release's root and hash tree are whole in each slot; 0 for none.
    pub slots: [Number; 2],
    /// The floor; 0 for none.
    pub floor: Number,
}

fn place(release: Number) -> usize {
    usize::from(release) - 1
}

/// All entries, newest release first.
pub fn entries(names: [Names; 3]) -> Vec<BootEntry> {
    RELEASES.into_iter().rev().flat_map(|release| names[place(release)].entries(release)).collect()
}

impl Disk {
    /// As it was made: the first release, kept.
    pub fn new() -> Self {
        let mut disk =
            Self { names: [Names::default(); 3], good: [true, false, false], slots: [1, 0], floor: 0 };
        disk.add(&BootEntry::blessed(version(1)));
        disk
    }

    pub fn entries(&self) -> Vec<BootEntry> {
        entries(self.names)
    }

    pub fn names_of(&mut self, release: Number) -> &mut Names {
        &mut self.names[place(release)]
    }

    pub fn add(&mut self, entry: &BootEntry) {
        self.names_of(number(entry.version)).add(entry);
    }

    pub fn remove(&mut self, entry: &BootEntry) {
        self.names_of(number(entry.version)).remove(entry);
    }

    /// Of a file that is gone nothing is left that could be told apart.
    pub fn forget_what_is_gone(&mut self) {
        for (names, good) in self.names.iter().zip(&mut self.good) {
            *good &= !names.is_empty();
        }
    }

    pub fn is_good(&mut self, release: Number) -> &mut bool {
        &mut self.good[place(release)]
    }

    /// The labels of the partitions.
    pub fn partitions(&self) -> Vec<SlotPartition> {
        let whole = self.slots.into_iter().filter(|release| *release != 0);
        let partition = |kind: &str, release| SlotPartition {
            label: format!("{kind}_{}", version(release)),
            number: 0,
            partuuid: String::new(),
        };
        whole.flat_map(|release| [partition("root", release), partition("verity", release)]).collect()
    }

    pub fn has(&self, release: Number) -> bool {
        self.slots.contains(&release)
    }

    /// What the boot loader may start: systemd-boot sorts entries without tries behind all others, then the newest release
    /// first (`boot_entry_compare()` of src/boot/boot.c). It doesn't tell a kept name from a counted one of the same release.
    pub fn loader_may_start(&self) -> Vec<BootEntry> {
        let entries = self.entries();
        let rank = |entry: &BootEntry| (entry.is_bootable(), entry.version);
        let best = entries.iter().map(rank).max();
        let mut first: Vec<_> = entries.into_iter().filter(|entry| Some(rank(entry)) == best).collect();
        // Of two with a count, the one with more tries left.
        let most = first.iter().filter_map(|entry| entry.tries).max_by_key(|tries| (tries.left, !tries.done));
        first.retain(|entry| entry.tries.is_none() || entry.tries == most);
        first
    }

    /// What is wrong with it, whatever the machine does at this moment.
    pub fn fault(&self) -> Option<String> {
        let is_kept = |release| self.names[place(release)].is_kept();
        let falls_back = |release: Number| is_kept(release) && self.good[place(release)] && self.has(release);
        if !RELEASES.into_iter().any(falls_back) {
            return Some("no release that was kept can be started".to_owned());
        }
        for entry in self.entries() {
            if entry.is_bootable() && !self.good[place(number(entry.version))] {
                return Some(format!("{entry} has tries, and was not verified"));
            }
        }
        // Tries run out, so one that has a count may be broken; what has none is started for ever.
        let broken = |entry: &&BootEntry| entry.tries.is_none() && !self.has(number(entry.version));
        let broken = self.loader_may_start().iter().find(broken).copied();
        broken.map(|entry| format!("the boot loader starts {entry} for ever, and its slot is not whole"))
    }
}

/// An entry once the boot loader has counted: `None` for one that it doesn't count.
pub fn counted(entry: &BootEntry) -> Option<BootEntry> {
    let Tries { left, done } = entry.tries?;
    Some(BootEntry { tries: Some(Tries { left: left.saturating_sub(1), done: done + 1 }), ..*entry })
}
