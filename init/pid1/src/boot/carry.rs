//! Carrying a machine-config: its bytes, copied and bounded, and not looked into.

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Largest machine-config, in bytes, and one more so that a larger one is seen to be larger. SMBIOS carries it in
/// base64, four thirds the size, among other strings: hence twice that.
const MOST_BYTES: usize = 2 * 1024 * 1024 + 1;

/// Copies at most [`MOST_BYTES`] into memory that is nobody's file.
pub fn carry(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let memory = rustix::fs::memfd_create(c"machine-config", MemfdFlags::CLOEXEC)?;
    let mut buffer = [0; 4096];
    let mut carried = 0;
    while carried < MOST_BYTES {
        let room = buffer.len().min(MOST_BYTES - carried);
        let count = rustix::io::read(file, &mut buffer[..room])?;
        if count == 0 {
            break;
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::write(&memory, &buffer[written..count])?;
        }
        carried += count;
    }
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    Ok(memory)
}
