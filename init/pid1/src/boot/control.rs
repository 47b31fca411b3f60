//! Starts the `control` service: the operator's way in, in maintenance mode the only thing that serves.

use super::stage::{Report, StageError};
use crate::ground::Ground;
use crate::node::Node;
use crate::supervise::services::Own;

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    if node.late.is_expected() {
        return Ok(Report::put_off());
    }
    node.services.start(Own::Control, ground)?;
    Ok(if node.operator {
        Report::running("starting")
    } else {
        Report::degraded("no operator is known: nobody can use the control API")
    })
}
