//! Astromesh OS's one userland binary.
//!
//! Started by the kernel it is PID 1: it walks the tables of stages below, then supervises. Started again by PID 1
//! under another name it is one of the node's services; [`main`] looks only at that name. It is static-pie,
//! because there is nothing on the root it could load.
//!
//! PID 1 parses no byte from the network, allocates nothing once the boot is over, and never waits for anybody
//! to listen to it.

use astromesh_node::inherited::Inherited;
use astromesh_node::process::{self, Process};
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
    // Last: nothing of the boot waits for it.
    Stage { name: "grow", run: boot::grow::run, on_failure: OnFailure::Degrade },
];

/// What a process does with what PID 1 gave it, until it ends with an exit code.
type Main = fn(Inherited) -> i32;

/// What PID 1 starts: the row of each process, and what it does. Who each is and what it may do stands in its row
/// ([`process::PROCESSES`]).
const STARTED: &[(&Process, Main)] = &[
    (process::PREFETCH, astromesh_prefetch::main),
    (process::GROW, astromesh_grow::main),
    (process::CONFIG, astromesh_config::main),
    (process::METADATA, astromesh_metadata::main),
    (process::NET, astromesh_net::main),
    (process::CONTROL, astromesh_control::main),
    (process::AGENT, astromesh_agent::main),
    (process::SLOTS, astromesh_slots::main),
    (process::UPDATE, astromesh_update::main),
    // For a gate alone, and in no release.
    #[cfg(feature = "twins")]
    (&astromesh_observer::ROW, astromesh_observer::main),
];

/// Exit code of a program that was started in a wrong way: `EX_USAGE` of sysexits.h.
const EXIT_NOTHING_DONE: i32 = 64;

fn main() {
    // By the name alone: a service in a pid namespace of its own has number 1 there, too. The kernel's name for this file
    // is none of these.
    let name = std::env::args().next();
    let started = STARTED.iter().find(|(process, _)| name.as_deref() == Some(process.name()));
    std::process::exit(match started {
        Some((_, main)) => match Inherited::take() {
            Ok(inherited) => main(inherited),
            Err(error) => {
                eprintln!("{error}");
                EXIT_NOTHING_DONE
            }
        },
        _ if rustix::process::getpid().is_init() => supervise::run(boot::run(GROUND, BOOT)),
        _ => {
            eprintln!("init runs as PID 1 of an Astromesh node, or is started by it; nothing to do here");
            EXIT_NOTHING_DONE
        }
    })
}

#[cfg(all(test, not(feature = "twins")))]
mod tests {
    use super::*;
    use astromesh_node::process::{Kind, PROCESSES};

    #[test]
    fn every_process_that_is_started_has_a_row_and_every_such_row_is_started() {
        let is_started = |process: &&Process| !matches!(process.kind, Kind::Pid1 | Kind::Part(_));
        let mut rows: Vec<_> = PROCESSES.iter().filter(is_started).map(Process::name).collect();
        let mut started: Vec<_> = STARTED.iter().map(|(process, _)| process.name()).collect();
        rows.sort_unstable();
        started.sort_unstable();
        assert_eq!(rows, started);
        // PID 1 is no entry: it is told by its number, and the kernel may call it anything that is none of these.
        assert!(!started.contains(&process::INIT.name()));
    }
}
