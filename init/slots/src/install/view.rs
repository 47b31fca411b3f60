//! What the installer sees: the verified root, the staged files and the keys read-only, this disk's device nodes, the boot
//! partition, and its own folder.
//!
//! No state, no secret, no network: `systemd-sysupdate` is a foreign program, and writes as the user that this view is for.

use crate::error::SlotsError;
use crate::esp::MOUNTED_ON;
use astromesh_node::disk::{self, Disk};
use astromesh_node::places::KEYS_FOLDER;
use astromesh_node::process::INSTALL;
use astromesh_node::view::{DEVICES, Device, Memory, STRICT, Tree, View};
use astromesh_release::boot_partition::EspError;
use rustix::fs::FileType;
use rustix::mount::mount;
use std::ffi::{CStr, CString};

/// Where staged files are, in this view.
pub const STAGED: &str = "/run/stage";
/// Where the public keys are, in this view.
pub const TRUSTED: &str = "/run/keys";
/// Where the floor is, in this view.
pub const FLOOR: &str = "/run/floor/floor";

const MEMORY: &[Memory] = &[
    Memory { on: c"/run", flags: STRICT, data: c"mode=0755,size=64k", sealed: false },
    Memory { on: c"/var", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/dev", flags: DEVICES, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/tmp", flags: STRICT, data: c"mode=1777,size=64k", sealed: true },
];

const DIRECTORIES: &[&CStr] = &[c"/run/stage", c"/run/keys", c"/run/floor", c"/run/install", c"/run/esp"];

const TREES: &[Tree] = &[
    Tree { from: c"/var/lib/update/stage", to: c"/run/stage", writable: false },
    Tree { from: KEYS_FOLDER, to: c"/run/keys", writable: false },
    Tree { from: c"/var/lib/node", to: c"/run/floor", writable: false },
    Tree { from: c"/run/install", to: c"/run/install", writable: true },
    Tree { from: c"/sys", to: c"/sys", writable: false },
];

/// Builds the view around the disk that the node runs from, and mounts its boot partition.
pub fn build(disk: &str) -> Result<(), SlotsError> {
    let devices = devices(disk).ok_or(SlotsError::FindDisk)?;
    // Looked for before the view is built: all that is seen of the disk afterwards are these nodes.
    let esp = esp_device(disk).ok_or(SlotsError::FindDisk)?;
    View { memory: MEMORY, directories: DIRECTORIES, trees: TREES, devices: &devices, proc: c"" }.build()?;
    mount_esp(&esp).map_err(|cause| EspError::Mount { device: esp.clone(), cause })?;
    Ok(())
}

/// This disk and its partitions, and what every program may read.
fn devices(disk: &str) -> Option<Vec<Device>> {
    let number = |path: String| -> Option<(u32, u32)> {
        let text = std::fs::read_to_string(path).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let owner = INSTALL.id;
    let block =
        |name: String, number| Device { name, kind: FileType::BlockDevice, mode: 0o600, number, owner };
    let mut devices = vec![
        Device::memory("null", 3),
        Device::memory("urandom", 9),
        Device::memory("random", 8),
        block(disk.to_owned(), number(format!("/sys/block/{disk}/dev"))?),
    ];
    for partition in Disk::open(disk)?.table()?.partitions() {
        let device = disk::by_number(disk, partition.number)?.device;
        let name = device.file_name()?.to_str()?.to_owned();
        let number = number(format!("/sys/class/block/{name}/dev"))?;
        devices.push(block(name, number));
    }
    Some(devices)
}

fn esp_device(disk: &str) -> Option<String> {
    let found = disk::find(disk, |entry| entry.type_guid == disk::TYPE_ESP)?;
    Some(found.device.to_string_lossy().into_owned())
}

fn mount_esp(device: &str) -> rustix::io::Result<()> {
    let source = CString::new(device).map_err(|_| rustix::io::Errno::INVAL)?;
    let owner = INSTALL.id;
    let options = format!("uid={owner},gid={owner},fmask=0177,dmask=0077,errors=remount-ro");
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount(source.as_c_str(), MOUNTED_ON, c"vfat", STRICT, options.as_c_str())
}
