//! The node's one clock for what is measured: it begins with the kernel, and nobody sets it.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the kernel started its clock, sleep included.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}
