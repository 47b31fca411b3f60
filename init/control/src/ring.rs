//! The node's recent log, bounded by bytes: what is new pushes out what is old, whoever reads or doesn't.

use astromesh_proto::control::LogLine;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Most bytes of text that are kept.
const MOST_BYTES: usize = 256 * 1024;
/// Longest line that is kept, in bytes.
pub const LONGEST_LINE: usize = 1024;

/// The ring. A line has a number that is never used again, so a reader knows where it was.
#[derive(Debug, Default)]
pub struct Ring {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<LogLine>,
    bytes: usize,
    /// Number of the line that will come next.
    next: u64,
}

impl Ring {
    /// Adds a line.
    pub fn push(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.bytes += weight(&line);
        lines.kept.push_back(line);
        lines.next += 1;
        while lines.bytes > MOST_BYTES {
            let Some(oldest) = lines.kept.pop_front() else { break };
            lines.bytes -= weight(&oldest);
        }
        drop(lines);
        self.grown.notify_all();
    }

    /// Number from which to read to get the newest `count` lines.
    pub fn start_of_newest(&self, count: u32) -> u64 {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.next - u64::from(count).min(lines.kept.len() as u64)
    }

    /// At most `most` lines from number `from` on, and the number to go on with. Lines that were pushed out meanwhile
    /// are skipped.
    pub fn read(&self, from: u64, most: usize) -> (Vec<LogLine>, u64) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = lines.next - lines.kept.len() as u64;
        let from = from.clamp(oldest, lines.next);
        let skip = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let read: Vec<_> = lines.kept.iter().skip(skip).take(most).cloned().collect();
        let next = from + read.len() as u64;
        (read, next)
    }

    /// Waits until there is a line with number `from`, or for `longest`.
    pub fn wait(&self, from: u64, longest: Duration) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.grown.wait_timeout_while(lines, longest, |lines| lines.next <= from);
    }
}

/// Text of at most [`LONGEST_LINE`] bytes: what isn't UTF-8 is replaced, by more bytes than it had.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(LONGEST_LINE));
    text
}

fn weight(line: &LogLine) -> usize {
    line.text.len() + line.source.len() + 48
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { at_us: 0, source: "agent".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_ring_is_bounded_and_a_slow_reader_skips_what_was_pushed_out() {
        let ring = Ring::default();
        for _ in 0..10_000 {
            ring.push(line(&"x".repeat(LONGEST_LINE)));
        }
        assert!(ring.lines.lock().unwrap().bytes <= MOST_BYTES);
        let (read, next) = ring.read(0, usize::MAX);
        assert!(!read.is_empty() && read.len() < 300);
        assert_eq!(next, 10_000);
        assert_eq!(ring.read(next, 10), (Vec::new(), next));
    }

    #[test]
    fn the_newest_lines_come_in_their_order() {
        let ring = Ring::default();
        for text in ["a", "b", "c"] {
            ring.push(line(text));
        }
        let (read, _) = ring.read(ring.start_of_newest(2), 10);
        assert_eq!(read.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(ring.start_of_newest(u32::MAX), 0);
    }
}
