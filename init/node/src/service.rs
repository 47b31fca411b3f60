//! How a process of the node becomes what its row in the table says it is.
//!
//! Each is this same binary under another `argv[0]`. It starts with the rights of PID 1 and gives them up in its first
//! lines with [`become_service`]; what it keeps stands in its row ([`crate::process`]) and nowhere else.

use crate::process::{LAST_CAPABILITY, Process};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Why a service could not give up what it must not keep.
#[derive(Debug, thiserror::Error)]
pub enum BecomeError {
    /// a capability could not be dropped from the bounding set
    #[error("a capability could not be dropped from the bounding set: {0}")]
    DropBoundingSet(rustix::io::Errno),
    /// user or groups could not be changed
    #[error("the user or the groups could not be changed: {0}")]
    ChangeUser(rustix::io::Errno),
    /// capabilities could not be set
    #[error("the capabilities could not be set: {0}")]
    SetCapabilities(rustix::io::Errno),
    /// `no_new_privs` could not be set
    #[error("no_new_privs could not be set: {0}")]
    NoNewPrivileges(rustix::io::Errno),
}

/// Becomes the user and group of `process` with the capabilities that it keeps and no way to get more.
///
/// The bounding set is emptied but for those, supplementary groups are dropped, the inheritable and ambient sets
/// stay empty, and `no_new_privs` is set. Only for a process with a single thread: credentials are per thread.
pub fn become_service(process: &Process) -> Result<(), BecomeError> {
    let keep = process.capabilities();
    for number in 0..=LAST_CAPABILITY {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if !keep.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(BecomeError::DropBoundingSet)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(process.id), Gid::from_raw(process.id));
    rustix::thread::set_thread_groups(&[]).map_err(BecomeError::ChangeUser)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(BecomeError::ChangeUser)?;
    rustix::thread::set_keep_capabilities(true).map_err(BecomeError::ChangeUser)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(BecomeError::ChangeUser)?;
    rustix::thread::set_keep_capabilities(false).map_err(BecomeError::ChangeUser)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() },
    )
    .map_err(BecomeError::SetCapabilities)?;
    rustix::thread::set_no_new_privs(true).map_err(BecomeError::NoNewPrivileges)
}
