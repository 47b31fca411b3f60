//! Room for a release: its slot, its boot entry, and the entry of an earlier try that would be in its way.

use super::error::InstallError;
use crate::error::SlotsError;
use crate::esp::{Esp, MOUNTED_ON};
use crate::node::Node;
use astromesh_node::disk::Disk;
use astromesh_oci::Kind;
use astromesh_release::boot_partition::BootPartition as _;
use astromesh_release::staged::Candidate;

/// That everything fits, before anything is written.
pub fn fits(node: &Node, candidate: &Candidate) -> Result<(), InstallError> {
    let disk = Disk::open(&node.disk);
    let table = disk.as_ref().and_then(Disk::table);
    let room = |kind| {
        let sector = disk.as_ref().map_or(512, |disk| disk.sector_size.bytes() as u64);
        let slots = table.iter().flat_map(astromesh_verity::Gpt::partitions);
        slots.filter(|entry| entry.type_guid == kind).map(|entry| entry.sectors() * sector).min().unwrap_or(0)
    };
    let has_place = |what, kind: Kind, room| {
        let needed = candidate.layer(kind).size;
        if needed <= room { Ok(()) } else { Err(InstallError::FitSlot { what, needed, room }) }
    };
    has_place("root", Kind::Root, room(astromesh_verity::ROOT_X86_64))?;
    has_place("hash tree", Kind::Verity, room(astromesh_verity::ROOT_X86_64_VERITY))?;
    let free = rustix::fs::statvfs(MOUNTED_ON).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    has_place("kernel image", Kind::Uki, free)
}

/// Takes away an entry of this release that has no tries left: to the updater it would count as installed, and nothing
/// would be done. What its slot holds is written again, or left where it is whole.
pub fn forget_failed(candidate: &Candidate, esp: &mut Esp) -> Result<(), SlotsError> {
    for entry in esp.entries()? {
        if entry.version == candidate.version && !entry.is_bootable() {
            esp.remove(&entry)?;
            log::info!("{entry} is tried once more");
        }
    }
    Ok(())
}
