//! How long a compilation still takes: from how far it is, and how long that has taken on this machine.
//!
//! Lines of make are not equally long: the first hundreds generate headers and host tools in no time, and the last one links
//! and packs. So time isn't taken to be lines; how the two belong together was measured, as shares, and a machine's own pace
//! stretches it. Before a share has been seen that is worth stretching, nothing is said.

use std::time::Duration;

/// Of a thousand lines, so many were printed when so many thousandths of the time were over. Measured on two cores, by the
/// minute. Another machine's curve differs by less than its speed does.
const CURVE: [(u64, u64); 9] = [
    (0, 0),
    (170, 132),
    (260, 264),
    (370, 396),
    (520, 527),
    (670, 659),
    (780, 791),
    (950, 923),
    (1000, 1000),
];

/// Least share of the time, in thousandths, from which an estimate is made.
const LEAST_SHARE: u64 = 50;
/// Least time from which one is made: a disk that is read for the first time says nothing of what follows.
const LEAST_TIME: Duration = Duration::from_secs(20);

/// What remains of a compilation that has printed `done` lines of `total` in a time; `None` when that can't be told yet.
pub(crate) fn remaining(done: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    let share = share(done.saturating_mul(1000) / total.max(1));
    if share < LEAST_SHARE || elapsed < LEAST_TIME {
        return None;
    }
    let left = u32::try_from(1000 - share).ok()?;
    Some(elapsed * left / u32::try_from(share).ok()?)
}

/// The share of the time that is over, by the share of the lines, both in thousandths.
fn share(lines: u64) -> u64 {
    let between = CURVE.windows(2).find(|pair| lines <= pair[1].0);
    between.map_or(1000, |pair| {
        let [(from_lines, from_time), (to_lines, to_time)] = [pair[0], pair[1]];
        from_time + (lines - from_lines) * (to_time - from_time) / (to_lines - from_lines)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build printed each minute, in percent of its lines, and how many seconds it took.
    const SEEN: ([u64; 7], u64) = ([17, 26, 37, 52, 67, 78, 95], 455);

    /// The true rest and the estimate, each minute of that build on a machine that is slower by a factor.
    fn estimates(factor: u64) -> Vec<(u64, u64)> {
        let (percents, seconds) = SEEN;
        let minute = |(index, percent): (usize, &u64)| {
            let elapsed = 60 * (index as u64 + 1) * factor;
            let estimate = remaining(percent * 27, 2700, Duration::from_secs(elapsed)).unwrap();
            (seconds * factor - elapsed, estimate.as_secs())
        };
        percents.iter().enumerate().map(minute).collect()
    }

    #[test]
    fn from_its_first_on_an_estimate_is_right_at_whatever_pace() {
        for factor in [1, 3, 10] {
            for (truth, estimate) in estimates(factor) {
                assert!(estimate * 10 >= truth * 9 && estimate * 10 <= truth * 11, "{estimate} for {truth}");
            }
        }
    }

    #[test]
    fn nothing_is_said_from_lines_that_cost_nothing() {
        // Ten lines of 2700 in two thirds of a second: taken for the pace of all, that was 3 minutes, and it took 8.
        assert_eq!(remaining(10, 2700, Duration::from_millis(670)), None);
        assert_eq!(remaining(10, 2700, Duration::from_secs(600)), None);
        assert_eq!(remaining(2000, 2700, Duration::from_secs(1)), None);
        // A machine of three times the time: its first estimate.
        let first = remaining(200, 2700, Duration::from_secs(80)).unwrap().as_secs();
        assert!((1100..1500).contains(&first), "{first}");
    }

    #[test]
    fn more_lines_than_were_expected_end_in_no_time() {
        assert_eq!(remaining(3000, 2700, Duration::from_secs(400)), Some(Duration::ZERO));
        assert_eq!(remaining(0, 0, Duration::from_secs(400)), None);
    }
}
