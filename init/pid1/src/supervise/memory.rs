//! How much memory our own services take, from `/proc/PID/smaps_rollup`.
//!
//! Only our own: reading it waits for the process's memory lock, which a runtime that misbehaves could hold for as long
//! as it likes. Of the runtime, `control` reads the resident size from a file that needs no lock.

use core::fmt::Write as _;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

/// Resident and proportional set size in KiB; zeros when the process is gone.
pub fn of(pid: Pid) -> (u64, u64) {
    let mut path = heapless::String::<40>::new();
    let _ = write!(path, "/proc/{}/smaps_rollup", pid.as_raw_nonzero());
    let Ok(file) = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return (0, 0);
    };
    let mut text = [0; 2048];
    let count = rustix::io::read(&file, &mut text).unwrap_or(0);
    let text = &text[..count];
    (value(text, b"\nRss:"), value(text, b"\nPss:"))
}

/// The number behind `key`, in KiB.
fn value(text: &[u8], key: &[u8]) -> u64 {
    let Some(at) = text.windows(key.len()).position(|window| window == key) else { return 0 };
    text[at + key.len()..]
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_summary_is_read() {
        let text = b"00400000-7fff0000 ---p 00000000 00:00 0 [rollup]\nRss:                1024 kB\nPss:                 512 kB\nPss_Dirty: 7 kB\n";
        assert_eq!((value(text, b"\nRss:"), value(text, b"\nPss:")), (1024, 512));
        assert_eq!(value(b"", b"\nRss:"), 0);
    }
}
