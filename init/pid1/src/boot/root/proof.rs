//! What the root stage proves, and where the kernel can be asked about it again.
//!
//! Apart from the stage, because those who ask for the proof (the agent's launch above all) need not know how it is made.

use astromesh_node::twin::{self, Twin};
use astromesh_verity::device::{DeviceError, DeviceName};
use astromesh_verity::table::Verdict;
use astromesh_verity::{Device, DeviceNumber, RootHash};
use rustix::io::Errno;

/// Name of the device in the device-mapper.
const DEVICE: &str = "astromesh-root";

/// [`DEVICE`], as the ioctls want it.
pub(crate) fn device_name() -> DeviceName {
    DEVICE.parse().expect("a short name of letters and a dash is a device name")
}

/// Why the root is not taken for verified, although it was opened and mounted.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The kernel doesn't tell.
    #[error("the kernel can't be asked which device the root is on: {0}")]
    ReadTable(#[from] DeviceError),
    /// It tells something else.
    #[error("the kernel's table of the root has the root hash {0}, not the command line's")]
    CompareHash(RootHash),
    /// A block was wrong already, or the device takes writes.
    #[error("the kernel's verity device of the root is not a valid one that refuses writes")]
    ReadVerdict,
    /// `/` can't be looked at.
    #[error("the mounted root can't be looked at: {0}")]
    ReadMount(Errno),
    /// `/` is something else.
    #[error("/ is on device {0}, not on the verity device")]
    CompareMount(DeviceNumber),
}

/// Holding one proves: when it was made, the live device-mapper had a read-only verity device with this root hash, every
/// block that had been read from it verified, and `/` was mounted from that device. The kernel keeps it so: a wrong block
/// reboots the machine, and nothing unmounts `/`. It does not prove that anybody signed the root hash.
///
/// Not `Clone`, and made by [`VerifiedRoot::read_back`] alone.
#[derive(Debug)]
pub struct VerifiedRoot {
    hash: RootHash,
    disk: String,
}

impl VerifiedRoot {
    /// Asks the kernel: for the root stage, when it has opened the device for `hash`, which lies on `disk`, and has
    /// made it `/`.
    pub(super) fn read_back(hash: RootHash, disk: String) -> Result<Self, ProofError> {
        if twin::is(Twin::NoVerity) {
            // There is none to ask about. The build with twins is in no release.
            return Ok(Self { hash, disk });
        }
        let status = Device::status(&device_name())?;
        if status.table.root_hash != hash {
            return Err(ProofError::CompareHash(status.table.root_hash));
        }
        if status.verdict != Verdict::Valid || !status.read_only {
            return Err(ProofError::ReadVerdict);
        }
        let mounted = rustix::fs::stat(c"/").map_err(ProofError::ReadMount)?.st_dev;
        let mounted = DeviceNumber { major: rustix::fs::major(mounted), minor: rustix::fs::minor(mounted) };
        // The bench that keeps the tree in memory mounts it over the verified root: its build is in no release.
        if mounted != status.number && cfg!(not(feature = "tree-in-memory")) {
            return Err(ProofError::CompareMount(mounted));
        }
        Ok(Self { hash, disk })
    }

    /// The root hash the device was opened with.
    pub fn hash(&self) -> &RootHash {
        &self.hash
    }

    /// Name of the disk it is on, as in `/sys/block`.
    pub fn disk(&self) -> &str {
        &self.disk
    }
}
