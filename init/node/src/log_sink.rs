//! The `log` facade's sink: one line, one record in the kernel log.
//!
//! The kernel log is there from the first instruction, survives the death of every process and is what the serial
//! console shows. A record is built on the stack and written with one `write`, so logging never allocates and two
//! processes' lines never mix. A line that can't be written is lost: reporting must not stop the one who reports.

use crate::process::Process;
use core::fmt::Write as _;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Longest record, in bytes; the kernel cuts at about 1 KiB (`PRINTKRB_RECORD_MAX`).
const LONGEST: usize = 960;

struct KernelLog {
    name: &'static str,
    kmsg: OwnedFd,
}

static SINK: OnceLock<KernelLog> = OnceLock::new();

/// Logs to `kmsg` from now on, each line beginning with the name of `process`. Called once in each process; later calls change
/// nothing.
pub fn start(process: &Process, kmsg: OwnedFd) {
    let name = process.name();
    if log::set_logger(SINK.get_or_init(|| KernelLog { name, kmsg })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // syslog(2) levels, facility "daemon" (3): what is not the kernel's own can be told from it.
        let priority = (3 << 3)
            | match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                // "notice": a quiet console, which drops "info", still shows the boot.
                _ => 5,
            };
        let mut line = heapless::String::<{ LONGEST + 1 }>::new();
        // A line that is too long ends where it does.
        let _ = write!(Cut(&mut line), "<{priority}>{}: {}", self.name, record.args());
        // Without this the kernel keeps the record open for a continuation, and nobody sees it before the next one.
        let _ = line.push('\n');
        let _ = rustix::io::write(&self.kmsg, line.as_bytes());
    }

    fn flush(&self) {}
}

/// Takes what fits and drops the rest, and keeps a record on one line. The console's terminal obeys control characters, and
/// a line may hold what an agent or a server of somebody else's has said.
struct Cut<'a, const N: usize>(&'a mut heapless::String<N>);

impl<const N: usize> core::fmt::Write for Cut<'_, N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for character in text.chars() {
            let character = match character {
                '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
                other if other.is_control() => char::REPLACEMENT_CHARACTER,
                other => other,
            };
            if self.0.len() + character.len_utf8() > LONGEST || self.0.push(character).is_err() {
                return Err(core::fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_leaves_room_for_its_end_and_stays_one_line() {
        let mut line = heapless::String::<{ LONGEST + 1 }>::new();
        assert!(write!(Cut(&mut line), "a\nb{}", "é".repeat(LONGEST)).is_err());
        assert!(line.starts_with("a b") && line.len() <= LONGEST);
        assert!(line.push('\n').is_ok());
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_passed_on() {
        let mut line = heapless::String::<{ LONGEST + 1 }>::new();
        write!(Cut(&mut line), "a\rb\u{1b}[2Jc\u{7}\u{8}\u{7f}\u{9b}31md\te é").unwrap();
        assert_eq!(line, "a b\u{fffd}[2Jc\u{fffd}\u{fffd}\u{fffd}\u{fffd}31md e é");
    }
}
