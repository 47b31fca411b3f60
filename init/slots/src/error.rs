//! Why the work of the process could not be done.

use crate::drive::DriveError;
use crate::install::error::InstallError;
use astromesh_node::places::DISK_FILE;
use astromesh_node::service::BecomeError;
use astromesh_node::view::ViewError;
use astromesh_release::boot_partition::EspError;
use astromesh_release::entries::{BlessError, RollbackError};

/// Why the work could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// PID 1 did not say what to do.
    #[error(
        "started with {0:?} where it takes inspect, install, bless, rollback or take-drive; only PID 1 starts it"
    )]
    ReadWork(Option<String>),
    /// The release that runs is not known.
    #[error("/etc/os-release names no IMAGE_VERSION of the form 1.2.3: the image was put together wrongly")]
    ReadVersion,
    /// The disk is not known.
    #[error("{DISK_FILE} names no disk with a partition table: PID 1 found no verified root")]
    FindDisk,
    /// The boot partition.
    #[error(transparent)]
    UseBootPartition(#[from] EspError),
    /// Rights could not be given up.
    #[error("rights could not be given up: {0}")]
    GiveUpRights(#[from] BecomeError),
    /// What was found could not be written down.
    #[error("{path} can't be written: {cause}")]
    WriteDown {
        /// Where.
        path: &'static str,
        /// Why.
        cause: std::io::Error,
    },
    /// The release that runs can't be blessed.
    #[error("this release can't be blessed: {0}")]
    Bless(#[from] BlessError),
    /// The other slot can't be gone back to.
    #[error("no rollback: {0}")]
    Rollback(#[from] RollbackError),
    /// What is to be installed is refused, or could not be written.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A drive could not be taken from.
    #[error(transparent)]
    TakeDrive(#[from] DriveError),
    /// The view of the installer could not be made.
    #[error(transparent)]
    BuildView(#[from] ViewError),
}
