//! Having a cloud's metadata server asked, by the job `metadata`.
//!
//! Whether there is anything to ask is decided here, from what the firmware says and without the network: a machine
//! whose firmware names no cloud starts no process and waits for nothing. PID 1 reads no answer: the process leaves
//! bytes in memory that PID 1 made, they are copied, bounded, once it has ended, and read by `config`.

use super::config_error::ConfigStageError;
use crate::ground::Ground;
use crate::job::{self, End};
use crate::late::{self, METADATA};
use astromesh_node::places::EXIT_FOUND;
use astromesh_proto::cloud::{Cloud, DmiFacts};
use std::os::fd::{AsFd, OwnedFd};

/// The cloud that the firmware names.
pub fn cloud() -> Option<Cloud> {
    let fact = |file: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/dmi/id/{file}")).unwrap_or_default();
        text.trim().to_owned()
    };
    Cloud::recognise(&DmiFacts {
        sys_vendor: fact("sys_vendor"),
        product_name: fact("product_name"),
        chassis_asset_tag: fact("chassis_asset_tag"),
        bios_vendor: fact("bios_vendor"),
    })
}

/// Runs the job to its end, and returns what it left.
pub fn fetch(ground: &Ground, cloud: Cloud) -> Result<OwnedFd, ConfigStageError> {
    let read = |cause| ConfigStageError::ReadConfig { source_name: cloud.source(), cause };
    let left = late::answer().map_err(read)?;
    log::info!("config: the firmware names {}; asking for it", cloud.source());
    let streams = [ground.null.as_fd(), left.as_fd()];
    match job::run(&METADATA, Some(cloud.argument()), streams, ground)
        .map_err(ConfigStageError::StartMetadata)?
    {
        (End::Code(EXIT_FOUND), _) => {}
        (_, reason) => return Err(ConfigStageError::AskCloud { source_name: cloud.source(), reason }),
    }
    late::taken(&left).map_err(read)
}
