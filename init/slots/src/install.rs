//! Has the idle slot written by `systemd-sysupdate`, and checks what it wrote.
//!
//! The foreign program gets a [`view`] and a user of its own, and not one capability. What it is given was verified here
//! ([`verify`]), with the machine-config's keys, immediately before; what counts in the end is what is read back from the
//! disk ([`read_back`]).
//!
//! **What always holds.** What was not read back has no try: the updater writes the boot entry as `+0-0`, which the boot
//! loader passes over, and it gets its tries here, by a rename, once everything that was written is what was signed. So it
//! doesn't matter what a process that talks to the network does to the staged files meanwhile, or when the machine reboots.
//!
//! **Refuses** to start before the release is verified and has room, to overwrite the other slot while the release that runs
//! isn't kept, and to leave a boot entry for what was not signed.

pub mod error;
mod read_back;
mod room;
mod updater;
mod verify;
mod view;

use crate::error::SlotsError;
use crate::esp::Esp;
use crate::node::Node;
use astromesh_node::process::INSTALL;
use astromesh_node::service;
use astromesh_oci::Kind;
use astromesh_release::boot_partition::BootPartition as _;
use astromesh_release::entries;

/// The job's work.
pub fn run(node: &Node) -> Result<(), SlotsError> {
    view::build(&node.disk)?;
    service::become_service(INSTALL)?;

    let mut esp = Esp::at_mount_point()?;
    let candidate = verify::verify(node, &esp.entries()?)?;
    room::fits(node, &candidate)?;
    esp.clean()?;
    room::forget_failed(&candidate, &mut esp)?;
    updater::write(node, &candidate, &esp)?;
    let checked = read_back::check(node, &candidate);
    if checked.is_err() {
        read_back::withdraw(&candidate);
    }
    esp.sync()?;
    checked?;
    if let Some(change) = entries::arming(&esp.entries()?, candidate.version) {
        entries::carry_out(&mut esp, &change)?;
    }
    log::info!(
        "{} is in the idle slot, with {} bytes of root",
        candidate.version,
        candidate.layer(Kind::Root).size
    );
    Ok(())
}
