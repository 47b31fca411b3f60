//! Gate of phase 2: updates that cannot brick a node. A signed release is fetched from a registry by the node itself,
//! verified, written into the idle slot by `systemd-sysupdate`, started by firmware and boot loader, and kept only once
//! health has held. Whatever goes wrong ends on a healthy release with every byte of the agents' data.
//!
//! What is asserted are facts: the root hash in the device-mapper's table, names and bytes on the disk after the power
//! was cut, resets as QEMU counts them, the digest of the data as this test computes it. Most tests boot the stand-in for
//! the runtime (`qemu/stand-in`); the main path and the agent that never becomes healthy run the real one too. Run by
//! `cargo xtask gate phase2`.

mod updates;

use astromesh_proto::update::Outcome;
use astromesh_qemu::http;
use astromesh_qemu::node::{API_PORT, Node};
use astromesh_qemu::release::kept;
use std::time::Duration;
use updates::{Operate as _, Registry, Result, Station, old};

/// A boot of a stand-in, or an update of one, on a busy emulated machine.
const SOON: Duration = Duration::from_secs(300);

/// How much data an agent keeps in these tests, and of which kind.
const MIB: usize = 3;
const SEED: u64 = 42;

/// Has the agent keep its data.
fn keep(node: &Node) -> Result {
    let api = node.vm.host_address(API_PORT)?;
    http::get(api, &format!("/probe/keep/{MIB}/{SEED}"), SOON)?;
    still_keeps(node)
}

/// Every byte of it is there.
fn still_keeps(node: &Node) -> Result {
    let told = http::get(node.vm.host_address(API_PORT)?, "/probe/kept", SOON)?.json()?;
    assert_eq!(told["sha256"], kept(MIB, SEED));
    Ok(())
}

#[test]
fn a_signed_release_is_installed_started_and_kept_and_the_data_is_there() -> Result {
    let new = &updates::updates().healthy;
    let registry = Registry::start()?;
    registry.push(new)?;
    let mut station = Station::new()?;
    station.follow(&registry);
    let mut node = station.switch_on_with(|nic| registry.open(nic))?;
    node.wait_healthy_on(&old(), SOON)?;
    keep(&node)?;
    node.applied(&new.version)?;
    node.wait_healthy_on(new, SOON)?;
    let state = node.wait_outcome(Outcome::Kept, SOON)?;
    assert_eq!(node.vm.resets().len(), 1, "one restart, and no other");
    still_keeps(&node)?;
    assert_eq!(
        state.slots.and_then(|slots| slots.floor).map(|floor| floor.to_string()),
        Some(new.version.clone())
    );
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), new.uki_name()]);
    assert!(station.slots().has(new)? && station.slots().has(&old())?);
    Ok(())
}
