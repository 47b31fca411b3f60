//! A power cycle of which every write is written down, to be cut anywhere afterwards.

use super::{Result, Station};
use astromesh_qemu::aftermath::{self, Judge, Survey};
use astromesh_qemu::tamper;
use astromesh_qemu::write_log::{Cut, WriteLog};
use std::fs::File;
use std::path::PathBuf;

impl Station {
    /// From now on the machine's writes are written down. Only while it is off; for one power cycle.
    pub fn record(&mut self) -> Result<Recording> {
        let home = self.directory.path();
        let recording = Recording { before: home.join("before.raw"), log: home.join("writes.log") };
        self.copy_disk(&recording.before)?;
        File::create(&recording.log)?;
        self.log = Some(recording.log.clone());
        Ok(recording)
    }

    /// The disk is what a cut of a recording leaves. Nothing is written down any more.
    pub fn restore(&mut self, recording: &Recording, log: &WriteLog, cut: &Cut) -> Result {
        self.log = None;
        tamper::copy_image(&recording.before, &self.disk)?;
        cut.apply(log, &File::options().read(true).write(true).open(&self.disk)?)?;
        Ok(())
    }
}

/// What was written to a disk, and the disk before.
pub struct Recording {
    before: PathBuf,
    /// The log: see [`WriteLog`].
    pub log: PathBuf,
}

impl Recording {
    /// Looks at every cut.
    pub fn survey(&self, log: &WriteLog, judge: &Judge, seed: u64) -> Result<Survey> {
        let copy = self.before.with_extension("replayed");
        tamper::copy_image(&self.before, &copy)?;
        let disk = File::options().read(true).write(true).open(&copy)?;
        let survey = aftermath::survey(log, disk, judge, seed)?;
        std::fs::remove_file(copy)?;
        Ok(survey)
    }
}
