//! Has the idle slot written by `systemd-sysupdate`, and checks what it wrote.
//!
//! The foreign program gets a [`view`] and a user of its own, and not one capability. What it is given was verified here
//! ([`verify`]), with the machine-config's keys, immediately before; what counts in the end is what is read back from the
//! disk ([`read_back`]).
//!
//! **Refuses** to start before the release is verified and has room, and to leave a boot entry for what was not signed.

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

/// The job's work.
pub fn run(node: &Node) -> Result<(), SlotsError> {
    view::build(&node.disk)?;
    service::become_service(INSTALL)?;

    let candidate = verify::verify(node)?;
    room::fits(node, &candidate)?;
    let mut esp = Esp::at_mount_point()?;
    esp.clean()?;
    room::forget_failed(&candidate, &mut esp)?;
    updater::write(node, &candidate, &esp)?;
    let checked = read_back::check(node, &candidate);
    if checked.is_err() {
        read_back::withdraw(&candidate);
    }
    esp.sync()?;
    checked?;
    log::info!(
        "{} is in the idle slot, with {} bytes of root",
        candidate.version,
        candidate.layer(Kind::Root).size
    );
    Ok(())
}
