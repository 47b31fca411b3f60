//! Starts the job that grows the file system on `/var`, if that is shorter than its partition.
//!
//! Last of all stages, because nothing waits for it: the node serves on what it has meanwhile, and PID 1 learns of the
//! job's end like of any other's ([`crate::supervise`]). The job goes on where an earlier boot stopped.

use super::stage::{Report, StageError};
use crate::ground::Ground;
use crate::job::{Job, Running, StartError};
use crate::node::Node;
use astromesh_node::ext4::Ext4;
use astromesh_node::process;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::AsFd as _;

/// The job that grows.
const GROW: Job = Job::without_deadline(process::GROW);

/// Why it does not grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowStageError {
    /// The length of its partition isn't known.
    #[error("the length of the partition of /var can't be read: {0}; the file system stays as it is")]
    ReadLength(Errno),
    /// The file system can't be read.
    #[error("the partition of /var holds no ext4 superblock; the file system stays as it is")]
    ReadSuperblock,
    /// The job could not be started.
    #[error("the file system on /var stays as it is: {0}; the next boot tries again")]
    Start(StartError),
}

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    let Some(device) = &node.var else {
        return Ok(Report::done("/var is in memory"));
    };
    let partition = rustix::fs::open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(GrowStageError::ReadLength)?;
    let room = rustix::fs::seek(&partition, SeekFrom::End(0)).map_err(GrowStageError::ReadLength)?;
    let ext4 = Ext4::read(&partition).ok_or(GrowStageError::ReadSuperblock)?;
    let (from, to) = (ext4.bytes() >> 20, room >> 20);
    if !ext4.is_shorter_than(room) {
        return Ok(Report::done(&format!("/var has all {to} MiB of its partition")));
    }
    let streams = [partition.as_fd(), ground.kmsg.as_fd()];
    let running = Running::start(&GROW, None, streams, ground).map_err(GrowStageError::Start)?;
    node.growth = Some(running);
    Ok(Report::running(&format!("/var grows from {from} to {to} MiB")))
}
