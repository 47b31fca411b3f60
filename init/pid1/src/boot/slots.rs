//! Has the slots looked at: is the release that runs kept, or on trial?
//!
//! The one-shot `slots` process reads the boot loader's variable and the boot partition and leaves what it found for those
//! who tell it; PID 1 learns one thing, by its exit code, once the boot is over ([`crate::supervise`]). Nobody waits for it
//! here: the agent's start is not to be kept waiting for a FAT. Whatever goes wrong means "not on trial": then nothing that
//! follows can restart this machine for want of health, and it runs what it runs.

use super::stage::{Report, StageError};
use crate::node::Node;
use crate::supervise::trial::start;
use astromesh_node::places::DISK_FILE;
use astromesh_proto::ipc::SlotsWork;

/// Why nothing is known of the slots.
#[derive(Debug, thiserror::Error)]
pub enum SlotsStageError {
    /// The process could not be told where to look.
    #[error("{DISK_FILE} can't be written: {0}; this node can't be updated")]
    TellDisk(std::io::Error),
    /// The process could not be started.
    #[error("the slots process could not be started: {0}; this node can't be updated")]
    Start(std::io::Error),
}

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    let disk = node.root.as_ref().map(|root| root.disk.as_str()).unwrap_or_default();
    std::fs::write(DISK_FILE, disk).map_err(SlotsStageError::TellDisk)?;
    let pid = start(SlotsWork::Inspect, &node.kmsg, &node.null).map_err(SlotsStageError::Start)?;
    node.trial.started(pid, SlotsWork::Inspect);
    Ok(Report::running("looking at the slots"))
}
