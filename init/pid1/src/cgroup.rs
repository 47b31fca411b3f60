//! Making cgroups with their limits.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Makes the cgroup at `path`, unless it is there, and sets its limits: file and value.
pub fn make(path: &CStr, limits: &[(&CStr, &[u8])]) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(cause),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    for &(file, value) in limits {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let limit = rustix::fs::openat(&directory, file, flags, Mode::empty())?;
        rustix::io::write(&limit, value)?;
    }
    Ok(directory)
}
