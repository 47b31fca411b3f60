//! Starts the `net` service, which goes on with links, addresses and the resolver by itself. An agent's imports need
//! no network, so nobody waits for a lease.

use super::stage::{Report, StageError};
use crate::ground::Ground;
use crate::node::Node;
use crate::supervise::services::Own;

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    if node.late.is_expected() {
        return Ok(Report::put_off());
    }
    node.services.start(Own::Net, ground)?;
    Ok(Report::running("waiting for an address"))
}
