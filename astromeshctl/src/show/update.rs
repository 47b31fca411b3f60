//! `update status`, `update check`, `update history`: slots, releases and how attempts ended.

use super::look::{Look, cell, table};
use crate::terminal::clean;
use astromesh_proto::boot_entry::BootEntry;
use astromesh_proto::date::utc;
use astromesh_proto::update::{Attempt, Outcome, Release, Slots, State};
use comfy_table::{Cell, Color};
use std::fmt::Write as _;

/// A release, as it would be installed.
pub fn release(release: &Release, look: Look) -> String {
    let mut rows = table(look, &["release", ""]);
    rows.set_header([cell("release"), cell(&release.version.to_string())]);
    for (name, value) in [
        ("digest", release.digest.clone()),
        ("root hash", release.root_hash.clone()),
        ("kernel", release.kernel.clone()),
        ("runtime", release.runtime.clone()),
        ("bytes", release.size.to_string()),
    ] {
        rows.add_row([cell(name), cell(&value)]);
    }
    format!("{rows}\n")
}

/// Both slots, the policy, the last attempt.
pub fn update_status(state: &State, look: Look) -> String {
    let mut text = match &state.slots {
        Some(slots) => format!("{}\n", entries(slots, look)),
        None => "the slots of this node can't be looked at; see the log\n".to_owned(),
    };
    if let Some(floor) = state.slots.as_ref().and_then(|slots| slots.floor) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "nothing older than {floor} is installed any more");
    }
    let _ = writeln!(text, "updates: {}", clean(&state.policy));
    if let Some(last) = state.attempts.first() {
        let (from, to, outcome) = (last.from, last.release.version, outcome(last.outcome).0);
        let _ = writeln!(text, "last attempt: {from} -> {to}: {outcome}: {}", clean(&last.reason));
    }
    text
}

/// Attempts, newest first.
pub fn history(attempts: &[Attempt], look: Look) -> String {
    if attempts.is_empty() {
        return "no update was ever tried on this node\n".to_owned();
    }
    let mut rows = table(look, &["began (UTC)", "from", "to", "", "bytes fetched", "why"]);
    for attempt in attempts {
        let (word, colour) = outcome(attempt.outcome);
        rows.add_row([
            cell(&utc(attempt.began)),
            cell(&attempt.from.to_string()),
            cell(&attempt.release.version.to_string()),
            Cell::new(word).fg(colour),
            cell(&format!("{} of {}", attempt.moved, attempt.release.size)),
            cell(&attempt.reason),
        ]);
    }
    format!("{rows}\n")
}

fn entries(slots: &Slots, look: Look) -> comfy_table::Table {
    let mut rows = table(look, &["release", "", "boot entry", "slot"]);
    for entry in &slots.entries {
        let (word, colour) = standing(entry, slots);
        let partition = |kind: &str| {
            let label = format!("{kind}_{}", entry.version);
            slots.partitions.iter().find(|slot| slot.label == label).map(|slot| slot.number.to_string())
        };
        let place = match (partition("root"), partition("verity")) {
            (Some(root), Some(verity)) => format!("partitions {root} and {verity}"),
            _ => "not whole".to_owned(),
        };
        rows.add_row([
            cell(&entry.version.to_string()),
            Cell::new(word).fg(colour),
            cell(&entry.to_string()),
            cell(&place),
        ]);
    }
    rows
}

fn standing(entry: &BootEntry, slots: &Slots) -> (String, Color) {
    let runs = entry.version == slots.running;
    match entry.tries {
        None if runs => ("runs, kept".to_owned(), Color::Green),
        None => ("kept".to_owned(), Color::Green),
        _ if entry.is_unchecked() && !runs => ("written, not checked".to_owned(), Color::Cyan),
        Some(tries) if tries.left == 0 && !runs => ("failed, or given up".to_owned(), Color::Red),
        Some(tries) if runs => (format!("runs, on trial, {} tries left", tries.left), Color::Yellow),
        Some(tries) => (format!("waits for a reboot, {} tries left", tries.left), Color::Cyan),
    }
}

fn outcome(outcome: Outcome) -> (&'static str, Color) {
    match outcome {
        Outcome::Staging => ("being fetched", Color::Cyan),
        Outcome::Installing => ("being installed", Color::Cyan),
        Outcome::Trying => ("on trial", Color::Yellow),
        Outcome::Kept => ("kept", Color::Green),
        Outcome::RolledBack => ("rolled back", Color::Red),
        Outcome::Failed => ("failed", Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let entry = |name| BootEntry::parse(name).unwrap();
        let slot = |label: &str, number| astromesh_proto::update::SlotPartition {
            label: label.to_owned(),
            number,
            partuuid: String::new(),
        };
        Slots {
            running: "0.2.0".parse().unwrap(),
            counted: Some(entry("astromesh_0.2.0+2-1.efi")),
            entries: vec![entry("astromesh_0.2.0+2-1.efi"), entry("astromesh_0.1.0.efi")],
            partitions: vec![slot("root_0.1.0", 2), slot("verity_0.1.0", 3), slot("root_0.2.0", 4)],
            floor: Some("0.1.0".parse().unwrap()),
        }
    }

    #[test]
    fn a_status_tells_what_runs_what_is_on_trial_and_what_is_not_whole() {
        let state =
            State { slots: Some(slots()), policy: "a drive".to_owned(), attempts: Vec::new(), peak_kib: 0 };
        let text = update_status(&state, Look { colour: false });
        let line = |version: &str| text.lines().find(|line| line.contains(version)).unwrap().to_owned();
        assert!(line("astromesh_0.2.0").contains("runs, on trial, 2 tries left"), "{text}");
        assert!(line("astromesh_0.2.0").contains("not whole"), "{text}");
        assert!(
            line("astromesh_0.1.0").contains("kept") && line("astromesh_0.1.0").contains("2 and 3"),
            "{text}"
        );
        assert!(text.contains("nothing older than 0.1.0"), "{text}");
    }
}
