//! Starts the `control` service: the operator's way in, in maintenance mode the only thing that serves.

use super::stage::{Report, StageError};
use crate::node::Node;
use crate::supervise::services::CONTROL;

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    node.services.start(CONTROL, &node.kmsg, &node.null)?;
    Ok(if node.plan.operator {
        Report::running("starting")
    } else {
        Report::degraded("no operator is known: nobody can use the control API")
    })
}
