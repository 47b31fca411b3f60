//! Taking over what the job `config` left for PID 1: a plan of a few hundred bytes.
//!
//! At boot it is taken by the stage `config`, and later by supervision when the machine-config came late. Nothing here
//! allocates.

use crate::clearance::Applied;
use crate::node::{Config, Node};
use astromesh_node::places::PLAN;
use astromesh_proto::ipc::{self, MAX_MESSAGE, Plan};
use rustix::fs::{Mode, OFlags};

/// Does what the plan says of the node itself, and returns it; `None` where there is none. A node whose plan names no
/// error has a configuration from here on; what else it means is for who asks.
pub fn take(node: &mut Node) -> Option<Plan> {
    let plan = read()?;
    (node.operator, node.rules) = (plan.operator, plan.trial);
    if !plan.hostname.is_empty() {
        if let Err(cause) = rustix::system::sethostname(plan.hostname.as_bytes()) {
            log::warn!("config: the host name stays as it is: {cause}");
        }
    }
    if plan.maintenance.is_none() {
        node.config = Config::Applied(Applied::new());
    }
    Some(plan)
}

fn read() -> Option<Plan> {
    let file = rustix::fs::open(PLAN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = [0; MAX_MESSAGE + 1];
    let count = rustix::io::read(&file, &mut bytes).ok()?;
    ipc::decode(bytes.get(..count.min(MAX_MESSAGE))?)
}
