//! A row of the two boot tables, and what the function in it hands back.

use crate::ground::{Ground, Groundwork};
use crate::node::Node;
use astromesh_proto::control::StageOutcome;
use astromesh_proto::ipc::{self, MAX_TEXT};
use heapless::String;

/// A stage without which there is no node: its failure reboots the machine, and the boot loader's counter brings back the
/// other slot.
pub struct GroundStage {
    /// Its name, as it stands in the log and in the timeline.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Groundwork) -> Result<Report, StageError>,
}

/// One stage of the boot, on the ground that the others have made.
pub struct Stage {
    /// Its name, as it stands in the log and in the timeline.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Ground, &mut Node) -> Result<Report, StageError>,
    /// What it means when it can't.
    pub on_failure: OnFailure,
}

/// What the failure of a stage means for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The node goes on with less, and says so.
    Degrade,
    /// No agent is started; only the control API serves.
    Maintenance,
}

/// What a stage that did its work has to say.
#[derive(Debug)]
pub struct Report {
    /// [`StageOutcome::Done`], or [`StageOutcome::Running`] when a service goes on with it and will say when it is done.
    pub outcome: StageOutcome,
    /// A line for the operator.
    pub note: String<MAX_TEXT>,
}

impl Report {
    /// The stage is done.
    pub fn done(note: &str) -> Self {
        Self { outcome: StageOutcome::Done, note: ipc::cut(note) }
    }

    /// A service was started; it reports when it is ready.
    pub fn running(note: &str) -> Self {
        Self { outcome: StageOutcome::Running, note: ipc::cut(note) }
    }

    /// The stage can't begin before the machine-config has come, which is still asked for: supervision goes on with it.
    pub fn put_off() -> Self {
        Self::running("waits for the machine-config")
    }

    /// The stage did its work with less than it should have.
    pub fn degraded(note: &str) -> Self {
        Self { outcome: StageOutcome::Degraded, note: ipc::cut(note) }
    }
}

/// Why a stage failed: any error that says what failed, on what, and what to do.
pub type StageError = Box<dyn std::error::Error>;
