//! Launches the agent runtime, if there is a machine-config to run.

use super::stage::{Report, StageError};
use crate::node::Node;

/// Why the runtime was not launched.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no verified root.
    #[error("no verified root: the runtime is not launched from anything else")]
    NoVerifiedRoot,
}

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    if node.plan.maintenance.is_some() {
        return Ok(Report::degraded("not launched: maintenance mode"));
    }
    let root = node.root.as_ref().ok_or(AgentError::NoVerifiedRoot)?;
    node.services.launch(root, &node.kmsg, &node.null)?;
    Ok(Report::done("runtime started"))
}
