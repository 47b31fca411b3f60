//! The first stage: a log to write to, a watchdog over us, the kernel's file systems, a few settings.
//!
//! Mount flags are as tight as each tree allows. Nothing here reads anything from outside the kernel.

use super::directory;
use super::stage::{Report, StageError};
use super::timeline::{Moment, Timeline};
use crate::ground::Groundwork;
use astromesh_node::twin::{self, Twin};
use astromesh_node::view::STRICT;
use astromesh_node::{log_sink, process};
use astromesh_proto::control::StageOutcome;
use astromesh_proto::ipc;
use astromesh_sys::kernel_file::write_file;
use astromesh_sys::watchdog::{TIMEOUT_SECONDS, Watchdog};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Why the first stage failed.
#[derive(Debug, thiserror::Error)]
pub enum EarlyError {
    /// A file system of the kernel's could not be mounted.
    #[error(
        "{what} could not be mounted on {on}: {cause}; the kernel lacks it, see kernel-config/x86_64.config"
    )]
    Mount {
        /// Type of the file system.
        what: &'static str,
        /// Where.
        on: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A directory of `/run` could not be made.
    #[error("{path} could not be made: {cause}")]
    MakeDirectory {
        /// The directory.
        path: &'static str,
        /// Why.
        cause: Errno,
    },
}

struct Tree {
    kind: &'static CStr,
    on: &'static CStr,
    flags: MountFlags,
    data: &'static CStr,
}

/// The kernel's trees, in the order in which they are needed. `/dev` is mounted even before, see [`first_light`].
const TREES: &[Tree] = &[
    Tree { kind: c"proc", on: c"/proc", flags: STRICT, data: c"" },
    Tree { kind: c"sysfs", on: c"/sys", flags: STRICT, data: c"" },
    // Where the kernel shows what firmware measured, and later what the LSMs have to say.
    Tree { kind: c"securityfs", on: c"/sys/kernel/security", flags: STRICT, data: c"" },
    Tree { kind: c"cgroup2", on: c"/sys/fs/cgroup", flags: STRICT, data: c"nsdelegate,memory_recursiveprot" },
    Tree { kind: c"tmpfs", on: c"/run", flags: STRICT, data: c"mode=0755,size=16m" },
];

/// Settings of the kernel that PID 1 changes, each with its reason.
const SETTINGS: &[(&CStr, &[u8])] = &[
    // Every line of a service is a record; ten in five seconds, the default, would lose most of a boot.
    (c"/proc/sys/kernel/printk_devkmsg", b"on\n"),
    // Addresses and pids of other processes are nobody's business.
    (c"/proc/sys/kernel/kptr_restrict", b"2"),
    // Only a parent may trace its child.
    (c"/proc/sys/kernel/yama/ptrace_scope", b"2"),
    // A symlink or hard link in a sticky directory is followed only by its owner.
    (c"/proc/sys/fs/protected_symlinks", b"1"),
    (c"/proc/sys/fs/protected_hardlinks", b"1"),
];

/// What must be there before the first stage can even say that it fails: `/dev`, the watchdog, the log.
///
/// If the kernel can't give these, there is nothing to log to and nothing to save: PID 1 ends and the kernel panics,
/// which reboots the machine.
pub fn first_light() -> (Groundwork, Timeline) {
    let mut timeline = Timeline::default();
    timeline.push(
        "kernel",
        Moment::default(),
        StageOutcome::Done,
        ipc::cut("until PID 1's first instruction"),
    );
    let dev = mount_tree(c"devtmpfs", c"/dev", MountFlags::NOSUID.union(MountFlags::NOEXEC), c"mode=0755");
    let watchdog = Watchdog::arm(if twin::is(Twin::HangEarly) { 10 } else { TIMEOUT_SECONDS });
    let (Some(kmsg), Some(null), Some(ours)) =
        (open_device(c"/dev/kmsg"), open_device(c"/dev/null"), open_device(c"/dev/kmsg"))
    else {
        std::process::exit(1)
    };
    log_sink::start(process::INIT, ours);
    if let Err(cause) = dev {
        log::error!("early: /dev could not be mounted: {cause}");
    }
    if let Err(cause) = &watchdog {
        log::warn!("early: no watchdog could be armed ({cause}): a hang will not reset this machine");
    }
    (Groundwork::new(kmsg, null, watchdog.ok()), timeline)
}

/// The stage.
pub fn run(work: &mut Groundwork) -> Result<Report, StageError> {
    // The watchdog that `first_light` armed is petted no more.
    while twin::is(Twin::HangEarly) {
        std::thread::park();
    }
    for tree in TREES {
        mount_tree(tree.kind, tree.on, tree.flags, tree.data).map_err(|cause| EarlyError::Mount {
            what: tree.kind.to_str().unwrap_or_default(),
            on: tree.on.to_str().unwrap_or_default(),
            cause,
        })?;
    }
    for &(path, value) in SETTINGS {
        if let Err(cause) = write_file(path, value) {
            log::warn!("early: {} stays as it is: {cause}", path.to_string_lossy());
        }
    }
    for (directory, owner) in process::directories("/run/") {
        directory::make(directory.path, owner, directory.mode).map_err(|cause| {
            EarlyError::MakeDirectory { path: directory.path.to_str().unwrap_or_default(), cause }
        })?;
    }
    Ok(Report::done(match &work.watchdog {
        Some(_) => "watchdog armed, kernel file systems mounted",
        None => "kernel file systems mounted; NO watchdog",
    }))
}

/// Mounts a tree, making its mount point if the parent allows it.
fn mount_tree(kind: &CStr, on: &CStr, flags: MountFlags, data: &CStr) -> Result<(), Errno> {
    match rustix::fs::mkdir(on, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
        Err(cause) => return Err(cause),
    }
    match mount(kind, on, kind, flags, data) {
        // The kernel may have mounted devtmpfs itself.
        Err(Errno::BUSY) => Ok(()),
        result => result,
    }
}

fn open_device(path: &CStr) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()
}
