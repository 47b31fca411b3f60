//! What is to be changed in the boot entries: two pure decisions, and the one way in which they are carried out.
//!
//! A release is given up by doing nothing, so every error here leaves the node running what it runs, and leaves the other
//! slot's entry alone: no function of this module ever names it in a change.

use crate::boot_partition::{BootPartition, EspError};
use astromesh_proto::boot_entry::{BootEntry, Tries};
use astromesh_proto::update::SlotPartition;
use astromesh_proto::version::Version;

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
    #[error("{0} has no tries left: it did not become healthy when it was tried")]
    TriesLeft(Version),
    /// Its slot holds something else.
    #[error("the slot of {0} is not whole: an update over it was begun")]
    FindSlot(Version),
    /// What runs was not started by the boot loader.
    #[error(
        "{0} has no boot entry that could give up its place: this machine was not started by its boot loader"
    )]
    FindRunning(Version),
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

/// The change that makes the boot loader start the other slot, and the release that it will start.
pub fn rollback(
    entries: &[BootEntry],
    running: Version,
    partitions: &[SlotPartition],
) -> Result<(Rename, Version), RollbackError> {
    let newest = |bootable: bool| {
        let others =
            entries.iter().filter(|entry| entry.version != running && (!bootable || entry.is_bootable()));
        others.map(|entry| entry.version).max()
    };
    let Some(other) = newest(true) else {
        return Err(newest(false).map_or(RollbackError::FindOther(running), RollbackError::TriesLeft));
    };
    let holds = |kind: &str| partitions.iter().any(|slot| slot.label == format!("{kind}_{other}"));
    if !holds("root") || !holds("verity") {
        return Err(RollbackError::FindSlot(other));
    }
    let from = *entries
        .iter()
        .find(|entry| entry.version == running && entry.is_bootable())
        .ok_or(RollbackError::FindRunning(running))?;
    let done = from.tries.map_or(0, |tries| tries.done);
    // An entry without tries left is started only when there is no other.
    Ok((Rename { from, to: BootEntry { tries: Some(Tries { left: 0, done }), ..from } }, other))
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
