//! What the stages build up and the supervisor goes on with: the node, as PID 1 holds it.
//!
//! It is data. The stages fill it, one after the other, and supervision owns it from then on; neither is imported here.

use crate::boot::root::proof::VerifiedRoot;
use crate::boot::timeline::Timeline;
use crate::supervise::services::Services;
use crate::supervise::trial::Trial;
use astromesh_proto::ipc::Plan;
use astromesh_sys::watchdog::Watchdog;
use std::os::fd::OwnedFd;

/// All PID 1 knows and holds.
pub struct Node {
    /// The stages so far.
    pub timeline: Timeline,
    /// Where every process logs to.
    pub kmsg: OwnedFd,
    /// What PID 1's children get as standard input.
    pub null: OwnedFd,
    /// The machine's watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    /// Proof that the root is the one that was signed.
    pub root: Option<VerifiedRoot>,
    /// Whether `/var` outlives this boot.
    pub var_on_disk: bool,
    /// What the machine-config asks for.
    pub plan: Plan,
    /// The judgement on the release that runs.
    pub trial: Trial,
    /// The services.
    pub services: Services,
}
