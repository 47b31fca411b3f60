//! What the root stage proves, and where the kernel can be asked about it again.
//!
//! Apart from the stage, because those who ask for the proof (the agent's launch above all) need not know how it is made.

use astromesh_verity::RootHash;
use astromesh_verity::device::DeviceName;

/// Name of the device in the device-mapper.
const DEVICE: &str = "astromesh-root";

/// [`DEVICE`], as the ioctls want it.
pub(crate) fn device_name() -> DeviceName {
    DEVICE.parse().expect("a short name of letters and a dash is a device name")
}

/// Proof that `/` is a dm-verity device with the root hash of the command line. Only the root stage makes one.
#[derive(Debug)]
pub struct VerifiedRoot {
    hash: RootHash,
    /// The disk it is on.
    pub disk: String,
}

impl VerifiedRoot {
    /// For the root stage alone, once the device is open and mounted.
    pub(super) fn new(hash: RootHash, disk: String) -> Self {
        Self { hash, disk }
    }

    /// The root hash the device was opened with.
    pub fn hash(&self) -> &RootHash {
        &self.hash
    }
}
