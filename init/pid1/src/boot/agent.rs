//! Launches the agent runtime, if there is a machine-config to run.

use super::stage::{Report, StageError};
use crate::clearance::Clearance;
use crate::ground::Ground;
use crate::node::{Config, Node};

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    if node.late.is_expected() {
        return Ok(Report::put_off());
    }
    let Config::Applied(config) = &node.config else {
        return Ok(Report::degraded("not launched: maintenance mode"));
    };
    node.services.launch(Clearance::new(ground, config))?;
    Ok(Report::done("runtime started"))
}
