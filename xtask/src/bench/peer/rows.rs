//! The lines of the comparison, the goals beside them, and what holds a goal that was not reached. Pure.

use super::figures::{Comparison, Side, middle};
use super::machine::Stages;
use crate::statistics::median;
use crate::statistics::{Unit, as_f64, text};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// Ours at most this.
    AtMost(u64),
    /// Ours at most this part of the peer's.
    Share(f64),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) unit: Unit,
    pub(super) ours: Vec<u64>,
    /// Empty where the peer has no such figure.
    pub(super) peer: Vec<u64>,
    pub(super) goal: Option<Goal>,
    /// What holds the goal if it was not reached.
    pub(super) held_by: String,
}

impl Row {
    /// Ours divided by the peer's, medians.
    pub(super) fn ratio(&self) -> Option<f64> {
        let peer = median(&self.peer);
        (peer > 0).then(|| as_f64(median(&self.ours)) / as_f64(peer))
    }

    /// The goal as a part of the peer's.
    pub(super) fn goal_ratio(&self) -> Option<f64> {
        let peer = median(&self.peer);
        match self.goal? {
            Goal::Share(share) => Some(share),
            Goal::AtMost(most) => (peer > 0).then(|| as_f64(most) / as_f64(peer)),
        }
    }

    /// How much ours is over its goal, as a factor: at most 1 is reached.
    fn of_goal(&self) -> Option<f64> {
        match self.goal? {
            Goal::AtMost(most) => Some(as_f64(median(&self.ours)) / as_f64(most)),
            Goal::Share(share) => Some(self.ratio()? / share),
        }
    }

    pub(super) fn reached(&self) -> Option<bool> {
        self.of_goal().map(|factor| factor <= 1.0)
    }

    /// `reached`, or by how much not and what holds it.
    pub(super) fn verdict(&self) -> String {
        match self.of_goal() {
            None => String::new(),
            Some(factor) if factor <= 1.0 => "reached".to_owned(),
            Some(factor) => {
                format!("**not reached**, by {:.0} %: {}", ((factor - 1.0) * 100.0).ceil(), self.held_by)
            }
        }
    }

    pub(super) fn goal_text(&self) -> String {
        match self.goal {
            None => String::new(),
            Some(Goal::AtMost(most)) => format!("at most {}", text(self.unit, most)),
            Some(Goal::Share(share)) => format!("at most {share:.2} of it"),
        }
    }
}

/// All lines, in the table's order.
pub(super) fn rows(figures: &Comparison) -> Vec<Row> {
    let (ours, peer) = (&figures.ours, &figures.peer);
    let (by_firmware, direct) = (middle(&ours.firmware), middle(&ours.direct));
    let row = |what, unit, of: &dyn Fn(&Side) -> Vec<u64>, goal, held_by: String| Row {
        what,
        unit,
        ours: of(ours),
        peer: of(peer),
        goal,
        held_by,
    };
    let each =
        |boots: &[Stages], moment: fn(Stages) -> u64| boots.iter().copied().map(moment).collect::<Vec<_>>();
    let same_program = |own: Stages, other: Stages| {
        format!(
            "{}; the runtime is the same program on both and starts in {} of ours, in {} of the peer's, whose services start beside it",
            largest(own),
            text(Unit::Milliseconds, own.runtime),
            text(Unit::Milliseconds, other.runtime)
        )
    };
    let taken_off = 100 - ours.compressed * 100 / ours.installed.max(1);
    let none = String::new;
    vec![
        row("installed", Unit::Bytes, &|side| vec![side.installed], Some(Goal::AtMost(40_000_000)), none()),
        row(
            "compressed (zstd -19)",
            Unit::Bytes,
            &|side| vec![side.compressed],
            Some(Goal::Share(0.28)),
            format!("ours is compressed as it is installed, zstd takes {taken_off} % more off it"),
        ),
        Row {
            peer: Vec::new(),
            ..row(
                "without the root (Python, runtime)",
                Unit::Bytes,
                &|_| vec![figures.without_root],
                Some(Goal::AtMost(16_000_000)),
                none(),
            )
        },
        row(
            "QEMU start to first 200, by UEFI",
            Unit::Milliseconds,
            &|side| each(&side.firmware, Stages::to_first_200),
            Some(Goal::Share(1.0 / 3.0)),
            same_program(by_firmware, middle(&peer.firmware)),
        ),
        row(
            "QEMU start to first 200, direct kernel",
            Unit::Milliseconds,
            &|side| each(&side.direct, Stages::to_first_200),
            Some(Goal::Share(1.0 / 3.0)),
            same_program(direct, middle(&peer.direct)),
        ),
        row(
            "QEMU start to the agent's exec, by UEFI",
            Unit::Milliseconds,
            &|side| each(&side.firmware, Stages::to_exec),
            Some(Goal::Share(0.12)),
            largest(Stages { runtime: 0, ..by_firmware }),
        ),
        row(
            "QEMU start to the agent's exec, direct kernel",
            Unit::Milliseconds,
            &|side| each(&side.direct, Stages::to_exec),
            Some(Goal::Share(0.12)),
            largest(Stages { runtime: 0, ..direct }),
        ),
        row(
            "kernel entry to first 200, direct kernel",
            Unit::Milliseconds,
            &|side| each(&side.direct, |stages| stages.to_first_200() - stages.firmware),
            None,
            none(),
        ),
        row(
            "kernel entry to healthy, counted",
            Unit::Instructions,
            &|side| vec![side.instructions],
            None,
            none(),
        ),
        row("processes", Unit::Count, &|side| vec![side.processes], None, none()),
        row(
            "memory besides the agent (PSS)",
            Unit::Kib,
            &|side| side.besides_kib.clone(),
            Some(Goal::Share(1.0 / 6.0)),
            ours.names.join(", "),
        ),
        row("MemAvailable at rest, of 1 GiB", Unit::Kib, &|side| side.available_kib.clone(), None, none()),
        row("executable files", Unit::Count, &|side| vec![side.executables], None, none()),
        row("setuid and setgid files", Unit::Count, &|side| vec![side.setuid], None, none()),
        row("listening sockets", Unit::Count, &|side| vec![side.sockets.len() as u64], None, none()),
    ]
}

/// The stages of a boot with their names, in order.
pub(super) fn named(stages: Stages) -> [(&'static str, u64); 5] {
    [
        ("firmware and loader", stages.firmware),
        ("kernel", stages.kernel),
        ("initramfs", stages.initramfs),
        ("PID 1 to the agent's exec", stages.services),
        ("runtime", stages.runtime),
    ]
}

fn largest(stages: Stages) -> String {
    let total: u64 = named(stages).iter().map(|(_, took)| took).sum();
    let (name, took) = named(stages).into_iter().max_by_key(|(_, took)| *took).unwrap_or_default();
    format!(
        "the largest part of our {} is {name}, {}",
        text(Unit::Milliseconds, total),
        text(Unit::Milliseconds, took)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::figures::tests::example;

    fn row(name: &str) -> Row {
        rows(&example()).into_iter().find(|row| row.what == name).unwrap()
    }

    #[test]
    fn a_share_is_judged_against_the_peer_and_a_limit_against_itself() {
        assert_eq!(row("installed").verdict(), "reached");
        assert_eq!(row("compressed (zstd -19)").reached(), Some(true));
        let mut over = row("compressed (zstd -19)");
        over.ours = vec![42_400_000];
        assert_eq!(over.reached(), Some(false));
        assert!(
            over.verdict().starts_with("**not reached**, by 43 %: ours is compressed"),
            "{}",
            over.verdict()
        );
        let exact = Row { ours: vec![28], peer: vec![100], ..over };
        assert_eq!(exact.reached(), Some(true));
        assert_eq!(row("processes").reached(), None);
    }

    #[test]
    fn what_holds_a_goal_is_the_largest_stage_of_its_own_span() {
        // The runtime comes after the exec, so it can't be what holds that.
        let verdict = row("QEMU start to the agent's exec, by UEFI").verdict();
        assert!(verdict.contains("is firmware and loader, 9.5 s"), "{verdict}");
        let verdict = row("QEMU start to first 200, by UEFI").verdict();
        assert!(
            verdict.contains("is runtime, 12.0 s") && verdict.contains("20.5 s of the peer's"),
            "{verdict}"
        );
    }

    #[test]
    fn a_figure_that_the_peer_does_not_have_has_no_ratio_and_is_still_judged() {
        let row = row("without the root (Python, runtime)");
        assert_eq!((row.ratio(), row.reached()), (None, Some(true)));
    }
}
