//! The boot partition: a FAT that firmware reads, on which each name is a decision.
//!
//! What is done to it is behind a trait, because what matters is what happens when each step fails or power goes in the
//! middle of it; a table test walks that on a partition in memory ([`crate::entries`]). The one that is mounted is in `slots`,
//! the only process that may write to it.

use astromesh_proto::boot_entry::BootEntry;
use rustix::io::Errno;

/// Why the boot partition can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// There is none.
    #[error("the disk {0} has no EFI system partition: this node was not installed from an image with one")]
    Find(String),
    /// It can't be mounted.
    #[error(
        "the boot partition {device} can't be mounted: {cause}; run fsck.fat on the disk of this node elsewhere"
    )]
    Mount {
        /// Its device.
        device: String,
        /// Why.
        cause: Errno,
    },
    /// Its entries can't be listed.
    #[error("the boot entries can't be listed: {0}")]
    List(std::io::Error),
    /// An entry can't be renamed.
    #[error("the boot entry {from} can't be renamed to {to}: {cause}")]
    Rename {
        /// As it is.
        from: BootEntry,
        /// As it should be.
        to: BootEntry,
        /// Why.
        cause: std::io::Error,
    },
    /// An entry can't be taken away.
    #[error("the boot entry {entry} can't be taken away: {cause}")]
    Remove {
        /// Which.
        entry: BootEntry,
        /// Why.
        cause: std::io::Error,
    },
    /// It was renamed, and is not there.
    #[error("the boot entry {0} is not there after it was renamed: the boot partition is damaged")]
    Check(BootEntry),
    /// It can't be written out.
    #[error("the boot partition can't be written out: {0}")]
    Sync(std::io::Error),
}

/// What the boot loader reads.
pub trait BootPartition {
    /// Our entries that are whole, newest release first.
    fn entries(&mut self) -> Result<Vec<BootEntry>, EspError>;
    /// Renames one, in memory first.
    fn rename(&mut self, from: &BootEntry, to: &BootEntry) -> Result<(), EspError>;
    /// Writes everything out to the disk.
    fn sync(&mut self) -> Result<(), EspError>;
}
