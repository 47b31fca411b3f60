//! Starts the `update` service, where the machine-config says from where releases come.

use super::root::proof::VerifiedRoot;
use super::stage::{Report, StageError};
use crate::ground::Ground;
use crate::node::Node;
use crate::supervise::services::Own;
use astromesh_node::disk::{self, Partition, TYPE_ESP};
use astromesh_node::places::SEEDS;
use astromesh_verity::{ROOT_X86_64, partition_uuids};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    if node.late.is_expected() {
        // Opened now: finding them allocates, and after the boot nothing may.
        node.services.seed(seeds(ground.root()));
        return Ok(Report::put_off());
    }
    if node.rules.is_none() {
        return Ok(Report::done("none: the machine-config has no `update` section"));
    }
    node.services.seed(seeds(ground.root()));
    node.services.start(Own::Update, ground)?;
    Ok(Report::done("service started"))
}

/// What the service may read: the root that runs, the other slot's, the boot partition. They hold nothing but releases.
fn seeds(root: &VerifiedRoot) -> [Option<OwnedFd>; SEEDS] {
    let runs = partition_uuids(root.hash()).root;
    let open = |partition: Option<Partition>| {
        rustix::fs::open(partition?.device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    };
    [
        open(disk::find(root.disk(), |entry| entry.type_guid == ROOT_X86_64 && entry.unique_guid == runs)),
        open(disk::find(root.disk(), |entry| entry.type_guid == ROOT_X86_64 && entry.unique_guid != runs)),
        open(disk::find(root.disk(), |entry| entry.type_guid == TYPE_ESP)),
    ]
}
