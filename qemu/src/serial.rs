//! The guest's serial console.
//!
//! It exists so that a test can wait for a line and a person can read what happened. Every byte also goes to
//! a file for the post-mortem, and to a tee while the machine runs. The memory is bounded: a guest that
//! prints for ever loses its oldest output, never the harness's memory. It refuses to be evidence: what the
//! guest prints proves that it printed it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The console's failures; each shows the end of what was printed.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// The text did not come.
    #[error(
        "the console did not show {wanted:?} within {limit:?}. Read its end for how far the boot came:\n{tail}"
    )]
    ExpectTimeout {
        /// The text.
        wanted: String,
        /// The limit.
        limit: Duration,
        /// The last lines.
        tail: String,
    },
    /// The machine ended first.
    #[error(
        "the machine ended before its console showed {wanted:?}. Ask wait_exit() why; its last lines:\n{tail}"
    )]
    ExpectEnded {
        /// The text.
        wanted: String,
        /// The last lines.
        tail: String,
    },
    /// Input could not be sent.
    #[error("cannot type on the console: {0}. The machine has probably ended")]
    Type(std::io::Error),
}

/// Kept in memory. A verbose boot is under 200 KiB; this holds hundreds of them.
const LIMIT: usize = 16 << 20;
/// What an error shows: a kernel panic's trace fits.
const TAIL_LINES: usize = 40;

/// Called with each piece of output as it arrives, on the reading thread.
pub(crate) type Tee = Box<dyn FnMut(&[u8]) + Send>;

#[derive(Default)]
struct State {
    kept: Vec<u8>,
    /// How many bytes were let go before `kept`.
    dropped: usize,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The console of one machine.
pub struct Serial {
    shared: Arc<Shared>,
    socket: UnixStream,
}

impl Serial {
    pub(crate) fn follow(
        socket: UnixStream,
        mut file: std::fs::File,
        mut tee: Option<Tee>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let sink = Arc::clone(&shared);
        let mut reader = socket.try_clone()?;
        std::thread::Builder::new().name("serial".into()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                let piece = &buffer[..length];
                // The copy is for people: a full disk must not stop the test that still can judge.
                if let Err(error) = file.write_all(piece) {
                    log::warn!("cannot copy the console to its file: {error}");
                }
                if let Some(tee) = &mut tee {
                    tee(piece);
                }
                let mut state = sink.lock();
                state.kept.extend_from_slice(piece);
                if state.kept.len() > LIMIT {
                    state.kept.drain(..LIMIT / 2);
                    state.dropped += LIMIT / 2;
                }
                sink.changed.notify_all();
            }
            sink.lock().ended = true;
            sink.changed.notify_all();
        })?;
        Ok(Self { shared, socket })
    }

    /// Waits until the console has shown `wanted`, at any time since the machine started.
    pub fn expect(&self, wanted: &str, limit: Duration) -> Result<(), SerialError> {
        self.expect_after(0, wanted, limit).map(drop)
    }

    /// Waits until `wanted` appears at or after the byte `mark`; returns the mark just behind it.
    pub fn expect_after(&self, mark: usize, wanted: &str, limit: Duration) -> Result<usize, SerialError> {
        let end = Instant::now() + limit;
        let mut from = mark;
        let mut state = self.shared.lock();
        loop {
            let start = from.saturating_sub(state.dropped).min(state.kept.len());
            if let Some(at) = find(&state.kept[start..], wanted.as_bytes()) {
                return Ok(state.dropped + start + at + wanted.len());
            }
            // The next look may skip all but a possible first part of the text.
            from = from.max((state.dropped + state.kept.len()).saturating_sub(wanted.len()));
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let (wanted, tail) = (wanted.to_owned(), tail(&state.kept));
                return Err(if state.ended {
                    SerialError::ExpectEnded { wanted, tail }
                } else {
                    SerialError::ExpectTimeout { wanted, limit, tail }
                });
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The place behind what was printed so far, for [`Serial::expect_after`].
    pub fn mark(&self) -> usize {
        let state = self.shared.lock();
        state.dropped + state.kept.len()
    }

    /// All that is kept, with bytes that are not UTF-8 replaced.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().kept).into_owned()
    }

    /// The last 40 lines.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().kept)
    }

    /// Types on the console.
    pub fn send(&self, input: &[u8]) -> Result<(), SerialError> {
        (&self.socket).write_all(input).map_err(SerialError::Type)
    }

    /// Waits until QEMU has closed its end: then no output is missing.
    pub(crate) fn wait_end(&self, limit: Duration) {
        let state = self.shared.lock();
        drop(self.shared.changed.wait_timeout_while(state, limit, |state| !state.ended));
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn tail(kept: &[u8]) -> String {
    let text = String::from_utf8_lossy(kept);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "    (nothing was printed)".into();
    }
    let mut shown = String::new();
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        let _ = writeln!(shown, "    | {}", line.trim_end());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (UnixStream, Serial, tempfile::NamedTempFile) {
        let (guest, host) = UnixStream::pair().unwrap();
        let copy = tempfile::NamedTempFile::new().unwrap();
        let serial = Serial::follow(host, copy.reopen().unwrap(), None).unwrap();
        (guest, serial, copy)
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_text_that_arrives_in_pieces_is_found_and_the_file_has_it_too() {
        let (mut guest, serial, copy) = console();
        for piece in ["noise\nhea", "lt", "hy\n"] {
            guest.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let behind = serial.expect_after(0, "healthy", LIMIT).unwrap();
        assert_eq!(behind, 13);
        drop(guest);
        serial.wait_end(LIMIT);
        assert!(matches!(
            serial.expect_after(behind, "healthy", LIMIT),
            Err(SerialError::ExpectEnded { .. })
        ));
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"noise\nhealthy\n");
    }

    #[test]
    fn a_timeout_shows_the_last_forty_lines() {
        let (mut guest, serial, _copy) = console();
        for line in 0..100 {
            writeln!(guest, "line {line}").unwrap();
        }
        serial.expect("line 99", LIMIT).unwrap();
        let error = serial.expect("never", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("| line 60\n") && error.contains("| line 99\n"), "{error}");
        assert!(!error.contains("line 59"), "{error}");
    }

    #[test]
    fn a_guest_that_prints_for_ever_loses_its_oldest_output() {
        let (mut guest, serial, _copy) = console();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            guest.write_all(&block).unwrap();
        }
        guest.write_all(b"the end").unwrap();
        serial.expect("the end", LIMIT).unwrap();
        assert!(serial.log().len() <= super::LIMIT);
        assert_eq!(serial.mark(), (20 << 20) + 7);
    }
}
