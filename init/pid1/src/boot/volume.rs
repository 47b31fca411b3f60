//! Volumes that carry a machine-config: told by their label, mounted read-only for as long as it takes to copy one file.
//!
//! Three kinds, in a written order: our own, and the two that hypervisors and clouds make for cloud-init (NoCloud's
//! `cidata`, OpenStack's `config-2`). The file systems' own code is the kernel's, and what is on the volume is
//! somebody's: nothing on it is followed (no symbolic link, at no step of a path), and a file that is no file can't
//! stop PID 1.
//!
//! Sources: cloud-init's documentation, "NoCloud" and "Config drive".

use super::carry::carry;
use super::config_error::ConfigStageError;
use crate::ground::Ground;
use astromesh_node::volume;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Where one is mounted meanwhile.
const MOUNTED_ON: &CStr = c"/run/drive";

/// A kind of volume.
pub struct Volume {
    /// Its label.
    label: &'static str,
    /// Whether the label may be written in capitals too: FAT knows nothing else, and NoCloud's documentation says so.
    any_case: bool,
    /// The file on it.
    file: &'static CStr,
    /// Whether a volume without that file, or with an empty one, is an error. Those of cloud-init may carry something else only.
    file_required: bool,
    /// What it is called in messages.
    pub name: &'static str,
}

/// The kinds, in the order in which they are tried.
const VOLUMES: [Volume; 3] = [
    Volume {
        label: "ASTROMESH",
        any_case: false,
        file: c"machine-config.yaml",
        file_required: true,
        name: "drive",
    },
    Volume {
        label: "cidata",
        any_case: true,
        file: c"user-data",
        file_required: false,
        name: "drive cidata",
    },
    Volume {
        label: "config-2",
        any_case: true,
        file: c"openstack/latest/user_data",
        file_required: false,
        name: "drive config-2",
    },
];

/// Looks once at every device that is there now. The file's bytes, and where they were. Each device may take seconds not to
/// answer, so the watchdog sees every one of them.
pub fn look(ground: &Ground) -> Result<Option<(&'static Volume, OwnedFd)>, ConfigStageError> {
    let labelled: Vec<_> = volume::devices()
        .into_iter()
        .filter_map(|device| {
            ground.pet();
            let (kind, label) = volume::label_of(&device)?;
            Some((device, kind, VOLUMES.iter().position(|volume| volume.is_labelled(&label))?))
        })
        .collect();
    for (index, volume) in VOLUMES.iter().enumerate() {
        for (device, kind, _) in labelled.iter().filter(|(_, _, of)| *of == index) {
            match read(device, kind, volume.file) {
                Ok(bytes) if !volume.file_required && is_blank(&bytes) => {}
                Ok(bytes) => return Ok(Some((volume, bytes))),
                Err(Errno::NOENT) if !volume.file_required => {}
                Err(cause) => return Err(ConfigStageError::ReadConfig { source_name: volume.name, cause }),
            }
        }
    }
    Ok(None)
}

impl Volume {
    fn is_labelled(&self, label: &[u8]) -> bool {
        label == self.label.as_bytes() || (self.any_case && label.eq_ignore_ascii_case(self.label.as_bytes()))
    }
}

/// Whether a document says nothing: hypervisors write an empty file, or a line's end, where their user gave none. What is
/// longer than a first look is something.
fn is_blank(bytes: &OwnedFd) -> bool {
    let mut start = [0; 64];
    rustix::io::pread(bytes, &mut start, 0).is_ok_and(|count| says_nothing(&start, count))
}

fn says_nothing(start: &[u8; 64], count: usize) -> bool {
    count < start.len() && start[..count].trim_ascii().is_empty()
}

/// Copies one file of the volume on `device`.
fn read(device: &str, kind: &CStr, file: &CStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(MOUNTED_ON, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(cause),
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(device, MOUNTED_ON, kind, flags, None::<&CStr>)?;
    let bytes = open_inside(file).and_then(|file| carry(&file));
    let _ = unmount(MOUNTED_ON, UnmountFlags::DETACH);
    bytes
}

/// Opens what lies on the volume and nowhere else. `NONBLOCK`: a FIFO, which Rock Ridge can make, is then an empty file.
fn open_inside(file: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(MOUNTED_ON, flags, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(&top, file, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name of the row that would take a volume with this label.
    fn taken(label: &str) -> Option<&'static str> {
        VOLUMES.iter().find(|volume| volume.is_labelled(label.as_bytes())).map(|volume| volume.name)
    }

    #[test]
    fn a_file_of_nothing_is_as_if_it_were_not_there() {
        let memory = |bytes: &[u8]| {
            let memory = rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            assert_eq!(rustix::io::write(&memory, bytes), Ok(bytes.len()));
            memory
        };
        for nothing in [&b""[..], b"\n", b" \r\n\t\n"] {
            assert!(is_blank(&memory(nothing)), "{nothing:?}");
        }
        for something in [&b"x"[..], b"\nx", b"\0", &[b' '; 64], &[b"\n".repeat(70), b"x".to_vec()].concat()]
        {
            assert!(!is_blank(&memory(something)), "{something:?}");
        }
        // Ours is made for this node alone: an empty one is a mistake, and named.
        assert!(VOLUMES.iter().all(|volume| volume.file_required == (volume.label == "ASTROMESH")));
    }

    #[test]
    fn a_volume_is_taken_by_its_label_and_no_other() {
        assert_eq!(taken("ASTROMESH"), Some("drive"));
        for (label, name) in [("cidata", "drive cidata"), ("config-2", "drive config-2")] {
            assert_eq!(taken(label), Some(name));
            assert_eq!(taken(&label.to_uppercase()), Some(name));
        }
        // Twins.
        for label in ["BSTROMESH", "ASTROMESH2", "astromesh", "cidata2", "config-1", ""] {
            assert_eq!(taken(label), None);
        }
    }
}
