//! `boot`: the stages on one time line, each bar where and as long as the stage was.

use super::look::{Look, cell, milliseconds, outcome, table};
use astromesh_proto::control::Stage;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, Width};

/// Width of the bars where there is room, in characters; each is drawn in eighths.
const WIDTH: u16 = 40;

/// What the other columns of the table need, with short notes.
const OTHERS: u16 = 62;

/// Left parts of a character, from one eighth to the whole (Unicode block elements).
const LEFT: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// The stages as a table with bars.
pub fn boot(stages: &[Stage], look: Look) -> String {
    let (from, to) = span(stages);
    let mut rows = table(look, &["stage", "at ms", "took ms", "outcome", "", "note"]);
    // A bar that is wrapped is no bar: on a narrow terminal it is drawn shorter.
    let width = rows.width().map_or(WIDTH, |columns| columns.saturating_sub(OTHERS).clamp(8, WIDTH));
    for stage in stages {
        let (word, colour) = outcome(stage.outcome);
        let number = |micros| Cell::new(milliseconds(micros)).set_alignment(CellAlignment::Right);
        rows.add_row([
            cell(&stage.name),
            number(stage.started_us),
            number(stage.took_us),
            Cell::new(word).fg(colour),
            Cell::new(bar(stage, from, to, width)).fg(colour),
            cell(&stage.note),
        ]);
    }
    if let Some(column) = rows.column_mut(4) {
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + 2)));
    }
    format!("{rows}\n{} ms from the first stage to the end of the last\n", milliseconds(to - from))
}

/// When the first stage began and the last one ended.
pub(super) fn span(stages: &[Stage]) -> (u64, u64) {
    let from = stages.iter().map(|stage| stage.started_us).min().unwrap_or(0);
    let to = stages.iter().map(|stage| stage.started_us.saturating_add(stage.took_us)).max().unwrap_or(0);
    (from, to.max(from))
}

/// A stage's bar: never empty, since a stage that took no time still was.
fn bar(stage: &Stage, from: u64, to: u64, width: u16) -> String {
    let eighths = u128::from(width) * 8;
    let length = u128::from(to - from).max(1);
    let place = |micros: u64| u128::from(micros.saturating_sub(from)) * eighths / length;
    let begin = place(stage.started_us).min(eighths - 1);
    let end = place(stage.started_us.saturating_add(stage.took_us)).clamp(begin + 1, eighths);
    // Blocks fill from the left only: the first character of a bar is drawn whole or as long as the bar is.
    let column = usize::try_from(begin / 8).unwrap_or(0);
    let mut left = usize::try_from(end - begin / 8 * 8).unwrap_or(0);
    let mut bar = " ".repeat(column);
    while left > 0 {
        let part = left.min(8);
        bar.push(LEFT[part - 1]);
        left -= part;
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_proto::control::StageOutcome;

    fn stage(name: &str, started_us: u64, took_us: u64) -> Stage {
        Stage {
            name: name.into(),
            started_us,
            took_us,
            idle_us: 0,
            outcome: StageOutcome::Done,
            note: String::new(),
        }
    }

    #[test]
    fn bars_lie_where_the_stages_were() {
        let stages = [stage("early", 1000, 500), stage("root", 1500, 500)];
        let (from, to) = span(&stages);
        assert_eq!(bar(&stages[0], from, to, WIDTH), "█".repeat(20));
        assert_eq!(bar(&stages[1], from, to, WIDTH), " ".repeat(20) + &"█".repeat(20));
    }

    #[test]
    fn no_numbers_of_a_node_make_a_bar_too_long_or_panic() {
        for (started, took) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0), (5, 1)] {
            let stages = [stage("a", started, took), stage("b", 7, 3)];
            let (from, to) = span(&stages);
            for stage in &stages {
                let width = bar(stage, from, to, WIDTH).chars().count();
                assert!((1..=40).contains(&width), "{started} {took}: {width}");
            }
            boot(&stages, Look { colour: false });
        }
        boot(&[], Look { colour: true });
    }
}
