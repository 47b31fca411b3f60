//! Releases as an update carries them, and a node that starts one after the other.
//!
//! It exists for the gate of updates, which boots one disk again and again. Which release runs is told by the root hash
//! in the device-mapper's table, never by a version that the release says of itself; how often the machine was reset is
//! told by QEMU.

use crate::node::{Image, Node, NodeError};
use crate::{ExitReason, VmError};
use astromesh_proto::control::Status;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a registry is, as seen from inside: [`crate::Nic::reach_loopback`] opens it.
pub const REGISTRY_INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 101), 5000);
/// The registry's name inside.
pub const REGISTRY_NAME: &str = "registry.test";

/// A release in the files that an update carries; all paths absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version, as the boot loader, the labels of its slot and its os-release tell it.
    pub version: String,
    /// Kernel, initramfs and command line as one EFI program.
    pub uki: PathBuf,
    /// The root file system.
    pub root: PathBuf,
    /// Its hash tree.
    pub verity: PathBuf,
    /// The root hash on the command line, in hex.
    pub root_hash: String,
}

impl Release {
    /// The name of its UKI once it is blessed.
    pub fn uki_name(&self) -> String {
        format!("astromesh_{}.efi", self.version)
    }

    /// The name of its UKI while it is on trial: so many tries left, so many done.
    pub fn trial_name(&self, left: u32, done: u32) -> String {
        format!("astromesh_{}+{left}-{done}.efi", self.version)
    }
}

impl Image {
    /// Its files as the release `version`.
    pub fn as_release(&self, version: &str) -> Release {
        Release {
            version: version.to_owned(),
            uki: self.uki.clone(),
            root: self.root.clone(),
            verity: self.verity.clone(),
            root_hash: self.root_hash.clone(),
        }
    }
}

/// What the gate of updates boots and installs. All but the last three are stand-ins: the release's kernel, `init` and
/// root, with `qemu/stand-in` in Python's place. Those of version 0.2.0 differ from `healthy` in one thing each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Updates {
    /// 0.1.0, healthy, as a whole image: its disk is where every update begins.
    pub base: Image,
    /// The same with an `init` that takes every signature for one of a trusted key.
    pub believing: Image,
    /// 0.2.0, healthy.
    pub healthy: Release,
    /// 0.3.0, healthy.
    pub newer: Release,
    /// 0.2.0 whose runtime answers, and deploys no agent.
    pub unhealthy: Release,
    /// The same with an `init` that keeps a release whether or not it is healthy.
    pub unhealthy_kept: Release,
    /// 0.2.0 whose runtime ends at once.
    pub crash: Release,
    /// 0.2.0 whose PID 1 ends at once: the kernel panics.
    pub panic: Release,
    /// 0.2.0 whose `init` hangs in the early stage, ten seconds before the watchdog bites.
    pub hang: Release,
    /// 0.2.0 whose kernel is damaged: its compressed part doesn't unpack, so it returns an error to whoever started it.
    pub no_kernel: Release,
    /// The program that firmware starts first, with half a minute instead of two until the watchdog bites.
    pub impatient_preboot: PathBuf,
    /// 0.2.0 in whose root one byte that every boot reads is wrong.
    pub corrupt: Release,
    /// 0.2.0 with the hash tree of 0.3.0.
    pub swapped: Release,
    /// The real release.
    pub real: Release,
    /// The real release as 0.2.0: its version and one file of one wheel differ.
    pub real_next: Release,
    /// The real release as 0.2.0 with a launcher that finds no agents: the runtime answers, and serves none.
    pub real_unhealthy: Release,
}

/// What a node did that was waited for.
#[derive(Debug)]
pub enum Came {
    /// It is healthy, on the root that was asked for.
    Healthy(Box<Status>),
    /// It was reset as often as was asked for, for these reasons.
    Resets(Vec<ExitReason>),
}

impl Node {
    /// Waits until the node is healthy with `release`'s root mounted, through whatever resets lie between.
    pub fn wait_healthy_on(&self, release: &Release, limit: Duration) -> Result<Status, NodeError> {
        match self.wait_healthy_or_resets(release, usize::MAX, limit)? {
            Came::Healthy(status) => Ok(*status),
            Came::Resets(_) => Err(NodeError::Answer),
        }
    }

    /// Waits until the node is healthy with `release`'s root mounted, or the machine was reset `resets` times since it
    /// started.
    ///
    /// A machine that is being reset answers nobody: give [`Node::profile`] a time limit of seconds.
    pub fn wait_healthy_or_resets(
        &self,
        release: &Release,
        resets: usize,
        limit: Duration,
    ) -> Result<Came, NodeError> {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.vm.resets();
            if seen.len() >= resets {
                return Ok(Came::Resets(seen));
            }
            let last = match self.status() {
                Ok(status) if status.healthy && status.root_hash == release.root_hash => {
                    return Ok(Came::Healthy(Box::new(status)));
                }
                Ok(status) => format!("root {}: {}", status.root_hash, status.reason),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline || !self.vm.is_running() {
                let (what, console) = ("the node did not become healthy", self.vm.serial().tail());
                let last = format!("{last}; resets: {:?}", self.vm.resets());
                return Err(NodeError::Wait { what, limit, last, console });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until the machine was reset `count` times since it started, and tells why each time.
    pub fn wait_resets(&self, count: usize, limit: Duration) -> Result<Vec<ExitReason>, VmError> {
        self.vm.wait_resets(count, limit)
    }
}

/// SHA-256, in hex, of what a stand-in's `/probe/keep/MIB/SEED` writes: known here without asking it.
pub fn kept(mib: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut sum = Sha256::new();
    for _ in 0..mib << 17 {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        sum.update(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    format!("{:x}", sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_one_name_on_trial_and_another_once_it_is_blessed() {
        let path = PathBuf::from("/x");
        let release = Release {
            version: "0.2.0".into(),
            uki: path.clone(),
            root: path.clone(),
            verity: path,
            root_hash: String::new(),
        };
        assert_eq!(release.uki_name(), "astromesh_0.2.0.efi");
        assert_eq!(release.trial_name(3, 0), "astromesh_0.2.0+3-0.efi");
    }

    #[test]
    fn what_is_kept_follows_from_its_seed() {
        assert_ne!(kept(1, 7), kept(1, 8));
        assert_ne!(kept(1, 7), kept(2, 7));
    }
}
