//! A reader that takes no more than so many bytes in a second, and doesn't wait for a trickle.
//!
//! The first keeps an update from taking the line away from the agents. The second bounds what idle time-outs can't: a
//! server that sends one byte before each of them. A transfer that is given up on here counts as broken and is begun
//! again, which is bounded too.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The time over which a trickle is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// The fewest bytes that may come in it, of what was waited for: 1 KiB/s, less than any modem.
const FEWEST: u64 = 60 * 1024;

pub(super) struct Paced<R> {
    inner: R,
    rate: Option<NonZeroU64>,
    started: Instant,
    taken: u64,
    /// How long this window has waited for the other side, and what came meanwhile.
    waited: Duration,
    came: u64,
}

impl<R: Read> Paced<R> {
    pub(super) fn new(inner: R, rate: Option<NonZeroU64>) -> Self {
        Self { inner, rate, started: Instant::now(), taken: 0, waited: Duration::ZERO, came: 0 }
    }
}

/// When this many bytes may have been taken, counted from the start.
fn due(taken: u64, rate: NonZeroU64) -> Duration {
    let micros = u128::from(taken) * 1_000_000 / u128::from(rate.get());
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.rate.map_or(buffer.len(), |rate| {
            // A tenth of a second's worth at once, so that the line isn't taken in gulps.
            usize::try_from(rate.get() / 10).unwrap_or(usize::MAX).clamp(1, buffer.len().max(1))
        });
        let most = most.min(buffer.len());
        let before = Instant::now();
        let read = self.inner.read(&mut buffer[..most])?;
        self.waited += before.elapsed();
        self.came += read as u64;
        if self.waited >= WINDOW {
            if self.came < FEWEST {
                let text = "less than 1 KiB/s came for a minute";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        self.taken += read as u64;
        if let Some(rate) = self.rate {
            std::thread::sleep(due(self.taken, rate).saturating_sub(self.started.elapsed()));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_taken() {
        let bytes = vec![7; 30_000];
        let read = |rate| {
            let (start, mut out) = (Instant::now(), Vec::new());
            Paced::new(&bytes[..], NonZeroU64::new(rate)).read_to_end(&mut out).unwrap();
            assert_eq!(out, bytes);
            start.elapsed()
        };
        assert!(read(100_000) >= Duration::from_millis(290));
        assert!(read(0) < Duration::from_millis(290), "the twin: no rate");
    }

    #[test]
    fn what_is_due_does_not_overflow() {
        assert_eq!(due(1000, NonZeroU64::new(500).unwrap()), Duration::from_secs(2));
        assert!(due(u64::MAX, NonZeroU64::MIN) > Duration::from_secs(1));
    }
}
