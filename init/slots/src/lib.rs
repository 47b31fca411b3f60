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
use astromesh_proto::version::Version;
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
            bless(&mut esp, node.running, counted, Path::new(floor::FILE))?;
            tell(&mut esp, &node);
            Ok(EXIT_DONE)
        }
        SlotsWork::Rollback => {
            rollback(&mut esp, &node, counted)?;
            tell(&mut esp, &node);
            Ok(EXIT_DONE)
        }
        _ => Ok(if inspect::write_down(&mut esp, &node, counted)? { EXIT_ON_TRIAL } else { EXIT_DONE }),
    }
}

/// Writes down what is there after a change. The change is on the disk, and done, whether it can be told or not.
fn tell(esp: &mut impl BootPartition, node: &Node) {
    if let Err(error) = inspect::write_down(esp, node, None) {
        log::warn!("{error}; `update status` says what was before, until the node reboots");
    }
}

/// Blesses the release that runs: takes the count out of its entry's name, then raises the floor. In this order, and either
/// may have been done by an earlier try that power failed in.
///
/// The name decides, and is all that PID 1 waits for. The floor lies on `/var`, which agents can fill: where it can't be
/// raised the release is kept all the same, and the blessing of the next start raises it.
fn bless(
    esp: &mut impl BootPartition,
    running: Version,
    counted: Option<BootEntry>,
    floor: &Path,
) -> Result<(), SlotsError> {
    if let Some(change) = entries::bless(esp, running, counted)? {
        log::info!("{running} is blessed: {} is {} now", change.from, change.to);
    }
    if floor::read(floor).is_none_or(|before| before < running) {
        match floor::raise(floor, running) {
            Ok(()) => log::info!("nothing older than {running} is installed from now on"),
            Err(cause) => log::error!(
                "{} can't be written: {cause}; make room on /var: until the next start, what is older than {running} \
                 may be installed after a rollback",
                floor.display()
            ),
        }
    }
    Ok(())
}

/// Makes the boot loader start the other slot from now on.
fn rollback(esp: &mut impl BootPartition, node: &Node, said: Option<BootEntry>) -> Result<(), SlotsError> {
    let partitions = inspect::partitions(&node.disk);
    let (changes, other) = entries::rollback(&esp.entries()?, node.running, said, &partitions)?;
    for change in &changes {
        entries::carry_out(esp, change)?;
    }
    log::warn!("{} gives up its place to {other}, as the operator asked", node.running);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_release::boot_partition::EspError;

    /// A boot partition in memory.
    struct Names(Vec<BootEntry>);

    impl BootPartition for Names {
        fn entries(&mut self) -> Result<Vec<BootEntry>, EspError> {
            Ok(self.0.clone())
        }

        fn rename(&mut self, from: &BootEntry, to: &BootEntry) -> Result<(), EspError> {
            self.0.iter_mut().filter(|entry| *entry == from).for_each(|entry| *entry = *to);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), EspError> {
            Ok(())
        }
    }

    #[test]
    fn a_floor_that_can_not_be_written_keeps_no_release_from_being_blessed_and_is_raised_later() {
        let folder = std::env::temp_dir().join(format!("astromesh-bless-{}", std::process::id()));
        let floor = folder.join("floor");
        let counted = BootEntry::parse("astromesh_0.2.0+2-1.efi").unwrap();
        let mut esp = Names(vec![counted]);
        // The folder isn't there: writing fails as it does on a full disk.
        bless(&mut esp, counted.version, Some(counted), &floor).unwrap();
        assert_eq!(esp.0, [BootEntry::blessed(counted.version)]);
        assert_eq!(floor::read(&floor), None);
        // The blessing of the next start, with room on the disk: there is nothing to rename any more.
        std::fs::create_dir(&folder).unwrap();
        bless(&mut esp, counted.version, None, &floor).unwrap();
        assert_eq!(floor::read(&floor), Some(counted.version));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
