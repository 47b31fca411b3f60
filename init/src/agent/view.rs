//! What the runtime sees: a mount namespace built from nothing but what is named here.
//!
//! The root below is EROFS on dm-verity, read-only by nature. Over it come small memory file systems, so that
//! neither other services' files in `/run` nor the kernel's knobs in `/sys` are even there.

use crate::service;
use rustix::fs::{CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount,
    move_mount, open_tree,
};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Why the view could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Mounts of the machine would see ours.
    #[error("mounts could not be made private: {0}")]
    MakePrivate(Errno),
    /// A tree that the runtime needs is not there.
    #[error("{path} can't be taken into the runtime's view: {cause}")]
    TakeTree {
        /// The tree.
        path: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A memory file system could not be mounted.
    #[error("{path} can't be mounted in the runtime's view: {cause}")]
    Mount {
        /// Where.
        path: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A device could not be made.
    #[error("/dev/{name} can't be made in the runtime's view: {cause}")]
    MakeDevice {
        /// Which.
        name: &'static str,
        /// Why.
        cause: Errno,
    },
}

/// A memory file system of the view.
struct Memory {
    on: &'static CStr,
    flags: MountFlags,
    data: &'static CStr,
    /// Made read-only once it is filled.
    sealed: bool,
}

const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

const MEMORY: &[Memory] = &[
    Memory { on: c"/run", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/var", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/sys", flags: STRICT, data: c"mode=0555,size=4k", sealed: true },
    // Devices must work here; that nothing else is one is seen to by sealing it.
    Memory {
        on: c"/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: c"mode=0755,size=64k",
        sealed: true,
    },
    Memory { on: c"/tmp", flags: STRICT, data: c"mode=1777,size=25%", sealed: false },
];

/// Trees of the machine that are let through: from where, to where.
const TREES: &[(&CStr, &CStr)] = &[
    (c"/run/net", c"/run/net"),
    (c"/run/config/agent", c"/run/agent"),
    (c"/var/lib/astromesh", c"/var/lib/astromesh"),
];

/// Devices, with the major and minor numbers of Documentation/admin-guide/devices.txt.
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// Directories made before trees are moved in.
const DIRECTORIES: &[&CStr] = &[c"/run/net", c"/run/agent", c"/var/lib", c"/var/lib/astromesh", c"/dev/shm"];

/// Makes the view. The process must be in a mount namespace of its own, as root.
pub fn build() -> Result<(), ViewError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).map_err(ViewError::MakePrivate)?;

    // Held by descriptor while what they hang from disappears under new mounts.
    let mut trees = heapless::Vec::<(OwnedFd, &CStr), 4>::new();
    for &(from, to) in TREES {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree =
            open_tree(CWD, from, flags).map_err(|cause| ViewError::TakeTree { path: text(from), cause })?;
        // Can't overflow: as many as TREES.
        let _ = trees.push((tree, to));
    }
    for memory in MEMORY {
        mount(c"tmpfs", memory.on, c"tmpfs", memory.flags, memory.data)
            .map_err(|cause| ViewError::Mount { path: text(memory.on), cause })?;
    }
    for path in DIRECTORIES {
        rustix::fs::mkdir(*path, Mode::from_raw_mode(0o755))
            .map_err(|cause| ViewError::Mount { path: text(path), cause })?;
    }
    for (tree, to) in &trees {
        move_mount(tree, c"", CWD, *to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|cause| ViewError::TakeTree { path: text(to), cause })?;
    }
    make_devices()?;
    for memory in MEMORY.iter().filter(|memory| memory.sealed) {
        mount_remount(memory.on, memory.flags | MountFlags::RDONLY, memory.data)
            .map_err(|cause| ViewError::Mount { path: text(memory.on), cause })?;
    }
    // Shared memory, for libraries that ask for it.
    mount(c"tmpfs", c"/dev/shm", c"tmpfs", STRICT, c"mode=1777,size=16m")
        .map_err(|cause| ViewError::Mount { path: "/dev/shm", cause })?;
    // Last, because until now paths went through the machine's own: only the processes of this namespace.
    mount(c"proc", c"/proc", c"proc", STRICT, c"hidepid=invisible")
        .map_err(|cause| ViewError::Mount { path: "/proc", cause })
}

fn make_devices() -> Result<(), ViewError> {
    for &(name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, rustix::fs::makedev(major, minor))
            // The umask of PID 1 may have taken bits away.
            .and_then(|()| rustix::fs::chmod(&path, mode))
            .map_err(|cause| ViewError::MakeDevice { name, cause })?;
    }
    let owner = (Some(Uid::from_raw(service::AGENT_ID)), Some(Gid::from_raw(service::AGENT_ID)));
    rustix::fs::chown(c"/dev/shm", owner.0, owner.1)
        .map_err(|cause| ViewError::MakeDevice { name: "shm", cause })
}

fn text(path: &'static CStr) -> &'static str {
    path.to_str().unwrap_or_default()
}
