//! What a process sees of the machine: a mount namespace built from nothing but what is named.
//!
//! The root below is EROFS on dm-verity, read-only by nature. Over it come small memory file systems, so that neither
//! other services' files in `/run` nor the kernel's knobs in `/sys` are even there; then trees of the machine that are let
//! through, one by one; then devices, one by one. A view is a value, so that what a process sees can be read in one
//! place. A step that fails is an error: nobody starts in half a view.

use rustix::fs::{CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount,
    move_mount, open_tree,
};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Why a view could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Mounts of the machine would see ours.
    #[error("mounts could not be made private: {0}")]
    MakePrivate(Errno),
    /// A tree that is needed is not there.
    #[error("{path} can't be taken into the view: {cause}")]
    TakeTree {
        /// The tree.
        path: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A memory file system could not be mounted, or a mount point not be made.
    #[error("{path} can't be mounted in the view: {cause}")]
    Mount {
        /// Where.
        path: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A device could not be made.
    #[error("/dev/{name} can't be made in the view: {cause}")]
    MakeDevice {
        /// Which.
        name: String,
        /// Why.
        cause: Errno,
    },
}

/// No device, nothing set-user-id, nothing executable.
pub const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// For `/dev`: devices must work there; that nothing else is one is seen to by sealing it.
pub const DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// A memory file system.
pub struct Memory {
    /// Where.
    pub on: &'static CStr,
    /// How.
    pub flags: MountFlags,
    /// Mode and size, as tmpfs(5) has them.
    pub data: &'static CStr,
    /// Made read-only once it is filled.
    pub sealed: bool,
}

/// A tree of the machine that is let through.
pub struct Tree {
    /// Where it is.
    pub from: &'static CStr,
    /// Where it will be.
    pub to: &'static CStr,
    /// Whether it may be written to.
    pub writable: bool,
}

/// A device node.
pub struct Device {
    /// Its name below `/dev`.
    pub name: String,
    /// Block or character device.
    pub kind: FileType,
    /// Who may do what.
    pub mode: u32,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Whose it is: user and group id.
    pub owner: u32,
}

impl Device {
    /// One of the harmless character devices of Documentation/admin-guide/devices.txt.
    pub fn memory(name: &str, minor: u32) -> Self {
        Self {
            name: name.to_owned(),
            kind: FileType::CharacterDevice,
            mode: 0o666,
            number: (1, minor),
            owner: 0,
        }
    }
}

/// A view to be.
pub struct View<'a> {
    /// Memory file systems, in the order in which they are mounted.
    pub memory: &'a [Memory],
    /// Directories made in them, parents first.
    pub directories: &'a [&'static CStr],
    /// Trees that are let through.
    pub trees: &'a [Tree],
    /// Device nodes.
    pub devices: &'a [Device],
    /// Mount options of a `/proc` of its own: the process must be in a pid namespace of its own.
    pub proc: &'static CStr,
}

/// Most trees in one view.
const MOST_TREES: usize = 8;

impl View<'_> {
    /// Makes the view. The process must be in a mount namespace of its own, with the right to mount.
    pub fn build(&self) -> Result<(), ViewError> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(c"/", private).map_err(ViewError::MakePrivate)?;

        // Held by descriptor while what they hang from disappears under new mounts.
        let mut trees = heapless::Vec::<(OwnedFd, &Tree), MOST_TREES>::new();
        for tree in self.trees {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let take = |cause| ViewError::TakeTree { path: text(tree.from), cause };
            let held = open_tree(CWD, tree.from, flags).map_err(take)?;
            trees.push((held, tree)).map_err(|_| take(Errno::NOBUFS))?;
        }
        for memory in self.memory {
            mount(c"tmpfs", memory.on, c"tmpfs", memory.flags, memory.data)
                .map_err(|cause| ViewError::Mount { path: text(memory.on), cause })?;
        }
        for path in self.directories {
            rustix::fs::mkdir(*path, Mode::from_raw_mode(0o755))
                .map_err(|cause| ViewError::Mount { path: text(path), cause })?;
        }
        for (held, tree) in &trees {
            let take = |cause| ViewError::TakeTree { path: text(tree.to), cause };
            move_mount(held, c"", CWD, tree.to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(take)?;
            if !tree.writable {
                mount_remount(tree.to, MountFlags::BIND | MountFlags::RDONLY | STRICT, c"").map_err(take)?;
            }
        }
        for device in self.devices {
            device.make().map_err(|cause| ViewError::MakeDevice { name: device.name.clone(), cause })?;
        }
        for memory in self.memory.iter().filter(|memory| memory.sealed) {
            mount_remount(memory.on, memory.flags | MountFlags::RDONLY, memory.data)
                .map_err(|cause| ViewError::Mount { path: text(memory.on), cause })?;
        }
        // Last, because until now paths went through the machine's own: only the processes of this namespace.
        mount(c"proc", c"/proc", c"proc", STRICT, self.proc)
            .map_err(|cause| ViewError::Mount { path: "/proc", cause })
    }
}

impl Device {
    fn make(&self) -> Result<(), Errno> {
        let path = format!("/dev/{}", self.name);
        let mode = Mode::from_raw_mode(self.mode);
        let (major, minor) = self.number;
        rustix::fs::mknodat(CWD, &path, self.kind, mode, rustix::fs::makedev(major, minor))?;
        rustix::fs::chown(&path, Some(Uid::from_raw(self.owner)), Some(Gid::from_raw(self.owner)))?;
        // The umask of PID 1 may have taken bits away.
        rustix::fs::chmod(&path, mode)
    }
}

fn text(path: &'static CStr) -> &'static str {
    path.to_str().unwrap_or_default()
}
