//! The loop that walks the boot tables, and what the stages build up: the [`Ground`], and the
//! [`Node`](crate::node::Node) on it.
//!
//! A stage does its work, hands on what it made and says one line. What a failure means is not decided by the
//! stage but by its table and its row in it, and acted on here, in one place. What must not be skipped is a type: the
//! agent can't be launched without a [`Clearance`](crate::clearance::Clearance), whose parts only stages can make.

pub mod agent;
pub(crate) mod carry;
pub mod config;
mod config_error;
pub mod control;
mod directory;
pub mod early;
pub mod grow;
mod metadata;
pub mod network;
pub(crate) mod plan;
pub mod root;
pub mod slots;
mod stage;
pub mod state;
mod table;
pub(crate) mod timeline;
pub mod update;
mod volume;

pub use stage::{GroundStage, OnFailure, Stage};

use crate::ground::Ground;
use crate::node::Node;
use astromesh_node::clock::now_us;
use astromesh_proto::control::StageOutcome;
use astromesh_proto::ipc::{self, MAX_TEXT};
use heapless::String;
use rustix::system::RebootCommand;
use stage::{Report, StageError};
use timeline::{Moment, Timeline};

/// Walks the tables. Returns a node that is up, in whatever shape the second table allows, and what it stands on; a failure
/// in the first reboots the machine instead.
pub fn run(ground: &[GroundStage], stages: &[Stage]) -> (Ground, Node) {
    // All that came before the first instruction of PID 1 is the kernel's.
    let (mut work, mut timeline) = early::first_light();
    for stage in ground {
        let began = Moment::now();
        let result = (stage.run)(&mut work);
        let failed = result.is_err();
        record(&mut timeline, stage.name, began, result, StageOutcome::Failed);
        work.pet();
        if failed {
            reboot();
        }
    }
    let Some(ground) = work.finish() else {
        log::error!("no stage has proven a root: this binary was put together wrongly");
        reboot()
    };
    let mut node = Node::new(timeline);
    for stage in stages {
        let began = Moment::now();
        let result = (stage.run)(&ground, &mut node);
        let failed = result.is_err();
        let outcome = if stage.on_failure == OnFailure::Degrade {
            StageOutcome::Degraded
        } else {
            StageOutcome::Failed
        };
        let note = record(&mut node.timeline, stage.name, began, result, outcome);
        ground.pet();
        if failed && stage.on_failure == OnFailure::Maintenance {
            node.enter_maintenance(note);
        }
    }
    (ground, node)
}

/// Logs one line for a stage, and keeps it in the timeline.
fn record(
    timeline: &mut Timeline,
    name: &'static str,
    began: Moment,
    result: Result<Report, StageError>,
    if_failed: StageOutcome,
) -> String<MAX_TEXT> {
    let milliseconds = (now_us() - began.us) / 1000;
    let (outcome, note) = match result {
        Ok(report) => (report.outcome, report.note),
        Err(error) => (if_failed, ipc::cut(&error.to_string())),
    };
    match outcome {
        StageOutcome::Done | StageOutcome::Running => log::info!("{name}: {note} ({milliseconds} ms)"),
        _ => log::error!("{name}: {note} ({milliseconds} ms)"),
    }
    timeline.push(name, began, outcome, note.clone());
    note
}

/// Reboots the machine, after a moment in which the serial console can drain.
pub fn reboot() -> ! {
    log::error!("rebooting the machine");
    rustix::fs::sync();
    std::thread::sleep(std::time::Duration::from_secs(1));
    loop {
        // If the firmware does not, the watchdog, which no process pets any more, will.
        let _ = rustix::system::reboot(RebootCommand::Restart);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
