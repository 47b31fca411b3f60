//! `boot --svg`: the boot's time line as a picture for a page or a report.
//!
//! Plain text building; every string of a node is cleaned and escaped, so that a note can't become markup.

use super::look::{milliseconds, outcome};
use super::timeline::span;
use crate::terminal::clean;
use astromesh_proto::control::{Stage, StageOutcome};
use std::fmt::Write;

const ROW: usize = 30;
const TOP: usize = 64;
const LEFT: u64 = 150;
const WIDTH: u64 = 700;
const TOTAL: u64 = 960;

/// The stages as an SVG document.
pub fn svg(node: &str, stages: &[Stage]) -> String {
    let (from, to) = span(stages);
    let height = TOP + stages.len() * ROW + 44;
    let bottom = TOP + stages.len() * ROW + 6;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {TOTAL} {height}" width="{TOTAL}" height="{height}" font-family="system-ui, sans-serif" font-size="13">
<rect width="100%" height="100%" rx="10" fill="#0f172a"/>
<text x="24" y="34" font-size="18" font-weight="600" fill="#f1f5f9">Boot of {}</text>
<text x="{}" y="34" text-anchor="end" fill="#94a3b8">{} ms</text>
"##,
        escape(node),
        TOTAL - 24,
        milliseconds(to - from)
    );
    for tick in ticks(to - from) {
        let x = place(tick, to - from);
        let _ = write!(
            out,
            r##"<line x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}" stroke="#334155"/>
<text x="{x}" y="{}" text-anchor="middle" font-size="11" fill="#94a3b8">{}</text>
"##,
            bottom + 18,
            milliseconds(tick)
        );
    }
    for (row, stage) in stages.iter().enumerate() {
        let y = TOP + row * ROW;
        let x = place(stage.started_us.saturating_sub(from), to - from);
        let end = place(stage.started_us.saturating_add(stage.took_us).saturating_sub(from), to - from);
        let width = end.saturating_sub(x).max(3);
        let (word, _) = outcome(stage.outcome);
        let _ = write!(
            out,
            r##"<g><title>{name}: {word}, at {at} ms, took {took} ms. {note}</title>
<text x="{}" y="{}" text-anchor="end" fill="#e2e8f0">{name}</text>
<rect x="{x}" y="{}" width="{width}" height="18" rx="4" fill="{}"/>
<text x="{}" y="{}" font-size="11" fill="#cbd5e1">{took}</text></g>
"##,
            LEFT - 12,
            y + 19,
            y + 6,
            colour(stage.outcome),
            x + width + 6,
            y + 19,
            name = escape(&stage.name),
            note = escape(&stage.note),
            at = milliseconds(stage.started_us),
            took = milliseconds(stage.took_us),
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Horizontal place of a moment, in pixels.
fn place(micros: u64, length: u64) -> u64 {
    let scaled = u128::from(micros) * u128::from(WIDTH) / u128::from(length.max(1));
    LEFT + u64::try_from(scaled).unwrap_or(WIDTH).min(WIDTH)
}

/// Four to ten round moments between nothing and `length`.
fn ticks(length: u64) -> Vec<u64> {
    let mut step = 1_u64;
    for factor in [2, 5, 10].iter().cycle().take(60) {
        if length / step <= 8 {
            break;
        }
        let decade = 10_u64.saturating_pow(step.ilog10());
        step = decade.saturating_mul(*factor);
    }
    (0..=length / step).map(|count| count * step).collect()
}

fn colour(outcome: StageOutcome) -> &'static str {
    match outcome {
        StageOutcome::Done => "#34d399",
        StageOutcome::Degraded => "#fbbf24",
        StageOutcome::Failed => "#f87171",
        StageOutcome::Running => "#38bdf8",
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for character in clean(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => {} // Not in XML.
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_node_never_becomes_markup() {
        let stage = Stage {
            name: "<script>".into(),
            started_us: 5,
            took_us: 7,
            idle_us: 0,
            outcome: StageOutcome::Failed,
            note: "\"'&\u{1b}[31m</title>".into(),
        };
        let picture = svg("</text>", &[stage]);
        assert!(!picture.contains("<script>") && !picture.contains('\u{1b}'));
        assert_eq!(picture.matches("</title>").count(), 1);
        assert!(picture.contains("&lt;script&gt;"));
    }

    #[test]
    fn ticks_are_few_and_round_for_any_length() {
        for length in [0, 1, 9, 10, 999, 1234, 123_456, 9_999_999, u64::MAX] {
            let ticks = ticks(length);
            assert!((1..=10).contains(&ticks.len()), "{length}: {}", ticks.len());
        }
        assert_eq!(ticks(1_234_567)[..3], [0, 200_000, 400_000]);
    }
}
