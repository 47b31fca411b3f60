//! The machine's watchdog: a machine on which nothing pets it any more is reset.
//!
//! Armed before anything else, never disarmed: a PID 1 that hangs, in whatever stage, must not keep the machine.
//! See Documentation/watchdog/watchdog-api.rst.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, Updater, opcode};
use std::os::fd::OwnedFd;

/// An armed watchdog. Dropping it does *not* disarm it: no magic close is ever written.
#[derive(Debug)]
pub struct Watchdog {
    device: OwnedFd,
}

/// Seconds without a sign of life after which the machine is reset. An emulated machine is slow; a hang that lasts a
/// minute is a hang.
pub const TIMEOUT_SECONDS: i32 = 60;

/// Seconds between two signs of life: a sixth of the timeout, so that a few late ones don't matter.
pub const PET_SECONDS: u64 = 10;

impl Watchdog {
    /// Opens (which arms) `/dev/watchdog0` and sets its timeout, in seconds. The kernel puts hardware before `softdog`,
    /// because that one registers last.
    pub fn arm(timeout: i32) -> Result<Self, Errno> {
        let device = rustix::fs::open(c"/dev/watchdog0", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut seconds = timeout;
        // SAFETY: WDIOC_SETTIMEOUT is _IOWR('W', 6, int) and reads and writes exactly one int.
        unsafe {
            let request = Updater::<{ opcode::read_write::<i32>(b'W', 6) }, i32>::new(&mut seconds);
            // A device with a fixed timeout refuses; it is armed all the same.
            let _ = ioctl::ioctl(&device, request);
        }
        let watchdog = Self { device };
        watchdog.pet();
        Ok(watchdog)
    }

    /// Gives a sign of life. Any write but of `V` is one.
    pub fn pet(&self) {
        let _ = rustix::io::write(&self.device, b".");
    }
}
