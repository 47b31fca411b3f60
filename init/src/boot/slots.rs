//! Has the slots looked at: is the release that runs kept, or on trial?
//!
//! The one-shot `slots` process reads the boot loader's variable and the boot partition and leaves what it found for those
//! who tell it; PID 1 learns one thing, by its exit code. Whatever goes wrong means "not on trial": then nothing that
//! follows can restart this machine for want of health, and it runs what it runs.

use super::config::await_end;
use super::{Node, Report, StageError};
use crate::slots::{DISK_FILE, EXIT_DONE, EXIT_ON_TRIAL};
use crate::supervise::trial::start;
use astromesh_proto::ipc::SlotsWork;
use std::time::Duration;

/// Why nothing is known of the slots.
#[derive(Debug, thiserror::Error)]
pub enum SlotsStageError {
    /// The process could not be started.
    #[error("the slots process could not be started: {0}")]
    Start(std::io::Error),
    /// It did not come to a good end.
    #[error("the slots can't be looked at; this release is not on trial for this boot, and can't be updated")]
    Inspect,
}

/// How long it may take: a small FAT and one variable, on an emulated machine.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(30);

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    let disk = node.root.as_ref().map(|root| root.disk.as_str()).unwrap_or_default();
    std::fs::write(DISK_FILE, disk).map_err(SlotsStageError::Start)?;
    let pid = start(SlotsWork::Inspect, &node.kmsg, &node.null).map_err(SlotsStageError::Start)?;
    let code = await_end(node, pid, LOOKED_AT_WITHIN);
    node.trial.begin(node.plan.trial, code == Some(EXIT_ON_TRIAL));
    match code {
        Some(EXIT_ON_TRIAL) => Ok(Report::done("this release is on trial")),
        Some(EXIT_DONE) => Ok(Report::done("this release is kept")),
        _ => Err(SlotsStageError::Inspect.into()),
    }
}

