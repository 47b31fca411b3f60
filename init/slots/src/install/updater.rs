//! `systemd-sysupdate`, started: the one foreign program that writes to the disk.

use super::error::InstallError;
use super::view::STAGED;
use crate::esp::{Esp, MOUNTED_ON};
use crate::node::Node;
use crate::transfers::{DEFINITIONS, Places, SYSUPDATE, definitions};
use astromesh_proto::boot_entry::FOLDER;
use astromesh_release::staged::Candidate;
use std::path::Path;
use std::process::{Command, Stdio};

/// Has a release written into the idle slot. That there is an [`Esp`] shows that the boot partition is mounted: the updater
/// would make the folder of boot entries wherever it is told.
pub fn write(node: &Node, candidate: &Candidate, _mounted: &Esp) -> Result<(), InstallError> {
    let disk = format!("/dev/{}", node.disk);
    let entries = format!("{MOUNTED_ON}/{FOLDER}");
    let places = Places { disk: &disk, stage: STAGED, entries: &entries, running: node.running };
    let _ = std::fs::remove_dir_all(DEFINITIONS);
    std::fs::create_dir(DEFINITIONS).map_err(InstallError::WriteDefinitions)?;
    for (name, text) in definitions(&places) {
        std::fs::write(Path::new(DEFINITIONS).join(name), text).map_err(InstallError::WriteDefinitions)?;
    }
    let status = Command::new(SYSUPDATE)
        .args([&format!("--definitions={DEFINITIONS}"), "update"])
        .arg(candidate.version.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .status()
        .map_err(InstallError::Start)?;
    if status.success() { Ok(()) } else { Err(InstallError::Write(status)) }
}
