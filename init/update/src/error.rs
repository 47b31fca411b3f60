//! Why an update ended, in the words that the operator reads and the record keeps.
//!
//! What another crate found out is passed on in its own words: they were written for the same reader.

use astromesh_node::ipc_client::Pid1Error;
use astromesh_oci::{FetchError, KeyError, LayoutError, ReferenceError, RegistryError, VerifyError};
use astromesh_proto::deadlines::UPDATE_WAITS_FOR_A_JOB;
use astromesh_proto::frame::FrameError;
use astromesh_proto::ipc::SlotsWork;
use astromesh_proto::version::Version;
use astromesh_release::staged::{RefuseError, STAGE};
use astromesh_settings::UPDATE_CERTIFICATES;
use rustix::io::Errno;
use std::io;

/// Why there is no update.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Another one is under way.
    #[error("an update is under way; `update status` tells how far it is")]
    Begin,
    /// A key of the machine-config is none.
    #[error("a key of the machine-config can't be used: {0}")]
    UseKey(KeyError),
    /// The machine-config names no registry.
    #[error("the machine-config names no `update.image`: only a drive can be used")]
    FindImage,
    /// The name of the image, or the tag that was asked for.
    #[error(transparent)]
    ParseReference(ReferenceError),
    /// The certificates of authorities are not there.
    #[error("{UPDATE_CERTIFICATES} can't be read: {0}; reboot the node, which writes it anew")]
    ReadAuthorities(io::Error),
    /// They are none.
    #[error(
        "the authorities that were given for registries can't be read; give the machine-config whole PEM blocks"
    )]
    ParseAuthorities,
    /// The registry can't be used.
    #[error(transparent)]
    OpenRegistry(RegistryError),
    /// What was copied from the drive is no image layout.
    #[error(transparent)]
    OpenDrive(LayoutError),
    /// The release is not there, or its signature doesn't hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// What is in the slots is not known.
    #[error(
        "what is in the slots of this node is not known yet; `astromeshctl logs` says why, if it stays so"
    )]
    LookAtSlots,
    /// It may not be installed here.
    #[error("refused: {0}")]
    Refuse(#[from] RefuseError),
    /// It was rolled back before, and no operator asks for it.
    #[error(
        "{0} failed here before or was given up, and is not tried again by itself; `update apply` tries it"
    )]
    TryAgain(Version),
    /// The node began it by itself, and looks no more.
    #[error("the node began it by itself, and is updated by operators alone now; `update apply` tries it")]
    GoOn,
    /// The folder for staged files.
    #[error("{STAGE} can't be cleared: {0}; check the disk of this node")]
    ClearStage(io::Error),
    /// Room on `/var` is not known.
    #[error("the room on {STAGE} can't be measured: {0}; check the disk of this node")]
    MeasureRoom(Errno),
    /// There is too little.
    #[error("/var has {free} bytes free, {needed} are needed: make room, or use a larger disk")]
    FindRoom {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed beyond what is staged.
        needed: u64,
    },
    /// A file was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The attempt can't be written into the record.
    #[error("the attempt can't be written into the record of updates: {0}; make room on /var")]
    WriteRecord(io::Error),
    /// The evidence can't be written.
    #[error("{STAGE} can't be written: {0}; check the disk of this node")]
    WriteEvidence(io::Error),
    /// A job was not done.
    #[error(transparent)]
    Work(#[from] WorkError),
}

/// Why a job `slots` was not done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// PID 1 can't be asked for it.
    #[error("{0}")]
    Ask(Pid1Error),
    /// It failed, and said why.
    #[error("{0}")]
    Do(String),
    /// It ended without a word.
    #[error("the job `slots` ({0:?}) ended without saying why; `astromeshctl logs` shows its last records")]
    End(SlotsWork),
    /// PID 1 told nothing of its end.
    #[error(
        "the job `slots` ({0:?}) did not end within {limit} s; `astromeshctl logs` shows how far it came, and a reboot ends it",
        limit = UPDATE_WAITS_FOR_A_JOB.as_secs()
    )]
    Await(SlotsWork),
}

/// Why a connection of `control` ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its limits can't be set.
    #[error("the limits of a connection can't be set: {0}")]
    LimitWaits(io::Error),
    /// The request can't be read.
    #[error("its request can't be read: {0}")]
    ReadRequest(#[from] FrameError<io::Error>),
}
