//! Starts the `net` service, which goes on with links, addresses and the resolver by itself. An agent's imports need
//! no network, so nobody waits for a lease.

use super::stage::{Report, StageError};
use crate::node::Node;
use crate::supervise::services::NET;

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    node.services.start(NET, &node.kmsg, &node.null)?;
    Ok(Report::running("waiting for an address"))
}
