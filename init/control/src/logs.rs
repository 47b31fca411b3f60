//! Collects the kernel log and what the runtime prints into the ring.
//!
//! What the runtime prints also goes to the kernel log, so that the serial console tells of an agent that can't start,
//! but no faster than a console can take it: past [`PER_SECOND`] lines it is only in the ring.

use crate::kmsg;
use crate::ring::{LONGEST_LINE, Ring, text_of};
use astromesh_node::clock::now_us;
use astromesh_proto::control::LogLine;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Lines of the runtime that are passed on to the kernel log in one second.
const PER_SECOND: u32 = 20;

/// How the runtime's lines begin in the kernel log, so that they aren't collected twice.
const PASSED_ON: &str = "runtime says: ";

/// Collects, for as long as the service lives.
pub fn collect(ring: &Ring, kernel: &OwnedFd, runtime: &OwnedFd) {
    let mut lines = Lines::default();
    let mut budget = Budget::default();
    loop {
        let mut fds = [PollFd::new(kernel, PollFlags::IN), PollFd::new(runtime, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, None);
        let (kernel_has, runtime_has) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if kernel_has {
            read_kernel(ring, kernel);
        }
        if runtime_has {
            let mut buffer = [0; 4096];
            // Reads what is there; does not wait for more.
            if let Ok(count) = rustix::io::read(runtime, &mut buffer) {
                lines.feed(&buffer[..count], |text| {
                    if budget.allows(now_us()) {
                        log::info!("{PASSED_ON}{text}");
                    }
                    ring.push(LogLine { at_us: now_us(), source: "runtime".to_owned(), text });
                });
            }
        }
    }
}

fn read_kernel(ring: &Ring, kernel: &OwnedFd) {
    let mut record = [0; 8192];
    loop {
        match rustix::io::read(kernel, &mut record) {
            Ok(0) => return,
            Ok(count) => {
                if let Some(line) = kmsg::parse(&record[..count]) {
                    if !line.text.starts_with(PASSED_ON) {
                        ring.push(line);
                    }
                }
            }
            // EPIPE: records were overwritten before they were read; the next read goes on with the oldest left.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// How many lines may still be passed on in this second.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    used: u32,
}

impl Budget {
    fn allows(&mut self, now_us: u64) -> bool {
        let second = now_us / 1_000_000;
        if second != self.second {
            *self = Self { second, used: 0 };
        }
        self.used += 1;
        self.used <= PER_SECOND
    }
}

/// Bytes into lines: ends at a newline or at the longest line, replaces what is not UTF-8.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' || self.0.len() == LONGEST_LINE {
                each(text_of(&self.0));
                self.0.clear();
            }
            if byte != b'\n' {
                self.0.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::LINES_AT_ONCE;
    use astromesh_proto::control::{MAX_RESPONSE, Response};

    #[test]
    fn lines_come_whole_however_they_are_cut_and_never_longer_than_the_bound() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in [&b"one\ntw"[..], b"o\n", b"\xff\n"] {
            lines.feed(piece, |line| seen.push(line));
        }
        assert_eq!(seen, ["one", "two", "\u{fffd}"]);
        seen.clear();
        lines.feed(&[b'x'; LONGEST_LINE * 3], |line| seen.push(line));
        assert!(seen.iter().all(|line| line.len() == LONGEST_LINE));
    }

    #[test]
    fn a_frame_of_lines_that_are_not_text_has_room_in_an_answer() {
        let mut seen = Vec::new();
        let not_text = [[0xff_u8; LONGEST_LINE], [0xc3; LONGEST_LINE]].concat().repeat(LINES_AT_ONCE);
        Lines::default().feed(&not_text, |text| {
            seen.push(LogLine { at_us: u64::MAX, source: "runtime".to_owned(), text });
        });
        let record = [b"30,712,2500000,-;".as_slice(), &[0xff; 4000]].concat();
        seen.truncate(LINES_AT_ONCE - 1);
        seen.push(kmsg::parse(&record).unwrap());
        assert!(seen.iter().all(|line| line.text.len() <= LONGEST_LINE));
        let frame = astromesh_proto::frame::encode_vec(&Response::Logs(seen), MAX_RESPONSE);
        assert!(frame.is_ok(), "{frame:?}");
    }

    #[test]
    fn a_chatty_runtime_fills_only_the_ring() {
        let mut budget = Budget::default();
        assert_eq!((0..1000).filter(|_| budget.allows(5_000_000)).count(), PER_SECOND as usize);
        assert!(budget.allows(6_000_000));
    }
}
