//! What is kept of a machine that was put aside: memory, devices, the firmware's variables.
//!
//! It exists for tests whose subject isn't the boot: a node is booted once, and each of them goes on from the moment at
//! which it was healthy ([`crate::Vm::save`], [`crate::VmBuilder::resume`]). A disk is the caller's to copy, once the
//! machine was put aside and before anything goes on.
//!
//! The machine that goes on must be described as the first was: QEMU refuses other devices, but not another network
//! behind the card, other forwarded ports or another disk image, and so each copy has its own. The guest's clock goes on
//! from the moment of the snapshot.

use std::path::PathBuf;

/// The file with memory and devices.
const MEMORY: &str = "memory";
/// The file with the firmware's variables; a machine that runs has one of this name in its private directory.
pub(crate) const FIRMWARE_VARIABLES: &str = "variables.fd";

/// A machine that was put aside, in a folder.
#[derive(Debug, Clone)]
pub struct Snapshot(PathBuf);

impl Snapshot {
    /// The one that [`crate::Vm::save`] left in `place`.
    pub fn in_folder(place: impl Into<PathBuf>) -> Self {
        Self(place.into())
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join(MEMORY)
    }

    pub(crate) fn firmware_variables(&self) -> PathBuf {
        self.0.join(FIRMWARE_VARIABLES)
    }
}
