//! Putting a machine aside while it runs.
//!
//! QEMU's migration does it, into a file. The machine ends with it: two that go on from one moment and write to one disk
//! would destroy it.

use crate::snapshot::{FIRMWARE_VARIABLES, Snapshot};
use crate::vm::{Vm, VmError};
use qapi::qmp::{MigrationStatus, migrate, query_migrate, stop};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A guest of 1 GiB, most of it never touched, is written in two seconds; this is for a busy host.
const LIMIT: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

impl Vm {
    /// Stops the machine for good and keeps it in the folder `place`. When this returns, nothing writes to its disks any
    /// more.
    pub fn save(mut self, place: &Path) -> Result<Snapshot, VmError> {
        let snapshot = Snapshot::in_folder(place);
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
}
