//! A node that starts one release after the other.
//!
//! It exists for the gate of updates, which boots one disk again and again. Which release runs is told by the root hash
//! in the device-mapper's table, never by a version that the release says of itself; how often the machine was reset is
//! told by QEMU.

use crate::node::{Node, NodeError};
use crate::{ExitReason, VmError};
use astromesh_proto::control::Status;
use sha2::{Digest as _, Sha256};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

pub use crate::artifact::{Release, Updates};

/// Where a registry is, as seen from inside: [`crate::Nic::reach_loopback`] opens it.
pub const REGISTRY_INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 101), 5000);
/// The registry's name inside.
pub const REGISTRY_NAME: &str = "registry.test";

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
    fn what_is_kept_follows_from_its_seed() {
        assert_ne!(kept(1, 7), kept(1, 8));
        assert_ne!(kept(1, 7), kept(2, 7));
    }
}
