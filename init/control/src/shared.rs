//! What every thread of the service may use.

use crate::ring::Ring;
use crate::verdict::Health;
use astromesh_node::ipc_client::Pid1;
use astromesh_settings::ControlConfig;

/// What every thread may use.
pub struct Shared {
    /// What `config` left for this service; `None` when it left nothing.
    pub config: Option<ControlConfig>,
    /// The way to PID 1.
    pub pid1: Pid1,
    /// The recent log.
    pub ring: Ring,
    /// The last verdict on the runtime.
    pub health: Health,
}

/// Stack of a thread, in bytes. A TLS handshake takes about a third of it.
pub const STACK: usize = 256 * 1024;
