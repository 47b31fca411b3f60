//! What the stages build up on the ground, and the supervisor goes on with: the node, as PID 1 holds it.
//!
//! It is data. The stages fill it, one after the other, and supervision owns it from then on; neither is imported here.

use crate::boot::timeline::Timeline;
use crate::clearance::Applied;
use crate::job::Running;
use crate::jobs::Jobs;
use crate::late::Late;
use crate::supervise::services::Services;
use crate::supervise::trial::Trial;
use astromesh_node::clock;
use astromesh_proto::ipc::{self, MAX_TEXT};
use heapless::String;
use std::path::PathBuf;

/// All PID 1 knows and holds beside the [`Ground`].
pub struct Node {
    /// The stages so far.
    pub timeline: Timeline,
    /// The device that `/var` is on; without one it is in memory, and ends with this boot.
    pub var: Option<PathBuf>,
    /// The job that grows the file system there, while it runs.
    pub growth: Option<Running>,
    /// Whether the machine's clock was behind a moment that must have been, and was set.
    pub clock_was_behind: bool,
    /// What the machine-config says.
    pub config: Config,
    /// Whether an operator is known, who may use the control API.
    pub operator: bool,
    /// Whether the node may be updated, and the rules of a trial.
    pub rules: Option<ipc::TrialRules>,
    /// The machine-config, while a cloud's metadata server is asked for it again.
    pub late: Late,
    /// The trial of the release that runs.
    pub trial: Trial,
    /// The jobs.
    pub jobs: Jobs,
    /// The services.
    pub services: Services,
}

/// Whether there is a machine-config to run.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would allocate, and PID 1 must not")]
pub enum Config {
    /// There is none that can be used: no agent, the operator's door alone.
    Maintenance(String<MAX_TEXT>),
    /// It was applied.
    Applied(Applied),
}

impl Node {
    /// A node that knows nothing yet, and starts nothing.
    pub fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            var: None,
            growth: None,
            clock_was_behind: false,
            config: Config::Maintenance(ipc::cut("no machine-config has been read yet")),
            operator: false,
            rules: None,
            late: Late::default(),
            trial: Trial::default(),
            jobs: Jobs::default(),
            services: Services::prepare(),
        }
    }

    /// Gives up the machine-config, for this reason.
    pub fn enter_maintenance(&mut self, why: String<MAX_TEXT>) {
        self.config = Config::Maintenance(why);
    }

    /// Sees to it that the time of day isn't before a moment that has been, in seconds since 1970: certificates and expiries
    /// are checked by it.
    pub fn clock_at_least(&mut self, moment: u64, what: &str) {
        match clock::at_least(moment) {
            Ok(None) => {}
            Ok(Some(was)) => {
                self.clock_was_behind = true;
                log::warn!(
                    "the machine's clock is wrong: it said {was} s since 1970, {what} is of {moment}; set to that"
                );
            }
            Err(cause) => log::error!("the machine's clock is wrong and can't be set: {cause}"),
        }
    }

    /// Why the node is in maintenance mode, if it is.
    pub fn maintenance(&self) -> Option<&String<MAX_TEXT>> {
        match &self.config {
            Config::Maintenance(why) => Some(why),
            Config::Applied(_) => None,
        }
    }
}
