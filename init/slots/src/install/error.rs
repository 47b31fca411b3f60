//! Why nothing was installed.

use crate::transfers::{DEFINITIONS, SYSUPDATE};
use astromesh_release::staged::RefuseError;
use astromesh_verity::RootHash;
use std::io;
use std::process::ExitStatus;

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No keys.
    #[error("the machine-config gives no key that a release must be signed with; name one in `update.keys`")]
    ReadKeys,
    /// What is staged proves nothing.
    #[error("what is staged is not signed by a key of the machine-config: {0}")]
    Verify(String),
    /// It may not be installed.
    #[error("this release is refused: {0}")]
    Refuse(#[from] RefuseError),
    /// A staged file is missing or not what was signed.
    #[error("the staged {0} is not what was signed; it has to be fetched again")]
    MatchFile(String),
    /// A staged file can't be read.
    #[error("the staged {0} can't be read: {1}")]
    ReadFile(String, io::Error),
    /// Root and hash tree don't belong together.
    #[error(
        "the staged root does not have the root hash that was signed ({0}): root and hash tree are of two releases, or damaged; push the release again"
    )]
    MatchRootHash(RootHash),
    /// The kernel image is of another release.
    #[error(
        "the staged kernel image does not name the root hash that was signed ({0}); push the release again"
    )]
    MatchKernelImage(RootHash),
    /// No room.
    #[error(
        "the {what} has {needed} bytes, its place on this disk has {room}; install the node anew from an image with more room"
    )]
    FitSlot {
        /// What does not fit.
        what: &'static str,
        /// Its bytes.
        needed: u64,
        /// The bytes there are.
        room: u64,
    },
    /// A file of the view can't be written.
    #[error("{DEFINITIONS} can't be written: {0}")]
    WriteDefinitions(io::Error),
    /// The program can't be started.
    #[error("{SYSUPDATE} can't be started: {0}; the root lacks it")]
    Start(io::Error),
    /// It failed.
    #[error("systemd-sysupdate could not write the idle slot ({0}); what it said stands above in the log")]
    Write(ExitStatus),
    /// What is on the disk is something else.
    #[error(
        "the {0} that was written is not what was signed; its boot entry was taken away; try again, and replace the disk if it happens again"
    )]
    CheckWritten(&'static str),
}
