//! What became of the last attempt: decided at each start of the service from what is on the disk, not from what anybody
//! remembers to have wanted.
//!
//! Power may go between any two steps. The record says which step was begun, the boot entries and the release that runs
//! say how far it came; each combination has one meaning, and the table test walks them all.

use astromesh_proto::update::{Attempt, Outcome, Record, Slots};
use astromesh_proto::version::Version;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is over, or the release that runs is on trial.
    Nothing,
    /// Begin the attempt again from what is staged.
    Resume,
    /// The slot is written; the machine only has to reboot into it.
    Reboot,
}

/// How often an attempt is taken up again. More often, and a release on which the node dies while it is fetched would be
/// fetched for ever.
const MOST_INTERRUPTIONS: u32 = 3;

/// Brings an attempt up to date with the disk.
pub fn reconcile(attempt: &mut Attempt, running: Version, slots: Option<&Slots>) -> Next {
    if attempt.outcome.is_final() {
        return Next::Nothing;
    }
    let Some(slots) = slots else {
        // Nobody knows what is in the slots: what was begun stays as it is until somebody does.
        return Next::Nothing;
    };
    let wanted = attempt.release.version;
    if running == wanted {
        attempt.outcome = if slots.is_kept() { Outcome::Kept } else { Outcome::Trying };
        "health held".clone_into(&mut attempt.reason);
        if attempt.outcome == Outcome::Trying {
            "it runs, and is on trial".clone_into(&mut attempt.reason);
        }
        return Next::Nothing;
    }
    // Of two names that a cut rename left, the one that the boot loader starts.
    let of_it = || slots.entries.iter().filter(move |entry| entry.version == wanted);
    let entry = of_it().find(|entry| entry.is_bootable()).or_else(|| of_it().max_by_key(|entry| entry.tries));
    match (attempt.outcome, entry) {
        // Also where the record could not be written since: an attempt is only begun at a release without tries.
        (_, Some(entry)) if entry.is_bootable() => {
            attempt.outcome = Outcome::Trying;
            "it is installed, and waits for a reboot".clone_into(&mut attempt.reason);
            Next::Reboot
        }
        (Outcome::Installing | Outcome::Trying, Some(entry)) if entry.is_given_up() => {
            attempt.outcome = Outcome::RolledBack;
            let tries = entry.tries.map_or(0, |tries| tries.done);
            attempt.reason = format!(
                "it was tried {tries} times and did not become healthy; {running} runs again. `astromeshctl logs` of a \
                 failed boot is on the serial console"
            );
            Next::Nothing
        }
        // An entry that is not there, not whole or without a try yet: power failed while it was written or renamed, or before
        // it was read back.
        _ if attempt.interruptions >= MOST_INTERRUPTIONS => {
            attempt.outcome = Outcome::Failed;
            attempt.reason = format!("it was interrupted {} times", attempt.interruptions + 1);
            Next::Nothing
        }
        _ => {
            attempt.interruptions += 1;
            attempt.outcome = Outcome::Staging;
            "it was interrupted, and goes on".clone_into(&mut attempt.reason);
            Next::Resume
        }
    }
}

/// A rollback by an operator that the record doesn't have, because power failed or `/var` was full when it was to be
/// written: a release newer than the one that runs was given up, and no attempt says that it failed.
pub fn missed_rollback(record: &Record, running: Version, slots: &Slots) -> Option<Version> {
    let failed = |version| {
        let mut installed = record.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Failed);
        let of_it = installed.find(|attempt| attempt.release.version == version);
        of_it.is_some_and(|attempt| attempt.outcome != Outcome::Kept)
    };
    let bootable =
        |version| slots.entries.iter().any(|entry| entry.version == version && entry.is_bootable());
    let given_up = slots.entries.iter().filter(|entry| entry.is_given_up()).map(|entry| entry.version);
    given_up.filter(|version| *version > running && !bootable(*version) && !failed(*version)).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::attempt;
    use astromesh_proto::boot_entry::BootEntry;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn slots(running: &str, counted: Option<&str>, entries: &[&str]) -> Slots {
        let entry = |name: &&str| BootEntry::parse(name).unwrap();
        Slots {
            running: version(running),
            counted: counted.as_ref().map(entry),
            entries: entries.iter().map(entry).collect(),
            partitions: Vec::new(),
            floor: None,
        }
    }

    /// After this outcome, with this release running and these entries: the outcome that is true, and what to do.
    fn table(outcome: Outcome, running: &str, counted: Option<&str>, entries: &[&str]) -> (Outcome, Next) {
        let mut attempt = attempt(outcome);
        let next = reconcile(&mut attempt, version(running), Some(&slots(running, counted, entries)));
        assert!(!attempt.reason.is_empty());
        (attempt.outcome, next)
    }

    #[test]
    fn every_step_that_power_may_fail_at_has_one_meaning() {
        use Outcome::{Installing, Kept, RolledBack, Staging, Trying};
        const OLD: &str = "astromesh_0.1.0.efi";
        const NEW: &str = "astromesh_0.2.0+3-0.efi";
        const TRIED: &str = "astromesh_0.2.0+2-1.efi";
        const BAD: &str = "astromesh_0.2.0+0-3.efi";
        const GOOD: &str = "astromesh_0.2.0.efi";
        const UNCHECKED: &str = "astromesh_0.2.0+0-0.efi";
        let rows = [
            // While it was fetched: again, whatever an earlier attempt left.
            (Staging, "0.1.0", None, vec![OLD], Staging, Next::Resume),
            (Staging, "0.1.0", None, vec![OLD, BAD], Staging, Next::Resume),
            // It was installed, and /var was too full to write that down.
            (Staging, "0.1.0", None, vec![OLD, NEW], Trying, Next::Reboot),
            // While the slot was written: again, unless the entry, which comes last, is there.
            (Installing, "0.1.0", None, vec![OLD], Staging, Next::Resume),
            (Installing, "0.1.0", None, vec![OLD, UNCHECKED], Staging, Next::Resume),
            (Installing, "0.1.0", None, vec![OLD, NEW], Trying, Next::Reboot),
            // While it got its tries: both names of one file.
            (Installing, "0.1.0", None, vec![OLD, UNCHECKED, NEW], Trying, Next::Reboot),
            (Installing, "0.2.0", Some(TRIED), vec![OLD, TRIED], Trying, Next::Nothing),
            (Installing, "0.1.0", None, vec![OLD, BAD], RolledBack, Next::Nothing),
            // Between writing and rebooting, and after.
            (Trying, "0.1.0", None, vec![OLD, NEW], Trying, Next::Reboot),
            (Trying, "0.2.0", Some(TRIED), vec![OLD, TRIED], Trying, Next::Nothing),
            (Trying, "0.2.0", None, vec![OLD, GOOD], Kept, Next::Nothing),
            // What the boot loader said at the start doesn't change when the release is blessed.
            (Trying, "0.2.0", Some(TRIED), vec![OLD, GOOD], Kept, Next::Nothing),
            // Nothing is known of the boot loader's count: kept is what has an entry without one.
            (Trying, "0.2.0", None, vec![OLD, TRIED], Trying, Next::Nothing),
            (Trying, "0.1.0", None, vec![OLD, BAD], RolledBack, Next::Nothing),
            // A rename that power cut in two leaves no entry that is whole: written again.
            (Trying, "0.1.0", None, vec![OLD], Staging, Next::Resume),
        ];
        for (outcome, running, counted, entries, then, next) in rows {
            let found = table(outcome, running, counted, &entries);
            assert_eq!(found, (then, next), "{outcome:?} {running} {entries:?}");
        }
    }

    #[test]
    fn an_attempt_that_is_interrupted_again_and_again_is_given_up() {
        let mut attempt = attempt(Outcome::Staging);
        let slots = slots("0.1.0", None, &["astromesh_0.1.0.efi"]);
        for _ in 0..MOST_INTERRUPTIONS {
            assert_eq!(reconcile(&mut attempt, version("0.1.0"), Some(&slots)), Next::Resume);
        }
        assert_eq!(reconcile(&mut attempt, version("0.1.0"), Some(&slots)), Next::Nothing);
        assert_eq!(attempt.outcome, Outcome::Failed);
    }

    #[test]
    fn a_rollback_that_was_not_written_down_is_read_from_the_entries() {
        const OLD: &str = "astromesh_0.1.0.efi";
        let missed = |attempts: &[Outcome], names: &[&str]| {
            let attempts = attempts.iter().map(|outcome| attempt(*outcome)).collect();
            let record = Record { attempts, ..Record::default() };
            missed_rollback(&record, version("0.1.0"), &slots("0.1.0", None, names))
        };
        let two = Some(version("0.2.0"));
        assert_eq!(missed(&[Outcome::Kept], &[OLD, "astromesh_0.2.0+0-1.efi"]), two);
        assert_eq!(missed(&[], &[OLD, "astromesh_0.2.0+0-1.efi"]), two);
        // One that ran out of tries, one that was given up and is written down, one that was only written.
        assert_eq!(missed(&[Outcome::RolledBack], &[OLD, "astromesh_0.2.0+0-3.efi"]), None);
        assert_eq!(missed(&[Outcome::Trying], &[OLD, "astromesh_0.2.0+0-3.efi"]), None);
        assert_eq!(missed(&[Outcome::Installing], &[OLD, "astromesh_0.2.0+0-0.efi"]), None);
        assert_eq!(missed(&[Outcome::Kept], &[OLD, "astromesh_0.2.0.efi"]), None);
        assert_eq!(missed(&[Outcome::Kept], &[OLD, "astromesh_0.0.9+0-1.efi"]), None, "older");
    }

    #[test]
    fn what_is_over_stays_over_and_what_nobody_can_see_stays_open() {
        let mut over = attempt(Outcome::RolledBack);
        let bootable = slots("0.1.0", None, &["astromesh_0.2.0+3-0.efi"]);
        assert_eq!(reconcile(&mut over, version("0.1.0"), Some(&bootable)), Next::Nothing);
        assert_eq!(over.outcome, Outcome::RolledBack);
        let mut open = attempt(Outcome::Installing);
        assert_eq!(reconcile(&mut open, version("0.1.0"), None), Next::Nothing);
        assert_eq!(open.outcome, Outcome::Installing);
    }
}
