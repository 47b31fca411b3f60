//! The loop that walks the boot table, and what the stages build up: the [`Node`](crate::node::Node).
//!
//! A stage does its work, hands on what it made and says one line. What a failure means is not decided by the
//! stage but by its row in the table, and acted on here, in one place. What must not be skipped is a type: the
//! agent can't be launched without the [`root::proof::VerifiedRoot`] that only the root stage can make.

pub mod agent;
mod carry;
pub mod config;
mod config_error;
pub mod control;
pub mod early;
mod grow;
mod metadata;
pub mod network;
mod one_shot;
pub mod root;
pub mod slots;
mod stage;
pub mod state;
pub(crate) mod timeline;
pub mod update;
mod volume;

pub use stage::{OnFailure, Stage};

use crate::node::Node;
use astromesh_node::clock::now_us;
use astromesh_proto::control::Outcome;
use astromesh_proto::ipc;
use rustix::system::RebootCommand;
use timeline::Moment;

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
