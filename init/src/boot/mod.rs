//! The loop that walks the boot table, and what the stages build up: the [`Node`].
//!
//! A stage does its work, hands on what it made and says one line. What a failure means is not decided by the
//! stage but by its row in the table, and acted on here, in one place. What must not be skipped is a type: the
//! agent can't be launched without the [`root::VerifiedRoot`] that only the root stage can make.

pub mod agent;
pub mod config;
pub mod control;
pub mod early;
pub mod grow;
pub mod metadata;
pub mod network;
pub mod root;
pub mod slots;
pub mod state;
pub mod timeline;
pub mod update;
pub mod volume;

use crate::supervise::services::Services;
use astromesh_node::clock::now_us;
use astromesh_proto::control::Outcome;
use astromesh_proto::ipc::{self, MAX_TEXT, Plan};
use astromesh_sys::watchdog::Watchdog;
use heapless::String;
use rustix::system::RebootCommand;
use std::os::fd::OwnedFd;
use timeline::{Moment, Timeline};

/// One stage of the boot.
pub struct Stage {
    /// Its name, as it stands in the log and in the timeline.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Node) -> Result<Report, StageError>,
    /// What it means when it can't.
    pub on_failure: OnFailure,
}

/// What the failure of a stage means for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The machine restarts; the boot loader's counter brings back the other slot.
    Restart,
    /// The node goes on with less, and says so.
    Degrade,
    /// No agent is started; only the control API serves.
    Maintenance,
}

/// What a stage that did its work has to say.
#[derive(Debug)]
pub struct Report {
    /// [`Outcome::Done`], or [`Outcome::Running`] when a service goes on with it and will say when it is done.
    pub outcome: Outcome,
    /// A line for the operator.
    pub note: String<MAX_TEXT>,
}

impl Report {
    /// The stage is done.
    pub fn done(note: &str) -> Self {
        Self { outcome: Outcome::Done, note: ipc::cut(note) }
    }

    /// A service was started; it reports when it is ready.
    pub fn running(note: &str) -> Self {
        Self { outcome: Outcome::Running, note: ipc::cut(note) }
    }

    /// The stage did its work with less than it should have.
    pub fn degraded(note: &str) -> Self {
        Self { outcome: Outcome::Degraded, note: ipc::cut(note) }
    }
}

/// Why a stage failed: any error that says what failed, on what, and what to do.
pub type StageError = Box<dyn std::error::Error>;

/// All PID 1 knows and holds.
pub struct Node {
    /// The stages so far.
    pub timeline: Timeline,
    /// Where every process logs to.
    pub kmsg: OwnedFd,
    /// What PID 1's children get as standard input.
    pub null: OwnedFd,
    /// The machine's watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    /// Proof that the root is the one that was signed.
    pub root: Option<root::VerifiedRoot>,
    /// Whether `/var` outlives this boot.
    pub var_on_disk: bool,
    /// What the machine-config asks for.
    pub plan: Plan,
    /// The judgement on the release that runs.
    pub trial: crate::supervise::trial::Trial,
    /// The services.
    pub services: Services,
}

/// Walks the table. Returns a node that is up, in whatever shape the table allows; a stage that may not fail
/// restarts the machine instead.
pub fn run(stages: &[Stage]) -> Node {
    // All that came before the first instruction of PID 1 is the kernel's.
    let mut node = early::first_light();
    for stage in stages {
        let began = Moment::now();
        let result = (stage.run)(&mut node);
        let took_us = now_us() - began.us;
        let (outcome, note) = match &result {
            Ok(report) => (report.outcome, report.note.clone()),
            Err(error) => (
                if stage.on_failure == OnFailure::Degrade { Outcome::Degraded } else { Outcome::Failed },
                ipc::cut(&error.to_string()),
            ),
        };
        match outcome {
            Outcome::Done | Outcome::Running => {
                log::info!("{}: {} ({} ms)", stage.name, note, took_us / 1000);
            }
            _ => log::error!("{}: {} ({} ms)", stage.name, note, took_us / 1000),
        }
        node.timeline.push(stage.name, began, outcome, note.clone());
        if let Some(watchdog) = &node.watchdog {
            watchdog.pet();
        }
        if result.is_err() {
            match stage.on_failure {
                OnFailure::Restart => restart(),
                OnFailure::Maintenance => node.plan.maintenance = Some(note),
                OnFailure::Degrade => {}
            }
        }
    }
    node
}

/// Restarts the machine, after a moment in which the serial console can drain.
pub fn restart() -> ! {
    log::error!("restarting the machine");
    rustix::fs::sync();
    std::thread::sleep(std::time::Duration::from_secs(1));
    loop {
        // If the firmware does not restart it, the watchdog, which nobody pets any more, will.
        let _ = rustix::system::reboot(RebootCommand::Restart);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
