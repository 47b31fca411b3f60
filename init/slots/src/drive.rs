//! Taking a release from a drive, for a node that no network reaches: copies the OCI image layout of a volume labelled
//! `ASTROUPDATE` to where the `update` service can read it.
//!
//! Nothing is looked into here: a bounded number of bytes with plain names, as the user that will read them, once the
//! volume is mounted. What they are worth is decided by the signature, as it is with a registry.

use astromesh_node::service::{self, BecomeError};
use astromesh_node::view::STRICT;
use astromesh_node::{process, volume};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The volume's label: eleven characters, as many as FAT has.
const LABEL: &[u8] = b"ASTROUPDATE";
/// Where it is mounted, in this process's own namespace; made by PID 1.
const MOUNTED_ON: &CStr = c"/run/esp";
/// Where it is copied to.
const INTO: &str = "/var/lib/update/drive";
/// Most bytes copied: a release has some 40 MB, a drive may hold several.
const MOST_BYTES: u64 = 512 << 20;
/// Most files copied.
const MOST_FILES: usize = 256;

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// There is no such volume.
    #[error("no drive is labelled ASTROUPDATE; attach one with an OCI image layout in its top folder")]
    Find,
    /// It can't be mounted.
    #[error("the drive {device} can't be mounted: {cause}")]
    Mount {
        /// Its device.
        device: String,
        /// Why.
        cause: Errno,
    },
    /// Rights could not be given up.
    #[error("rights could not be given up: {0}")]
    GiveUpRights(#[from] BecomeError),
    /// It can't be copied.
    #[error("{file} of the drive can't be copied: {cause}")]
    Copy {
        /// Which file.
        file: String,
        /// Why.
        cause: io::Error,
    },
}

/// Copies the layout.
pub fn take() -> Result<(), DriveError> {
    let found = volume::devices().into_iter().find_map(|device| {
        let (kind, label) = volume::label_of(&device)?;
        (label == LABEL).then_some((device, kind))
    });
    let (device, kind) = found.ok_or(DriveError::Find)?;
    let failed = |cause| DriveError::Mount { device: device.clone(), cause };
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed)?;
    let flags = MountFlags::RDONLY | STRICT;
    mount(device.as_str(), MOUNTED_ON, kind, flags, None::<&CStr>).map_err(failed)?;
    // The mount point's own mode keeps others out; the volume's root has another.
    service::become_service(process::UPDATE)?;
    copy().map_err(|(file, cause)| DriveError::Copy { file, cause })
}

fn copy() -> Result<(), (String, io::Error)> {
    let at = |file: &str| {
        let file = file.to_owned();
        move |cause| (file, cause)
    };
    match std::fs::remove_dir_all(INTO) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(INTO)(error)),
        _ => {}
    }
    std::fs::create_dir_all(Path::new(INTO).join("blobs/sha256")).map_err(at(INTO))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(MOUNTED_ON, flags, Mode::empty()).map_err(|cause| at("/")(cause.into()))?;
    let mut left = MOST_BYTES;
    for file in ["oci-layout", "index.json"] {
        left = one(&top, file, left).map_err(at(file))?;
    }
    let blobs = Path::new(MOUNTED_ON.to_str().unwrap_or_default()).join("blobs/sha256");
    let names = std::fs::read_dir(blobs).map_err(at("blobs/sha256"))?;
    let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_digest = |name: &String| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for name in names.filter(is_digest).take(MOST_FILES) {
        let file = format!("blobs/sha256/{name}");
        left = one(&top, &file, left).map_err(at(&file))?;
    }
    Ok(())
}

/// Copies one file of the volume; how many bytes may still be copied.
fn one(top: &OwnedFd, file: &str, left: u64) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let source = File::from(rustix::fs::openat2(top, file, flags, Mode::empty(), resolve)?);
    let mut target = File::create(Path::new(INTO).join(file))?;
    let copied = io::copy(&mut source.take(left.saturating_add(1)), &mut target)?;
    left.checked_sub(copied).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
