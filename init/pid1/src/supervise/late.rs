//! What PID 1 does when a machine-config comes late: the node goes on where its boot stopped.
//!
//! The stages behind `config` had been put off, with a record in the timeline that is still running. Their services are
//! now started for the first time, by the same lines that start them again when they end, so the node ends up as one that
//! had its machine-config at boot.

use crate::boot::plan;
use crate::boot::timeline::Moment;
use crate::late::News;
use crate::node::Node;
use crate::supervise::services::Service;
use astromesh_proto::cloud::Cloud;
use astromesh_proto::control::StageOutcome;
use astromesh_proto::ipc::{self, MAX_TEXT, Plan};
use core::fmt::Write as _;
use heapless::String;
use rustix::process::{Pid, WaitStatus};
use std::time::Instant;

/// Takes note that a process ended; whether it was a job that a late machine-config takes.
pub fn ended(node: &mut Node, pid: Pid, status: WaitStatus) -> bool {
    match node.late.ended(pid, status, Instant::now()) {
        None => return false,
        Some(News::NotYet(reason)) => log::warn!("config: still no machine-config: {reason}"),
        Some(News::Come(cloud)) => log::info!("config: {} has come late", cloud.source()),
        Some(News::Read(cloud, Ok(()))) => take(node, cloud),
        Some(News::Read(cloud, Err(reason))) => {
            refuse(node, cloud, &reason);
            go_on(node);
        }
    }
    true
}

/// Does what the plan says.
fn take(node: &mut Node, cloud: Cloud) {
    match plan::take(node) {
        None => refuse(node, cloud, "the config process left no plan; it is not used"),
        Some(Plan { maintenance: Some(text), .. }) => refuse(node, cloud, &text),
        Some(Plan { maintenance: None, hostname, .. }) => apply(node, cloud, &hostname),
    }
    if let Some(rules) = node.rules {
        node.trial.follow(rules);
    }
    go_on(node);
}

/// Says that the node has its machine-config now.
fn apply(node: &mut Node, cloud: Cloud, hostname: &str) {
    let mut note = String::<MAX_TEXT>::new();
    // Fits: a host name has at most 64 bytes.
    let _ = write!(note, "{hostname}, machine-config from {}, late", cloud.source());
    log::info!("config: {note}");
    node.timeline.finish("config", StageOutcome::Done, &note);
    let (began, waits) = (Moment::now(), ipc::cut("waiting for the runtime"));
    node.timeline.push("healthy", began, StageOutcome::Running, waits);
}

/// Stays in maintenance mode, for another reason now.
fn refuse(node: &mut Node, cloud: Cloud, why: &str) {
    let mut note = String::<MAX_TEXT>::new();
    // What doesn't fit is left out.
    let _ = write!(note, "machine-config from {}: ", cloud.source());
    let _ = why.chars().try_for_each(|character| note.push(character));
    log::error!("config: {note}");
    node.timeline.finish("config", StageOutcome::Failed, &note);
    node.enter_maintenance(note);
}

/// Starts what waited for the machine-config.
fn go_on(node: &mut Node) {
    node.services.begin(Service::Net);
    node.services.begin(Service::Control);
    if node.maintenance().is_none() {
        node.services.begin(Service::Agent);
    } else {
        node.timeline.finish("agent", StageOutcome::Degraded, "not launched: maintenance mode");
    }
    if node.rules.is_some() {
        node.services.begin(Service::Update);
    } else {
        node.timeline.finish(
            "update",
            StageOutcome::Done,
            "none: the machine-config has no `update` section",
        );
    }
}
