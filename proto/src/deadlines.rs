//! How long each of those who wait for an update waits: from the job that works on the slots out to the operator.
//!
//! Four processes wait for one another: the client for `control`, that for `update`, that for PID 1, and PID 1 for the
//! job `slots`. Whoever gives up first says why, so the innermost has to: it alone knows what it was doing. Each limit is
//! therefore the one inside it and a margin, computed here and nowhere else.
//!
//! **A limit is for silence, not for the whole.** Fetching may take hours on a slow line. It reports how far it is, and
//! so does each connection that broke; every such word starts the waits of `control` and of the client anew. What is
//! silent is a job alone: while it hashes and writes, nobody has anything to say.
//!
//! PID 1 uses this file too, so nothing here allocates or parses.

use core::time::Duration;

/// How long PID 1 lets a job `slots` live before it kills it.
///
/// The longest of them hashes two roots of 48 MiB and writes one: seconds on a machine, a minute on an emulated one whose
/// host is busy. The one that copies a drive moves at most 512 MiB, which the slowest USB stick does in this time. A
/// job that is not over then hangs, on a disk that doesn't answer most likely.
pub const SLOTS_JOB_WITHIN: Duration = Duration::from_secs(600);

/// What each outer limit has beyond the inner one.
///
/// In this time the inner one's end has to arrive: PID 1 kills and reaps a job, `update` writes its record to `/var`,
/// `control` passes the answer on. These are milliseconds; half a minute is for a disk that is slow (or nobody would wait
/// so long) and for an emulated machine.
pub const MARGIN: Duration = Duration::from_secs(30);

/// How long `update` waits for a job that it asked PID 1 for.
///
/// Twice a job's time: one runs at a time, and the one asked for may have to wait for another that hangs, such as a
/// blessing.
pub const UPDATE_WAITS_FOR_A_JOB: Duration =
    Duration::from_secs(2 * SLOTS_JOB_WITHIN.as_secs() + MARGIN.as_secs());

/// How long `update` may say nothing to `control`. It says something before each job and after it.
pub const CONTROL_WAITS_FOR_UPDATE: Duration =
    Duration::from_secs(UPDATE_WAITS_FOR_A_JOB.as_secs() + MARGIN.as_secs());

/// How long a node may say nothing to a client that asked about updates.
pub const CLIENT_WAITS_FOR_CONTROL: Duration =
    Duration::from_secs(CONTROL_WAITS_FOR_UPDATE.as_secs() + MARGIN.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_another_waits_longer_than_the_other() {
        let jobs = SLOTS_JOB_WITHIN * 2;
        let limits = [
            SLOTS_JOB_WITHIN,
            jobs,
            UPDATE_WAITS_FOR_A_JOB,
            CONTROL_WAITS_FOR_UPDATE,
            CLIENT_WAITS_FOR_CONTROL,
        ];
        assert!(limits.is_sorted());
        for pair in limits[1..].windows(2) {
            assert_eq!(pair[1], pair[0] + MARGIN);
        }
        assert!(!MARGIN.is_zero());
    }
}
