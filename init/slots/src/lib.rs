//! The job `slots`: looks at the slots, has the idle one written, blesses or gives up the release that runs.
//!
//! PID 1 starts it, one at a time, in namespaces of its own and without any network. It is the only code that writes to
//! the boot partition, and the only one that starts a foreign program with rights (`systemd-sysupdate`, which writes the
//! idle slot). It believes no other process: what is to be installed is verified here once more, with the keys of the machine-config,
//! whatever the service that fetched it has verified before.
//!
//! What it found lies in `/run/node/slots` for the services that show it; why it could not do its work, it leaves for PID 1
//! ([`Reason`]).

mod drive;
mod error;
mod esp;
mod inspect;
mod install;
mod node;
mod transfers;

use astromesh_node::inherited::Inherited;
use astromesh_node::job::Reason;
use astromesh_node::places::{EXIT_DONE, EXIT_ON_TRIAL};
use astromesh_node::twin::{self, Twin};
use astromesh_node::{log_sink, process, service};
use astromesh_proto::boot_entry::BootEntry;
use astromesh_proto::ipc::SlotsWork;
use astromesh_release::boot_partition::BootPartition;
use astromesh_release::{entries, floor};
use error::SlotsError;
use esp::Esp;
use node::Node;
use std::os::fd::AsFd;
use std::path::Path;

/// Exit code: it could not be done, and nothing that runs has changed.
const EXIT_NOT_DONE: i32 = 1;

/// The process.
pub fn main(mut inherited: Inherited) -> i32 {
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::SLOTS, kmsg);
    }
    let reason = match Reason::take(&mut inherited) {
        Ok(reason) => reason,
        Err(error) => {
            log::error!("{error}");
            return EXIT_NOT_DONE;
        }
    };
    #[cfg(feature = "twins")]
    if twin::is(Twin::BelieveAnyone) {
        astromesh_oci::believe_anyone();
    }
    match carry_out() {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error}");
            reason.leave(&error.to_string());
            EXIT_NOT_DONE
        }
    }
}

fn carry_out() -> Result<i32, SlotsError> {
    let argument = std::env::args().nth(1);
    let work = match argument.as_deref() {
        Some("inspect") => SlotsWork::Inspect,
        Some("install") => SlotsWork::Install,
        Some("bless") => SlotsWork::Bless,
        Some("rollback") => SlotsWork::Rollback,
        Some("take-drive") => SlotsWork::TakeDrive,
        _ => return Err(SlotsError::ReadWork(argument)),
    };
    let node = Node::read()?;
    match work {
        SlotsWork::Install => return install::run(&node).map(|()| EXIT_DONE),
        SlotsWork::TakeDrive => {
            while twin::is(Twin::HangTakeDrive) || twin::is(Twin::HangTakeDriveForEver) {
                std::thread::park();
            }
            return Ok(drive::take().map(|()| EXIT_DONE)?);
        }
        _ => {}
    }
    let mut esp = Esp::mount(&node.disk, work != SlotsWork::Inspect)?;
    let counted = inspect::counted_by_the_loader(node.running);
    service::become_service(process::SLOTS)?;
    match work {
        SlotsWork::Bless => {
            bless(&mut esp, &node, counted)?;
            inspect::write_down(&mut esp, &node, None)?;
            Ok(EXIT_DONE)
        }
        SlotsWork::Rollback => {
            rollback(&mut esp, &node)?;
            inspect::write_down(&mut esp, &node, None)?;
            Ok(EXIT_DONE)
        }
        _ => {
            inspect::write_down(&mut esp, &node, counted)?;
            Ok(if counted.is_some() { EXIT_ON_TRIAL } else { EXIT_DONE })
        }
    }
}

/// Blesses the release that runs: takes the count out of its entry's name, then raises the floor. In this order, and either
/// may have been done by an earlier try that power failed in.
fn bless(esp: &mut impl BootPartition, node: &Node, counted: Option<BootEntry>) -> Result<(), SlotsError> {
    if let Some(change) = entries::bless(esp, node.running, counted)? {
        log::info!("{} is blessed: {} is {} now", node.running, change.from, change.to);
    }
    let before = floor::read(Path::new(floor::FILE));
    if before.is_none_or(|floor| floor < node.running) {
        floor::raise(Path::new(floor::FILE), node.running)
            .map_err(|cause| SlotsError::WriteDown { path: floor::FILE, cause })?;
        log::info!("nothing older than {} is installed from now on", node.running);
    }
    Ok(())
}

/// Makes the boot loader start the other slot from now on.
fn rollback(esp: &mut impl BootPartition, node: &Node) -> Result<(), SlotsError> {
    let partitions = inspect::partitions(&node.disk);
    let (change, other) = entries::rollback(&esp.entries()?, node.running, &partitions)?;
    entries::carry_out(esp, &change)?;
    log::warn!("{} gives up its place to {other}, as the operator asked", node.running);
    Ok(())
}
