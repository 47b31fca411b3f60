//! What is to be changed in the boot entries: pure decisions, and the one way in which they are carried out.
//!
//! A release is given up by doing nothing, so every error here leaves the node running what it runs, and leaves the other
//! slot's entry alone: no function of this module ever names it in a change, but the one that gives a release that was just
//! written and read back its tries.

use crate::boot_partition::{BootPartition, EspError};
use astromesh_proto::boot_entry::{BootEntry, Tries};
use astromesh_proto::update::SlotPartition;
use astromesh_proto::version::Version;

/// How often a new release is tried before the older one is started again.
pub const TRIES: u32 = 3;

/// One entry under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rename {
    /// As it is.
    pub from: BootEntry,
    /// As it shall be.
    pub to: BootEntry,
}

/// Why a release is not blessed.
#[derive(Debug, thiserror::Error)]
pub enum BlessError {
    /// The entry is gone.
    #[error(
        "{0} is not on the boot partition; it goes on running, and the next start is the boot loader's to choose"
    )]
    FindEntry(BootEntry),
    /// The boot partition could not be read or changed.
    #[error(transparent)]
    Change(#[from] EspError),
}

/// Why the other slot can't be gone back to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// There is no other release.
    #[error("{0} is the only release on this node")]
    FindOther(Version),
    /// It has no tries left.
    #[error("{0} has no tries left: it did not become healthy when it was tried, or was given up")]
    TriesLeft(Version),
    /// It was never kept, so there is no going *back* to it.
    #[error(
        "{0}, in the other slot, was never kept on this node; reboot the node to try it: should it fail, this release \
         comes back"
    )]
    NeverKept(Version),
    /// Its slot holds something else.
    #[error("the slot of {0} is not whole: an update over it was begun")]
    FindSlot(Version),
    /// What runs was not started by the boot loader.
    #[error(
        "{0} has no boot entry that could give up its place: this machine was not started by its boot loader"
    )]
    FindRunning(Version),
}

/// The entry of the release that runs while the boot loader counts it, out of what the loader `said` when it started it.
///
/// What it said stays the same until the next start. So the boot partition decides: a release with an entry without count
/// is kept, whatever the loader counted when it was started.
pub fn on_trial(entries: &[BootEntry], running: Version, said: Option<BootEntry>) -> Option<BootEntry> {
    said.filter(|_| !entries.contains(&BootEntry::blessed(running)))
}

/// The change that blesses the release that runs; `None` when it is blessed already.
pub fn blessing(
    entries: &[BootEntry],
    running: Version,
    counted: Option<BootEntry>,
) -> Result<Option<Rename>, BlessError> {
    let Some(counted) = counted else { return Ok(None) };
    let blessed = BootEntry::blessed(running);
    if entries.contains(&blessed) {
        // An earlier try did it. Should power have failed between the two halves of a FAT's rename, both names stand for
        // the same file: that is left as it is, because taking either away would free the other's content.
        return Ok(None);
    }
    if entries.contains(&counted) {
        Ok(Some(Rename { from: counted, to: blessed }))
    } else {
        Err(BlessError::FindEntry(counted))
    }
}

/// The change that gives a release its tries, once what was written is what was signed; `None` when it has them.
pub fn arming(entries: &[BootEntry], version: Version) -> Option<Rename> {
    let (from, to) = (BootEntry::unchecked(version), Tries { left: TRIES, done: 0 });
    entries.contains(&from).then_some(Rename { from, to: BootEntry { tries: Some(to), ..from } })
}

/// The changes that make the boot loader start the other slot, and the release that it will start. There is none to make
/// where the release that runs was given up already.
///
/// Only a release that was kept is a place to go back to: one that waits for its first start may never become healthy, and
/// the one that runs, without tries, would not come back. `said` is the entry that the boot loader counted at the start.
pub fn rollback(
    entries: &[BootEntry],
    running: Version,
    said: Option<BootEntry>,
    partitions: &[SlotPartition],
) -> Result<(Vec<Rename>, Version), RollbackError> {
    let others = || entries.iter().filter(move |entry| entry.version != running);
    let newest = |may: fn(&BootEntry) -> bool| others().filter(|entry| may(entry)).map(|e| e.version).max();
    let Some(other) = newest(|entry| entry.tries.is_none()) else {
        return Err(match (newest(BootEntry::is_bootable), newest(|_| true)) {
            (Some(waiting), _) => RollbackError::NeverKept(waiting),
            (None, Some(given_up)) => RollbackError::TriesLeft(given_up),
            (None, None) => RollbackError::FindOther(running),
        });
    };
    let holds = |kind: &str| partitions.iter().any(|slot| slot.label == format!("{kind}_{other}"));
    if !holds("root") || !holds("verity") {
        return Err(RollbackError::FindSlot(other));
    }
    // Every name of it: a FAT's rename that power cut in two leaves a second one. The one that the boot loader counted gets
    // another name also where it has no tries left, or a blessing that is asked for later would find it.
    let mut changes = Vec::new();
    let mut taken = entries.to_vec();
    let mut ours = entries.iter().filter(|entry| entry.version == running).peekable();
    if ours.peek().is_none() {
        return Err(RollbackError::FindRunning(running));
    }
    for from in ours.filter(|entry| entry.is_bootable() || said == Some(**entry)) {
        let done = from.tries.map_or(0, |tries| tries.done);
        let given_up = |done| BootEntry { tries: Some(Tries { left: 0, done }), ..*from };
        let Some(to) = (done.max(1)..=u32::MAX).map(given_up).find(|entry| !taken.contains(entry)) else {
            continue;
        };
        taken.push(to);
        changes.push(Rename { from: *from, to });
    }
    Ok((changes, other))
}

/// Blesses the release that runs; the change that was made, if one was needed.
///
/// Where none is needed the boot partition is written out all the same: an earlier try may have renamed and then failed to
/// write, and what is only in memory does not outlive a power cut.
pub fn bless(
    esp: &mut impl BootPartition,
    running: Version,
    counted: Option<BootEntry>,
) -> Result<Option<Rename>, BlessError> {
    let change = blessing(&esp.entries()?, running, counted)?;
    match &change {
        Some(change) => carry_out(esp, change)?,
        None => esp.sync()?,
    }
    Ok(change)
}

/// Makes a change, writes it out, and looks whether it is there.
pub fn carry_out(esp: &mut impl BootPartition, change: &Rename) -> Result<(), EspError> {
    esp.rename(&change.from, &change.to)?;
    esp.sync()?;
    if esp.entries()?.contains(&change.to) { Ok(()) } else { Err(EspError::Check(change.to)) }
}

#[cfg(test)]
mod tests;
