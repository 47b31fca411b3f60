//! A machine put aside while it runs, and machines that go on from there.
//!
//! It exists for tests whose subject isn't the boot: a node is booted once, and each of them goes on from the moment at
//! which it was healthy. What is kept is the memory, the devices and the firmware's variables; a disk is the caller's to
//! copy, once [`Vm::save`] has returned and before anything goes on.
//!
//! The machine that goes on must be described as the first was: QEMU refuses other devices, but not another network
//! behind the card, other forwarded ports or another disk image, and so each copy has its own. The guest's clock goes on
//! from the moment of the snapshot.

use crate::builder::{FIRMWARE_VARIABLES, VmBuilder};
use crate::vm::{Vm, VmError};
use qapi::qmp::{MigrationStatus, migrate, query_migrate, stop};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file with memory and devices.
const MEMORY: &str = "memory";

/// A guest of 1 GiB, most of it never touched, is written in two seconds; this is for a busy host.
const LIMIT: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

/// A machine that was put aside, in a folder.
#[derive(Debug, Clone)]
pub struct Snapshot(PathBuf);

impl Snapshot {
    /// The one that [`Vm::save`] left in `place`.
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

impl Vm {
    /// Stops the machine for good and keeps it in the folder `place`. When this returns, nothing writes to its disks any
    /// more.
    pub fn save(mut self, place: &Path) -> Result<Snapshot, VmError> {
        let snapshot = Snapshot(place.to_owned());
        self.qmp().execute(stop {})?;
        let uri = Some(format!("file:{}", snapshot.memory().display()));
        self.qmp().execute(migrate { channels: None, detach: None, resume: None, uri })?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let report = self.qmp().execute(query_migrate {})?;
            match report.status {
                Some(MigrationStatus::completed) => break,
                Some(MigrationStatus::failed | MigrationStatus::cancelled) => {
                    return Err(VmError::Save { why: report.error_desc.unwrap_or_default() });
                }
                _ if Instant::now() > deadline => {
                    return Err(VmError::Save { why: format!("it took more than {LIMIT:?}") });
                }
                _ => std::thread::sleep(LOOK),
            }
        }
        let variables = self.directory().join(FIRMWARE_VARIABLES);
        if variables.is_file() {
            let copied = fs::copy(&variables, snapshot.firmware_variables());
            copied.map_err(|source| VmError::PrepareFile { path: variables, source })?;
        }
        self.quit()?;
        self.wait_exit(LIMIT)?;
        Ok(snapshot)
    }

    /// Waits until a machine that goes on from a snapshot has read it.
    pub(crate) fn await_memory(&self) -> Result<(), VmError> {
        let deadline = Instant::now() + LIMIT;
        while self.status()? == "inmigrate" {
            if Instant::now() > deadline {
                return Err(VmError::Resume { limit: LIMIT });
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl VmBuilder {
    /// Goes on from a snapshot of a machine that was described like this one, instead of booting.
    pub fn resume(mut self, snapshot: &Snapshot) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }
}
