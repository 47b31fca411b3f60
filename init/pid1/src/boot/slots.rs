//! Has the slots looked at: is the release that runs blessed, or on trial?
//!
//! The job `slots` reads the boot loader's variable and the boot partition and leaves what it found for the services that
//! show it; PID 1 learns one thing, by its exit code, once the boot is over ([`crate::supervise`]). Nothing waits for it
//! here: a FAT must not delay the agent's start. Whatever goes wrong means "not on trial": then nothing that follows can
//! reboot this machine for want of health, and it runs what it runs.

use super::stage::{Report, StageError};
use crate::ground::Ground;
use crate::jobs::{Jobs, Order};
use crate::node::Node;
use astromesh_node::places::DISK_FILE;
use astromesh_proto::ipc::SlotsWork;

/// Why nothing is known of the slots.
#[derive(Debug, thiserror::Error)]
pub enum SlotsStageError {
    /// The process could not be told where to look.
    #[error("{DISK_FILE} can't be written: {0}; this node can't be updated")]
    TellDisk(std::io::Error),
    /// The process could not be started.
    #[error("the slots can't be looked at: {0}; this node can't be updated")]
    Start(crate::job::StartError),
}

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    std::fs::write(DISK_FILE, ground.root().disk()).map_err(SlotsStageError::TellDisk)?;
    let running = Jobs::start(SlotsWork::Inspect, ground).map_err(SlotsStageError::Start)?;
    node.jobs.started(Order::own(SlotsWork::Inspect), running);
    Ok(Report::running("looking at the slots"))
}
