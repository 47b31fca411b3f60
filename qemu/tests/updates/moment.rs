//! Nodes that are healthy already: booted once for each run of the gates, put aside, and gone on from by every test whose
//! subject is what comes after.
//!
//! Each test has a disk, a registry and forwarded ports of its own; what it shares with the others is what the node
//! was told before it was put aside: the registry's certificates and keys, the operator's credentials, the machine-config.
//! Tests of booting, and of power that fails, begin with a boot.

use super::{Identity, KEPT, Registry, Result, Station, keep_data, updates};
use astromesh_qemu::Snapshot;
use astromesh_qemu::node::{Node, Setup};
use astromeshctl::credentials::Credentials;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A boot of a stand-in on a busy emulated machine.
const SOON: Duration = Duration::from_secs(300);

/// What lies beside a snapshot: what the node was told, and by whom it may be operated.
#[derive(Serialize, Deserialize)]
struct Told {
    identity: Identity,
    config: Value,
    /// Of the operator and the node, in the order of the fields of [`Credentials`].
    credentials: [String; 7],
}

/// A node on the old stand-in, healthy, with [`KEPT`] on its `/var`, that goes on from where it was put aside.
///
/// `name` says which: nodes that were told other things by `tell` have other names.
pub fn healthy_node(name: &str, tell: impl Fn(&mut Station)) -> Result<(Registry, Station, Node)> {
    let (registry, station, snapshot) = put_aside(name, tell)?;
    let node = station.go_on(&snapshot, |nic| registry.open(nic))?;
    Ok((registry, station, node))
}

/// The same before it goes on.
pub fn put_aside(name: &str, tell: impl Fn(&mut Station)) -> Result<(Registry, Station, Snapshot)> {
    let place = folder()?.join(name);
    let told = ready(&place, &tell)?;
    let registry = Registry::known(&told.identity)?;
    let mut station = Station::with_disk(&updates().base, &place.join("disk.raw"))?;
    let [node, ca_pem, ca_key_pem, client_cert_pem, client_key_pem, node_cert_pem, node_key_pem] =
        told.credentials;
    let credentials = Credentials {
        node,
        ca_pem,
        ca_key_pem,
        client_cert_pem,
        client_key_pem,
        node_cert_pem,
        node_key_pem,
    };
    station.setup = Setup { config: told.config, credentials };
    Ok((registry, station, Snapshot::in_folder(&place)))
}

/// Where the nodes of this run are.
fn folder() -> Result<PathBuf> {
    let gate = std::env::var("ASTROMESH_GATE").map_err(|_| "gates are run by `cargo xtask gate phase2`")?;
    let folder = Path::new(&gate).with_file_name("snapshots");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Makes the snapshot in `place` unless another test has made it; tests that come meanwhile wait.
fn ready(place: &Path, tell: &impl Fn(&mut Station)) -> Result<Told> {
    let lock = File::create(place.with_extension("lock"))?;
    lock.lock()?;
    let description = place.join("told.json");
    if !description.is_file() {
        if place.is_dir() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir(place)?;
        let told = make(place, tell)?;
        // Last: what has a description is whole.
        fs::write(&description, serde_json::to_vec(&told)?)?;
    }
    Ok(serde_json::from_slice(&fs::read(&description)?)?)
}

fn make(place: &Path, tell: &impl Fn(&mut Station)) -> Result<Told> {
    let identity = Identity::new()?;
    let registry = Registry::known(&identity)?;
    let mut station = Station::new()?;
    station.follow(&registry);
    tell(&mut station);
    let node = station.switch_on_with(|nic| registry.open(nic))?;
    node.wait_healthy_on(&station.first(), SOON)?;
    keep_data(&node, KEPT)?;
    node.vm.save(place)?;
    station.copy_disk(&place.join("disk.raw"))?;
    let Setup { config, credentials: c } = station.setup;
    let credentials = [
        c.node,
        c.ca_pem,
        c.ca_key_pem,
        c.client_cert_pem,
        c.client_key_pem,
        c.node_cert_pem,
        c.node_key_pem,
    ];
    Ok(Told { identity, config, credentials })
}
