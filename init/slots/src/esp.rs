//! The node's boot partition, mounted.
//!
//! What is to be changed, and in which order, is decided by `astromesh_release::entries`; this module has the kernel do it.

use astromesh_node::disk;
use astromesh_node::view::STRICT;
use astromesh_proto::boot_entry::{BootEntry, FOLDER};
use astromesh_release::boot_partition::{BootPartition, EspError};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// Where it is mounted, in this process's own namespace.
pub const MOUNTED_ON: &str = "/run/esp";

/// The node's own, mounted.
pub struct Esp {
    folder: OwnedFd,
}

impl Esp {
    /// Mounts the boot partition of a disk. The process must be in a mount namespace of its own.
    pub fn mount(disk: &str, writable: bool) -> Result<Self, EspError> {
        let partition = disk::find(disk, |entry| entry.type_guid == disk::TYPE_ESP)
            .ok_or_else(|| EspError::Find(disk.to_owned()))?;
        let device = partition.device.to_string_lossy().into_owned();
        let failed = |cause| EspError::Mount { device: device.clone(), cause };
        let source = CString::new(device.as_bytes()).map_err(|_| failed(Errno::INVAL))?;
        let mut flags = STRICT;
        if writable {
            // Names are written out as they change, not when the kernel finds time for it.
            flags |= MountFlags::DIRSYNC;
        } else {
            flags |= MountFlags::RDONLY;
        }
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).map_err(failed)?;
        mount(source.as_c_str(), MOUNTED_ON, c"vfat", flags, c"umask=0077,errors=remount-ro")
            .map_err(failed)?;
        Self::at_mount_point()
    }

    /// The one that is mounted already.
    pub fn at_mount_point() -> Result<Self, EspError> {
        let path = format!("{MOUNTED_ON}/{FOLDER}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|cause| EspError::List(cause.into()))?;
        Ok(Self { folder })
    }
}

/// Least bytes of a kernel image: less is what power left of one. Linux renames on FAT by writing the new name with no
/// content first, then its content's place (vfat_rename() in fs/fat/namei_vfat.c); between the two lies a file of no bytes.
/// The boot loader passes it over, and so does everything here.
const LEAST: u64 = 1 << 20;

impl Esp {
    /// Takes away what power left of entries.
    pub fn clean(&self) -> Result<(), EspError> {
        for (entry, size) in Self::listed()? {
            if size < LEAST {
                log::warn!("{entry} has {size} bytes: power failed while it was written; it is taken away");
                self.remove(&entry)?;
            }
        }
        Ok(())
    }

    /// Our entries with their files' sizes, whole or not.
    fn listed() -> Result<Vec<(BootEntry, u64)>, EspError> {
        let listed = std::fs::read_dir(format!("{MOUNTED_ON}/{FOLDER}")).map_err(EspError::List)?;
        let mut found = Vec::new();
        for file in listed {
            let file = file.map_err(EspError::List)?;
            if let Some(entry) = file.file_name().to_str().and_then(BootEntry::parse) {
                found.push((entry, file.metadata().map_err(EspError::List)?.len()));
            }
        }
        Ok(found)
    }

    /// Takes an entry away.
    pub fn remove(&self, entry: &BootEntry) -> Result<(), EspError> {
        rustix::fs::unlinkat(&self.folder, entry.to_string(), AtFlags::empty())
            .map_err(|cause| EspError::Remove { entry: *entry, cause: cause.into() })
    }
}

impl BootPartition for Esp {
    fn entries(&mut self) -> Result<Vec<BootEntry>, EspError> {
        let whole = Self::listed()?.into_iter().filter(|(_, size)| *size >= LEAST);
        let mut entries: Vec<_> = whole.map(|(entry, _)| entry).collect();
        // Newest first; of one release the blessed entry before one that counts.
        entries.sort_unstable_by(|one, two| two.version.cmp(&one.version).then(one.tries.cmp(&two.tries)));
        Ok(entries)
    }

    fn rename(&mut self, from: &BootEntry, to: &BootEntry) -> Result<(), EspError> {
        rustix::fs::renameat(&self.folder, from.to_string(), &self.folder, to.to_string())
            .map_err(|cause| EspError::Rename { from: *from, to: *to, cause: cause.into() })
    }

    fn sync(&mut self) -> Result<(), EspError> {
        rustix::fs::syncfs(&self.folder).map_err(|cause| EspError::Sync(cause.into()))
    }
}
