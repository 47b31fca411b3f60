//! The power button, and the end.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::RebootCommand;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How the machine is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Switched off.
    PowerOff,
    /// Started again.
    Reboot,
}

/// Most input devices that are watched; a machine of ours has one or two.
pub const MOST_BUTTONS: usize = 8;

/// The input devices on which a power button may be pressed: `/dev/input/event*`.
#[derive(Debug, Default)]
pub struct Buttons(heapless::Vec<OwnedFd, MOST_BUTTONS>);

impl Buttons {
    /// Opens what there is. A machine without a button is stopped by the control API alone.
    pub fn open() -> Self {
        let mut buttons = Self::default();
        for number in 0..MOST_BUTTONS {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let path = format!("/dev/input/event{number}");
            if let Ok(button) = rustix::fs::open(path, flags, Mode::empty()) {
                let _ = buttons.0.push(button);
            }
        }
        buttons
    }

    /// The devices.
    pub fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter()
    }

    /// Whether one of them was pressed since the last time.
    pub fn pressed(&self) -> Option<How> {
        // struct input_event of linux/input.h on a 64-bit machine: 16 bytes of time, then type, code, value.
        let mut event = [0; 24];
        for button in &self.0 {
            while rustix::io::read(button, &mut event) == Ok(24) {
                if is_power_key(&event) {
                    return Some(How::PowerOff);
                }
            }
        }
        None
    }
}

/// Whether an input event is the power key going down.
fn is_power_key(event: &[u8; 24]) -> bool {
    const EV_KEY: u16 = 1;
    const KEY_POWER: u16 = 116;
    const DOWN: i32 = 1;
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && value == DOWN
}

/// Writes everything out, takes `/var` away, and ends the machine.
pub fn down(how: How) -> ! {
    rustix::fs::sync();
    if let Err(cause) = unmount(c"/var", UnmountFlags::empty()) {
        log::warn!("/var is still in use ({cause}); it is made read-only");
        let _ = mount_remount(c"/var", MountFlags::RDONLY, c"");
    }
    rustix::fs::sync();
    let (command, word) = match how {
        How::PowerOff => (RebootCommand::PowerOff, "power off"),
        How::Reboot => (RebootCommand::Restart, "reboot"),
    };
    log::info!("{word}");
    loop {
        // If the firmware does not, the watchdog will.
        let _ = rustix::system::reboot(command);
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_is_a_press() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = [0; 24];
            event[16..18].copy_from_slice(&kind.to_ne_bytes());
            event[18..20].copy_from_slice(&code.to_ne_bytes());
            event[20..24].copy_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_power_key(&event(1, 116, 1)));
        assert!(!is_power_key(&event(1, 116, 0)), "going up");
        assert!(!is_power_key(&event(1, 30, 1)), "another key");
        assert!(!is_power_key(&event(0, 116, 1)), "no key event");
    }
}
