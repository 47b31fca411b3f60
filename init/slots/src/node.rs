//! The node, as far as this process must know it.

use crate::error::SlotsError;
use astromesh_node::places::DISK_FILE;
use astromesh_proto::version::Version;
use astromesh_release::running::running_version;

/// What must be known of the node before anything else.
pub struct Node {
    /// The release that runs.
    pub running: Version,
    /// The disk that the root is on, as in `/sys/block`.
    pub disk: String,
}

impl Node {
    /// Reads both.
    pub fn read() -> Result<Self, SlotsError> {
        let disk = std::fs::read_to_string(DISK_FILE).map_err(|_| SlotsError::FindDisk)?;
        Ok(Self { running: running_version().ok_or(SlotsError::ReadVersion)?, disk })
    }
}
