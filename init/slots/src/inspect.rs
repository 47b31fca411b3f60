//! What is on the disk: the boot loader's own word for what it started, entries, partitions, floor.

use crate::error::SlotsError;
use crate::node::Node;
use astromesh_node::disk::Disk;
use astromesh_node::view::STRICT;
use astromesh_proto::boot_entry::BootEntry;
use astromesh_proto::update::{SLOTS_FILE, SlotPartition, Slots};
use astromesh_proto::version::Version;
use astromesh_release::boot_partition::BootPartition;
use astromesh_release::{entries, floor};
use astromesh_verity::{ROOT_X86_64, ROOT_X86_64_VERITY};
use rustix::mount::{MountFlags, mount};
use std::io;
use std::path::Path;

/// Where the firmware's variables are mounted, in this process's own namespace.
const VARIABLES: &str = "/run/efivars";
/// The Boot Loader Interface's variable for the entry that counts (systemd, "The Boot Loader Interface").
const COUNT_PATH: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The entry that the boot loader started and counts; `None` when it counts none, when there was no boot loader, and when
/// what it says can't be about the release that runs.
pub fn counted_by_the_loader(running: Version) -> Option<BootEntry> {
    let flags = MountFlags::RDONLY | STRICT;
    // A machine without UEFI has no such file system.
    mount(c"efivarfs", VARIABLES, c"efivarfs", flags, c"").ok()?;
    let bytes = std::fs::read(format!("{VARIABLES}/{COUNT_PATH}")).ok()?;
    let entry = BootEntry::from_loader_variable(&bytes).filter(|entry| entry.tries.is_some());
    match entry {
        Some(entry) if entry.version == running => Some(entry),
        Some(entry) => {
            log::warn!(
                "the boot loader says that it counts {entry}, but {running} runs; nothing is blessed by that"
            );
            None
        }
        None => {
            log::warn!("the boot loader counts an entry that is none of ours; nothing is blessed by that");
            None
        }
    }
}

/// The partitions of both slots, in the table's order.
pub fn partitions(disk: &str) -> Vec<SlotPartition> {
    let Some(disk) = Disk::open(disk) else { return Vec::new() };
    let Some(table) = disk.table() else { return Vec::new() };
    let of_a_slot = |kind| kind == ROOT_X86_64 || kind == ROOT_X86_64_VERITY;
    table
        .partitions()
        .filter(|entry| of_a_slot(entry.type_guid))
        .map(|entry| SlotPartition {
            label: entry.name.to_string(),
            number: entry.number,
            partuuid: entry.unique_guid.simple().to_string(),
        })
        .collect()
}

/// Writes down what is there, for those who tell it; whether the release that runs is on trial, by what the boot loader
/// `said` when it started it.
pub fn write_down(
    esp: &mut impl BootPartition,
    node: &Node,
    said: Option<BootEntry>,
) -> Result<bool, SlotsError> {
    let entries = esp.entries()?;
    let counted = entries::on_trial(&entries, node.running, said);
    let slots = Slots {
        running: node.running,
        counted,
        entries,
        partitions: partitions(&node.disk),
        floor: floor::read(Path::new(floor::FILE)),
    };
    write(&slots).map_err(|cause| SlotsError::WriteDown { path: SLOTS_FILE, cause })?;
    Ok(counted.is_some())
}

fn write(slots: &Slots) -> io::Result<()> {
    let fresh = format!("{SLOTS_FILE}.new");
    std::fs::write(&fresh, serde_json::to_vec(slots)?)?;
    std::fs::rename(fresh, SLOTS_FILE)
}
