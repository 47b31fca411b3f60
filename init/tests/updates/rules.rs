//! What decides on a node, as the model asks it: the functions that run there, and what stood in their place before.

use crate::disk::{Number, version};
use astromesh_proto::boot_entry::{BootEntry, Tries};
use astromesh_proto::machine_config::Update;
use astromesh_proto::update::{Outcome, Record, SlotPartition, Slots, Terms};
use astromesh_proto::version::Version;
use astromesh_release::entries::{self, Rename};
use astromesh_release::staged::{Standing, admit};
use astromesh_update::terms;

/// What a rollback changes; `None` where it is refused. Of the entries, the release that runs, the entry that the boot loader
/// counted at the start, and the slots.
type Rollback = fn(&[BootEntry], Version, Option<BootEntry>, &[SlotPartition]) -> Option<Vec<Rename>>;

/// The decisions.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Whether a release may be installed: asked by `update`, and again by `slots`.
    pub admits: fn(Number, &Standing<'_>) -> bool,
    /// What a rollback changes; `None` where it is refused.
    pub rollback: Rollback,
    /// Whether a rollback is refused while an update is under way.
    pub refuses_while_busy: bool,
    /// Whether a release may be tried on these terms.
    pub may_try: fn(&Record, Option<&Slots>, Terms, Version, &str) -> bool,
    /// Whether a rollback is written into the record.
    pub remembers_rollback: bool,
    /// The name under which a release is written.
    pub written_as: fn(Version) -> BootEntry,
    /// Whether the machine may reboot into what was just installed.
    pub may_reboot: fn(&Update, Option<Terms>, u64) -> bool,
    /// Whether it may reboot into what waits for that, which an earlier life may have begun.
    pub reboots_now: fn(&Record, Version, &Update, u64) -> bool,
}

/// As they are.
pub const REAL: Rules = Rules {
    admits: |release, standing| admit(version(release), None, standing, 0).is_ok(),
    rollback: |entries, running, said, partitions| {
        entries::rollback(entries, running, said, partitions).ok().map(|(changes, _)| changes)
    },
    refuses_while_busy: true,
    may_try: terms::may_try,
    remembers_rollback: true,
    written_as: BootEntry::unchecked,
    may_reboot: terms::may_reboot,
    reboots_now: terms::reboots_now,
};

/// A release was installed over the other slot also while the one that runs was on trial.
pub const ADMITS_ON_TRIAL: Rules = Rules {
    admits: |release, standing| {
        // Everything but whether what runs is kept: to the real function it always is.
        let kept = BootEntry::blessed(standing.running);
        let entries: Vec<_> = standing.entries.iter().copied().chain([kept]).collect();
        admit(version(release), None, &Standing { entries: &entries, ..*standing }, 0).is_ok()
    },
    ..REAL
};

/// Whatever the boot loader would start was a place to go back to, at any time.
pub const ROLLS_FORWARD: Rules = Rules {
    rollback: |entries, running, _, partitions| {
        let mut others = entries.iter().filter(|entry| entry.version != running && entry.is_bootable());
        let other = others.next()?.version;
        let holds = |kind: &str| partitions.iter().any(|slot| slot.label == format!("{kind}_{other}"));
        let from = *entries.iter().find(|entry| entry.version == running && entry.is_bootable())?;
        let done = from.tries.map_or(0, |tries| tries.done);
        let to = BootEntry { tries: Some(Tries { left: 0, done }), ..from };
        (holds("root") && holds("verity")).then(|| vec![Rename { from, to }])
    },
    refuses_while_busy: false,
    ..REAL
};

/// Nothing remembered an operator's rollback.
pub const FORGETS_ROLLBACK: Rules = Rules {
    may_try: |record, _, terms, _, digest| terms != Terms::Auto || !record.has_failed(digest),
    remembers_rollback: false,
    ..REAL
};

/// A release was written with its tries, and read back when it had them.
pub const WRITES_WITH_TRIES: Rules = Rules {
    written_as: |version| BootEntry { version, tries: Some(Tries { left: entries::TRIES, done: 0 }) },
    ..REAL
};

/// What was begun was rebooted into, whatever was ordered.
pub const REBOOTS_ALWAYS: Rules = Rules {
    reboots_now: |record, running, _, _| {
        let newest = record.attempts.first();
        newest.is_some_and(|one| one.outcome == Outcome::Trying && one.release.version != running)
    },
    ..REAL
};
