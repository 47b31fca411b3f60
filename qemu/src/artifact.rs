//! What a build leaves in files: images, releases, and those that the gates boot.
//!
//! They are data: who builds writes them down, who boots reads them. What can be done with a booted one is in `node.rs`
//! and `release.rs`, which both take their data from here.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An image as `cargo xtask build` leaves it; all paths absolute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The `init` binary inside it.
    pub init: PathBuf,
    /// Kernel, initramfs and command line as one EFI program.
    pub uki: PathBuf,
    /// What firmware starts: it arms the watchdog and starts the boot loader.
    pub preboot: PathBuf,
    /// systemd-boot, which starts the UKI.
    pub loader: PathBuf,
    /// The disk: boot partition, two slots for root and hash tree, `/var`.
    pub disk: PathBuf,
    /// The root file system by itself.
    pub root: PathBuf,
    /// The hash tree by itself.
    pub verity: PathBuf,
    /// The tree the root was made from.
    pub stage: PathBuf,
    /// What is inside, with versions and licences.
    pub manifest: PathBuf,
    /// The root hash in hex.
    pub root_hash: String,
}

/// What was built can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no image.
    #[error("{path} can't be read ({cause}): run `cargo xtask build`")]
    ReadImage {
        /// Its description.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl Image {
    /// Reads a description.
    pub fn load(path: &Path) -> Result<Self, ArtifactError> {
        let read = |cause: String| ArtifactError::ReadImage { path: path.to_owned(), cause };
        let bytes = std::fs::read(path).map_err(|error| read(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| read(error.to_string()))
    }

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

/// What the gates boot: the release, and images that differ from it in one thing each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GateImages {
    /// The release.
    pub release: Image,
    /// The release with a launcher that tells what it could do, and a file that nothing else reads.
    pub probe: Image,
    /// Where in the probe's root that file's content stands, in bytes.
    pub cold_offset: u64,
    /// The probe's root under the PARTUUIDs and the command line of another root hash.
    pub mislabelled: Image,
    /// The probe with a twin of `init`, which writes down what each process is, or does without verity; built only for
    /// a gate that boots it.
    #[serde(default)]
    pub observed: Option<Image>,
    /// Where the release lies in the formats of the clouds.
    pub formats: PathBuf,
    /// Older and newer releases, good and bad; built only for a gate that updates.
    #[serde(default)]
    pub updates: Option<Updates>,
}

/// What the gate of updates boots and installs. All but the last three are stand-ins: the release's kernel, `init` and
/// root, with `qemu/stand-in` in Python's place. Those of version 0.2.0 differ from `healthy` in one thing each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Updates {
    /// 0.1.0, healthy, as a whole image: its disk is where every update begins.
    pub base: Image,
    /// The same with an `init` that takes every signature for one of a trusted key.
    pub believing: Image,
    /// The same with an `init` that takes every signature for one of a trusted key while it fetches, and none while it
    /// installs.
    pub credulous: Image,
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
    /// 0.2.0 whose job that copies from a drive hangs, and has fifteen seconds.
    pub stuck: Release,
    /// The same with the released deadline, which no test waits for.
    pub stuck_for_ever: Release,
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
}
