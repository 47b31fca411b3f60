//! A job's side of its contract with PID 1: where it leaves its reason when it fails.
//!
//! PID 1 gives each job a piece of memory, which it reads once the job has ended. So a reason needs no file that a job could
//! forget, that another could read for its own, or that must be writable for whoever the job has become by then.

use crate::inherited::{Inherited, NotGiven};
use astromesh_proto::ipc::MAX_REASON;
use std::os::fd::OwnedFd;

/// Where this job leaves its reason.
#[derive(Debug)]
pub struct Reason(OwnedFd);

impl Reason {
    /// Takes it over, at the start of the job's `main`. What the job starts itself doesn't get it.
    pub fn take(inherited: &mut Inherited) -> Result<Self, NotGiven> {
        inherited.reason().map(Self)
    }

    /// Leaves the reason, instead of an earlier one. What is too long is cut; PID 1 reads no more.
    pub fn leave(&self, text: &str) {
        let text = astromesh_proto::ipc::cut::<MAX_REASON>(text);
        let _ = rustix::fs::ftruncate(&self.0, 0);
        if let Err(cause) = rustix::io::pwrite(&self.0, text.as_bytes(), 0) {
            log::warn!("the reason can't be left for PID 1: {cause}");
        }
    }
}
