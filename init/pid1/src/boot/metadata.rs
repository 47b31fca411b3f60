//! Having a cloud's metadata server asked, by the one-shot `metadata` process.
//!
//! Whether there is anything to ask is decided here, from what the firmware says and without the network: a machine
//! whose firmware names no cloud starts no process and waits for nothing. PID 1 reads no answer: the process leaves
//! bytes in memory that PID 1 made, they are copied, bounded, once it has ended, and judged by `config`.

use super::carry::carry;
use super::config_error::ConfigStageError;
use super::one_shot::await_end;
use crate::node::Node;
use crate::supervise::services::make_cgroup;
use astromesh_node::places::EXIT_FOUND;
use astromesh_proto::cloud::{Cloud, DmiFacts};
use astromesh_sys::spawn::{Spawn, spawn};
use rustix::fs::{MemfdFlags, SeekFrom};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long the process may take: its own limit of 20 s, and what an emulated machine needs to start it and to hear of
/// its end. Under the watchdog's, which is fed meanwhile.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

const CGROUP: &CStr = c"/sys/fs/cgroup/metadata";

/// It is one process and stays one, so that nothing of it outlives it. A machine-config has at most 1 MiB.
const LIMITS: &[(&CStr, &[u8])] = &[(c"pids.max", b"1"), (c"memory.max", b"64M")];

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

/// Runs the process to its end, and returns what it left.
pub fn fetch(node: &Node, cloud: Cloud) -> Result<OwnedFd, ConfigStageError> {
    let read = |cause| ConfigStageError::ReadConfig { source_name: cloud.source(), cause };
    let left = rustix::fs::memfd_create(c"metadata", MemfdFlags::CLOEXEC).map_err(read)?;
    let cgroup = make_cgroup(CGROUP, LIMITS)
        .inspect_err(|cause| log::warn!("metadata: no cgroup: {cause}; it runs without limits"))
        .ok();
    log::info!("config: the firmware names {}; asking for it", cloud.source());
    let pid = spawn(&Spawn {
        name: c"metadata",
        argument: Some(cloud.argument()),
        namespaces: 0,
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        fds: &[node.null.as_fd(), left.as_fd(), node.kmsg.as_fd()],
    })
    .map_err(ConfigStageError::StartMetadata)?;
    let code = await_end(node, pid, ENDS_WITHIN);
    drop(cgroup);
    // Empty by now, unless the process had to be killed; then it stays.
    let _ = rustix::fs::rmdir(CGROUP);
    if code != Some(EXIT_FOUND) {
        return Err(ConfigStageError::AskCloud(cloud.source()));
    }
    rustix::fs::seek(&left, SeekFrom::Start(0)).map_err(read)?;
    carry(&left).map_err(read)
}
