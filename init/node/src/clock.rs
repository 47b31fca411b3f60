//! The node's clocks: one for what is measured, which begins with the kernel and which nobody sets; and the time of day,
//! which the machine may have wrong.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// 2026-01-01, in seconds since 1970. Before this moment no image of this line existed: an earlier clock is wrong.
pub const IMAGE_TIME: u64 = 1_767_225_600;

/// Microseconds since the kernel started its clock, sleep included.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}

/// The time of day, in seconds since 1970. A clock before that says 0.
pub fn time_of_day() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Sets the time of day to this moment, in seconds since 1970, if it is before it; what it was then. Later is never wrong
/// enough to be known.
pub fn at_least(moment: u64) -> Result<Option<u64>, Errno> {
    let now = time_of_day();
    let Some(time) = behind(now, moment) else { return Ok(None) };
    clock_settime(ClockId::Realtime, time).map(|()| Some(now))
}

fn behind(now: u64, moment: u64) -> Option<Timespec> {
    let tv_sec = i64::try_from(moment).ok().filter(|_| now < moment)?;
    Some(Timespec { tv_sec, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_only_ever_set_forward_and_only_to_a_moment_that_there_is() {
        assert_eq!(behind(5, 7).map(|time| time.tv_sec), Some(7));
        assert!(behind(7, 7).is_none() && behind(8, 7).is_none());
        assert!(behind(0, 0).is_none() && behind(5, u64::MAX).is_none());
        // This machine's own clock is right, and stays as it is.
        assert_eq!(at_least(IMAGE_TIME), Ok(None));
    }
}
