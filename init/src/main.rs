//! Astromesh OS's one userland binary.
//!
//! Started by the kernel it is PID 1: it walks the tables of stages below, then supervises. Started again by PID 1
//! under another name it is one of the node's services; [`main`] looks only at that name. It is static-pie,
//! because there is nothing on the root it could load.
//!
//! PID 1 parses no byte from the network, allocates nothing once the boot is over, and never waits for anybody
//! to listen to it.

use astromesh_node::service;
use astromesh_pid1::{boot, supervise};
use boot::{GroundStage, OnFailure, Stage};

/// What must be there before anything else can be. A failure reboots the machine.
const GROUND: &[GroundStage] = &[
    GroundStage { name: "early", run: boot::early::run },
    GroundStage { name: "root", run: boot::root::run },
];

/// The boot on that ground: what is done, in which order, and what a failure means. These tables are the program; one
/// function ([`boot::run`]) walks them, times each stage and logs one line for it.
const BOOT: &[Stage] = &[
    Stage { name: "state", run: boot::state::run, on_failure: OnFailure::Degrade },
    Stage { name: "config", run: boot::config::run, on_failure: OnFailure::Maintenance },
    Stage { name: "network", run: boot::network::run, on_failure: OnFailure::Degrade },
    Stage { name: "control", run: boot::control::run, on_failure: OnFailure::Degrade },
    Stage { name: "agent", run: boot::agent::run, on_failure: OnFailure::Degrade },
    Stage { name: "slots", run: boot::slots::run, on_failure: OnFailure::Degrade },
    Stage { name: "update", run: boot::update::run, on_failure: OnFailure::Degrade },
];

fn main() {
    // By the name alone: a service in a pid namespace of its own has number 1 there, too. The kernel's name for this file
    // is none of these.
    std::process::exit(match std::env::args().next().as_deref() {
        Some(service::PREFETCH) => astromesh_prefetch::main(),
        Some(service::CONFIG) => astromesh_config::main(),
        Some(service::METADATA) => astromesh_metadata::main(),
        Some(service::NET) => astromesh_net::main(),
        Some(service::CONTROL) => astromesh_control::main(),
        Some(service::AGENT) => astromesh_agent::main(),
        Some(service::SLOTS) => astromesh_slots::main(),
        Some(service::UPDATE) => astromesh_update::main(),
        _ if rustix::process::getpid().is_init() => supervise::run(boot::run(GROUND, BOOT)),
        _ => {
            eprintln!("init runs as PID 1 of an Astromesh node, or is started by it; nothing to do here");
            64
        }
    })
}
