//! The node's services: their names, who they are and what they may do.
//!
//! Each is this same binary under another `argv[0]`. A service starts with the rights of PID 1 and gives them up
//! in its first lines with [`become_service`]: what it keeps is written in one place, here.

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Reads ahead what the runtime will need first; one shot.
pub const PREFETCH: &str = "prefetch";
/// Parses the machine-config; one shot.
pub const CONFIG: &str = "config";
/// Asks a cloud's metadata server for the machine-config; one shot.
pub const METADATA: &str = "metadata";
/// Links, addresses, routes, resolver.
pub const NET: &str = "net";
/// The operator API, the log ring and the health probe.
pub const CONTROL: &str = "control";
/// Looks at the slots, writes the idle one, keeps or gives up the one that runs; one shot.
pub const SLOTS: &str = "slots";
/// Fetches releases, and decides when one is installed.
pub const UPDATE: &str = "update";
/// Sets up the runtime's namespaces, then becomes the runtime.
pub const AGENT: &str = "agent";

/// User and group id of [`CONFIG`].
pub const CONFIG_ID: u32 = 901;
/// User and group id of [`PREFETCH`].
pub const PREFETCH_ID: u32 = 904;
/// User and group id of [`NET`].
pub const NET_ID: u32 = 902;
/// User and group id of [`CONTROL`].
pub const CONTROL_ID: u32 = 903;
/// User and group id of [`METADATA`].
pub const METADATA_ID: u32 = 905;
/// User and group id of [`UPDATE`].
pub const UPDATE_ID: u32 = 906;
/// User and group id of the part of [`SLOTS`] that has the idle slot written by a foreign program.
pub const INSTALL_ID: u32 = 907;
/// User and group id of the agent runtime.
pub const AGENT_ID: u32 = 1000;

/// File descriptor of the socket to PID 1, in every service.
pub const IPC_FD: i32 = 3;
/// First file descriptor of what only this service is given.
pub const EXTRA_FD: i32 = 4;

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

/// Becomes user and group `id` with the capabilities `keep` and no way to get more.
///
/// The bounding set is emptied but for `keep`, supplementary groups are dropped, the inheritable and ambient sets
/// stay empty, and `no_new_privs` is set. Only for a process with a single thread: credentials are per thread.
pub fn become_service(id: u32, keep: CapabilitySet) -> Result<(), BecomeError> {
    for number in 0..=LAST_CAPABILITY {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if !keep.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(BecomeError::DropBoundingSet)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
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

/// `CAP_CHECKPOINT_RESTORE`, the last capability Linux 6.12 knows.
const LAST_CAPABILITY: u32 = 40;
