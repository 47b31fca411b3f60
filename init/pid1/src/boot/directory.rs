//! Making the folders that belong to processes.

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use std::ffi::CStr;

/// Makes a folder, unless it is there, and gives it to its owner either way: power may have failed between the two.
pub fn make(path: &CStr, owner: u32, mode: u32) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(cause),
    }
    rustix::fs::chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
}
