//! What the node may do by itself, and what it may do because an operator ordered it: pure decisions, asked before a release
//! is tried and again before the machine reboots into it.
//!
//! An order may be carried out much later than it was given: power may fail meanwhile, this service may end, the window may
//! close. Its terms are therefore kept with the attempt, and asked then, not remembered by a process.

use crate::schedule;
use astromesh_proto::machine_config::{Update, UpdateMode};
use astromesh_proto::update::{Outcome, Record, Slots, Terms};
use astromesh_proto::version::Version;

/// How often an attempt may have been interrupted, by power cuts or by reboots that didn't start it, for the machine to reboot
/// for it once more. Without a limit a machine whose boot loader doesn't start what is installed would reboot for ever; it
/// leaves three reboots to one that was interrupted as often as it may be before (`reconcile`).
const MOST_INTERRUPTIONS: u32 = 6;

/// Whether a release may be tried on these terms. An operator may try any; the node by itself tries nothing that failed here
/// before, and nothing that an operator went back from, nor what is older than that.
///
/// The entries decide beside the record: they say that a release was given up also where `/var` was too full to write it.
pub fn may_try(record: &Record, slots: Option<&Slots>, terms: Terms, version: Version, digest: &str) -> bool {
    let entries = slots.map(|slots| slots.entries.as_slice()).unwrap_or_default();
    let was_given_up = entries.iter().any(|entry| entry.version == version && entry.is_given_up());
    match terms {
        Terms::Order { .. } => true,
        Terms::Auto => {
            !was_given_up
                && !record.has_failed(digest)
                && record.rolled_back.is_none_or(|from| from < version)
        }
    }
}

/// Whether the machine may reboot into what was installed on these terms, at `now` seconds since 1970. What an older release
/// began says nothing of its terms: it is treated like what the node does by itself.
pub fn may_reboot(policy: &Update, terms: Option<Terms>, now: u64) -> bool {
    match terms {
        Some(Terms::Order { restart }) => restart,
        Some(Terms::Auto) | None => policy.mode == UpdateMode::Auto && schedule::is_open(policy, now),
    }
}

/// Whether an attempt that was interrupted may go on: one that the node began by itself only while it still looks by itself.
pub fn may_go_on(policy: &Update, terms: Option<Terms>) -> bool {
    terms != Some(Terms::Auto) || policy.mode == UpdateMode::Auto
}

/// Whether an installed release waits for a reboot that may be made now.
pub fn reboots_now(record: &Record, running: Version, policy: &Update, now: u64) -> bool {
    record.attempts.first().is_some_and(|attempt| {
        attempt.outcome == Outcome::Trying
            && attempt.release.version != running
            && attempt.interruptions < MOST_INTERRUPTIONS
            && may_reboot(policy, record.terms, now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::attempt;
    use crate::schedule::tests::{at_hour, policy};
    use astromesh_proto::boot_entry::BootEntry;
    use astromesh_proto::machine_config::Window;

    const ORDER: Terms = Terms::Order { restart: true };

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// A record whose newest attempt stands like this.
    fn record(outcome: Outcome, terms: Option<Terms>) -> Record {
        Record { attempts: vec![attempt(outcome)], terms, rolled_back: None }
    }

    fn slots(names: &[&str]) -> Slots {
        Slots {
            running: version("0.1.0"),
            counted: None,
            entries: names.iter().map(|name| BootEntry::parse(name).unwrap()).collect(),
            partitions: Vec::new(),
            floor: None,
        }
    }

    #[test]
    fn what_an_operator_went_back_from_is_taken_by_an_order_or_when_there_is_a_newer_one() {
        let mut record = record(Outcome::Kept, Some(Terms::Auto));
        let none = slots(&["astromesh_0.1.0.efi"]);
        let may = |record: &Record, terms, text: &str, digest: &str| {
            may_try(record, Some(&none), terms, version(text), digest)
        };
        assert!(may(&record, Terms::Auto, "0.2.0", "sha256:00"), "the twin");
        record.roll_back(version("0.2.0"));
        assert!(!may(&record, Terms::Auto, "0.2.0", "sha256:00"));
        assert!(!may(&record, Terms::Auto, "0.2.0", "sha256:11"), "pushed again");
        assert!(!may(&record, Terms::Auto, "0.1.9", "sha256:22"), "older than what was given up");
        assert!(may(&record, Terms::Auto, "0.3.0", "sha256:33"));
        assert!(may(&record, ORDER, "0.2.0", "sha256:00"));
    }

    #[test]
    fn an_entry_without_tries_says_that_a_release_was_given_up_where_no_record_does() {
        let may = |name, terms| {
            let slots = slots(&["astromesh_0.1.0.efi", name]);
            may_try(&Record::default(), Some(&slots), terms, version("0.2.0"), "sha256:00")
        };
        for name in ["astromesh_0.2.0+0-1.efi", "astromesh_0.2.0+0-3.efi"] {
            assert!(!may(name, Terms::Auto), "{name}");
            assert!(may(name, ORDER), "{name}");
        }
        // Written and never read back: it was never tried, and the attempt goes on.
        assert!(may("astromesh_0.2.0+0-0.efi", Terms::Auto));
    }

    #[test]
    fn the_machine_reboots_on_the_terms_of_the_order_alone() {
        let window = Some(Window { from_minute: 120, to_minute: 180 });
        let manual = policy(UpdateMode::Manual, None);
        let auto = policy(UpdateMode::Auto, window);
        let may = |policy, terms, hour| {
            reboots_now(&record(Outcome::Trying, terms), version("0.1.0"), policy, at_hour(hour))
        };
        let order = |restart| Some(Terms::Order { restart });
        // An order is carried out when it comes, and what it doesn't say isn't done, whatever the policy.
        for hour in [2, 12] {
            assert!(may(&manual, order(true), hour) && may(&auto, order(true), hour));
            assert!(!may(&manual, order(false), hour) && !may(&auto, order(false), hour));
        }
        // By itself, and what an older release began: inside the window, and never on a node that is manual (now).
        for terms in [Some(Terms::Auto), None] {
            assert!(may(&auto, terms, 2));
            assert!(!may(&auto, terms, 12), "outside its window");
            assert!(!may(&manual, terms, 2));
        }
        assert!(may_go_on(&manual, order(true)) && may_go_on(&auto, Some(Terms::Auto)));
        assert!(!may_go_on(&manual, Some(Terms::Auto)));
    }

    #[test]
    fn nothing_reboots_for_what_runs_for_what_is_over_or_again_and_again() {
        let policy = policy(UpdateMode::Manual, None);
        let may = |record: &Record, running| reboots_now(record, version(running), &policy, 0);
        let mut waiting = record(Outcome::Trying, Some(ORDER));
        assert!(may(&waiting, "0.1.0"), "the twin");
        assert!(!may(&waiting, "0.2.0"));
        for outcome in [Outcome::Staging, Outcome::Installing, Outcome::RolledBack, Outcome::Failed] {
            assert!(!may(&record(outcome, Some(ORDER)), "0.1.0"), "{outcome:?}");
        }
        waiting.attempts[0].interruptions = MOST_INTERRUPTIONS;
        assert!(!may(&waiting, "0.1.0"));
    }
}
