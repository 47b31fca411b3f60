//! Settings that the kernel takes through a file: sysctls, cgroup files.
//!
//! Such a file takes one value in one write. A value that is written in two pieces is two values to it.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Writes a file of the kernel's: one value, one write.
pub fn write_file(path: &CStr, value: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value).map(drop)
}
