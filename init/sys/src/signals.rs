//! Signals as bytes of a file descriptor, so that one `poll` waits for everything.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks every signal in this process and opens a `signalfd(2)` for `signals`.
///
/// Only for a process with a single thread: the mask is per thread.
pub fn block_and_open(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the sets are plain bit arrays, initialised by sigfillset/sigemptyset before they are read; all
    // pointers are to live locals.
    unsafe {
        let mut all = core::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, core::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut wanted = core::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut wanted);
        for &signal in signals {
            libc::sigaddset(&raw mut wanted, signal);
        }
        let fd = libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Reads one pending signal number; `None` when there is none.
pub fn next(signals: &OwnedFd) -> Option<i32> {
    // struct signalfd_siginfo: 128 bytes, the signal number first (signalfd(2)).
    let mut info = [0_u8; 128];
    match rustix::io::read(signals, &mut info) {
        Ok(128) => i32::try_from(u32::from_ne_bytes([info[0], info[1], info[2], info[3]])).ok(),
        _ => None,
    }
}
