//! Making cgroups with their limits.

use astromesh_node::process::Cgroup;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Makes the cgroup, unless it is there, and sets its limits.
pub fn make(cgroup: &Cgroup) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(cgroup.path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(cause),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(cgroup.path, flags, Mode::empty())?;
    for limit in cgroup.limits {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, limit.file, flags, Mode::empty())?;
        rustix::io::write(&file, limit.value.as_bytes())?;
    }
    Ok(directory)
}
