//! What became of the last attempt: decided at each start of the service from what is on the disk, not from what anybody
//! remembers to have wanted.
//!
//! Power may go between any two steps. The record says which step was begun, the boot entries and the release that runs
//! say how far it came; each combination has one meaning, and the table test walks them all.

use astromesh_proto::update::{Attempt, Outcome, Slots};
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
        attempt.outcome = if slots.counted.is_none() { Outcome::Kept } else { Outcome::Trying };
        "health held".clone_into(&mut attempt.reason);
        if attempt.outcome == Outcome::Trying {
            "it runs, and is on trial".clone_into(&mut attempt.reason);
        }
        return Next::Nothing;
    }
    let entry = slots.entries.iter().find(|entry| entry.version == wanted);
    match (attempt.outcome, entry) {
        (Outcome::Installing | Outcome::Trying, Some(entry)) if entry.is_bootable() => {
            attempt.outcome = Outcome::Trying;
            "it is installed, and waits for a reboot".clone_into(&mut attempt.reason);
            Next::Reboot
        }
        (Outcome::Installing | Outcome::Trying, Some(entry)) => {
            attempt.outcome = Outcome::RolledBack;
            let tries = entry.tries.map_or(0, |tries| tries.done);
            attempt.reason = format!(
                "it was tried {tries} times and did not become healthy; {running} runs again. `astromeshctl logs` of a \
                 failed boot is on the serial console"
            );
            Next::Nothing
        }
        // An entry that is not there, or not whole: power failed while it was written or renamed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_proto::boot_entry::BootEntry;
    use astromesh_proto::update::Release;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn attempt(outcome: Outcome) -> Attempt {
        let release = Release {
            version: version("0.2.0"),
            digest: "sha256:00".to_owned(),
            root_hash: String::new(),
            kernel: String::new(),
            runtime: String::new(),
            size: 1,
        };
        let from = version("0.1.0");
        Attempt {
            release,
            from,
            began: 0,
            outcome,
            reason: String::new(),
            moved: 0,
            reused: 0,
            interruptions: 0,
        }
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
        let rows = [
            // While it was fetched: again, whatever an earlier attempt left.
            (Staging, "0.1.0", None, vec![OLD], Staging, Next::Resume),
            (Staging, "0.1.0", None, vec![OLD, BAD], Staging, Next::Resume),
            // While the slot was written: again, unless the entry, which comes last, is there.
            (Installing, "0.1.0", None, vec![OLD], Staging, Next::Resume),
            (Installing, "0.1.0", None, vec![OLD, NEW], Trying, Next::Reboot),
            (Installing, "0.2.0", Some(TRIED), vec![OLD, TRIED], Trying, Next::Nothing),
            (Installing, "0.1.0", None, vec![OLD, BAD], RolledBack, Next::Nothing),
            // Between writing and rebooting, and after.
            (Trying, "0.1.0", None, vec![OLD, NEW], Trying, Next::Reboot),
            (Trying, "0.2.0", Some(TRIED), vec![OLD, TRIED], Trying, Next::Nothing),
            (Trying, "0.2.0", None, vec![OLD, GOOD], Kept, Next::Nothing),
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
