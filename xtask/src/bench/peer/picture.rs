//! The comparison as one picture: bars against the peer's, and where the time of a boot goes.
//!
//! The SVG is written here because it is forty rectangles; a plotting library would bring more code than the project
//! has for this. `rsvg-convert` makes the PNG of it.

use super::figures::{Comparison, middle};
use super::machine::Stages;
use super::rows::{Goal, Row, named, rows};
use crate::statistics::median;
use crate::statistics::{Unit, as_f64, text, with_range};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What rendering needs beyond the other commands.
pub(super) const HOST_PACKAGES: &[(&str, &str)] = &[
    ("librsvg2-bin", "`rsvg-convert` makes a PNG of the picture"),
    ("fonts-dejavu-core", "the letters in it"),
];

const WIDTH: f64 = 1480.0;
/// Where bars begin, and how long the peer's is.
const LEFT: f64 = 382.0;
const FULL: f64 = 560.0;
const ROW: f64 = 46.0;
const TOP: f64 = 150.0;

const INK: &str = "#1b2733";
const FAINT: &str = "#66727f";
const OURS: &str = "#12777c";
const PEER: &str = "#c6ccd4";
const GOAL: &str = "#c2410c";
/// One for each stage, in order: firmware, kernel, initramfs, PID 1, runtime.
const STAGES: [&str; 5] = ["#94a3b8", "#4c6fa5", "#e0a93b", "#c8553d", "#12777c"];

/// Writes `peer.png` as `out`.
pub(super) fn write(figures: &Comparison, out: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let source = scratch.path().join("peer.svg");
    std::fs::write(&source, svg(figures))?;
    let mut render = Command::new("rsvg-convert");
    // Twice its size, so that it is sharp on a dense screen.
    render.args(["--zoom", "2", "--background-color", "white", "--output"]).arg(out).arg(&source);
    super::command::run(&mut render, "the picture can't be rendered")
        .context("run `cargo xtask bench peer` as root once")
}

/// The lines that get bars: those in which less is better and both sides have a figure.
fn bars(figures: &Comparison) -> Vec<Row> {
    rows(figures)
        .into_iter()
        .filter(|row| row.ratio().is_some() && !row.what.starts_with("MemAvailable"))
        .collect()
}

fn svg(figures: &Comparison) -> String {
    let bars = bars(figures);
    let stages_top = TOP + as_f64(bars.len() as u64) * ROW + 70.0;
    let height = stages_top + 330.0;
    let mut page = Page(String::new());
    let _ = write!(
        page.0,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"DejaVu Sans\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    page.words(
        40.0,
        52.0,
        26,
        INK,
        "start\" font-weight=\"bold",
        "Astromesh OS against Debian with the same agent runtime",
    );
    let runs = figures.ours.firmware.len();
    let machine = &figures.machine;
    let subtitle = format!(
        "{} on {} host processors, guests with 2 CPUs and 1 GiB; times are medians of {runs} interleaved boots each, \
         whiskers their ranges",
        if machine.accelerator == "kvm" { "QEMU with KVM" } else { "QEMU emulating (TCG)" },
        machine.host_processors
    );
    page.words(40.0, 80.0, 14, FAINT, "start", &subtitle);
    key(&mut page);
    for (index, row) in bars.iter().enumerate() {
        bar(&mut page, row, TOP + as_f64(index as u64) * ROW);
    }
    where_time_goes(&mut page, figures, stages_top);
    page.0 += "</svg>\n";
    page.0
}

fn key(page: &mut Page) {
    let y = 106.0;
    for (x, colour, words) in
        [(LEFT, OURS, "Astromesh OS"), (LEFT + 150.0, PEER, "Debian, systemd (full length)")]
    {
        page.block(x, y, 14.0, 14.0, colour);
        page.words(x + 21.0, y + 12.0, 13, INK, "start", words);
    }
    page.line(LEFT + 415.0, y - 1.0, LEFT + 415.0, y + 15.0, GOAL, 2.5);
    page.words(LEFT + 424.0, y + 12.0, 13, INK, "start", "goal: at most");
    page.words(WIDTH - 245.0, y + 12.0, 13, FAINT, "end", "of the peer's");
    page.words(WIDTH - 40.0, y + 12.0, 13, FAINT, "end", "goal");
}

fn bar(page: &mut Page, row: &Row, y: f64) {
    let base = as_f64(median(&row.peer));
    let scale = |value: u64| as_f64(value) / base * FULL;
    page.words(LEFT - 14.0, y + 20.0, 14, INK, "end", row.what);
    page.block(LEFT, y + 4.0, FULL, 12.0, PEER);
    // Something is drawn for something, however little.
    let own = if median(&row.ours) == 0 { 0.0 } else { scale(median(&row.ours)).max(1.5) };
    page.block(LEFT, y + 18.0, own, 14.0, OURS);
    page.whisker(&row.peer, y + 10.0, &scale);
    page.whisker(&row.ours, y + 25.0, &scale);
    if let Some(goal) = row.goal_ratio() {
        let x = LEFT + goal * FULL;
        page.line(x, y + 1.0, x, y + 35.0, GOAL, 2.5);
    }
    let behind = row
        .ours
        .iter()
        .copied()
        .max()
        .map_or(own, scale)
        .max(own)
        .max(row.goal_ratio().unwrap_or(0.0) * FULL);
    page.words(
        LEFT + behind + 10.0,
        y + 30.0,
        12,
        OURS,
        "start\" font-weight=\"bold",
        &with_range(row.unit, &row.ours),
    );
    let beyond = row.peer.iter().copied().max().map_or(FULL, scale).max(FULL);
    page.words(LEFT + beyond + 10.0, y + 15.0, 12, FAINT, "start", &with_range(row.unit, &row.peer));
    let ratio = row.ratio().map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
    page.words(WIDTH - 245.0, y + 27.0, 17, INK, "end\" font-weight=\"bold", &ratio);
    let goal = match row.goal {
        None => return,
        Some(Goal::AtMost(most)) => text(row.unit, most),
        Some(Goal::Share(share)) => format!("{share:.2}"),
    };
    let (word, colour) = if row.reached() == Some(true) { ("reached", OURS) } else { ("not reached", GOAL) };
    page.words(WIDTH - 40.0, y + 27.0, 13, colour, "end", &format!("{goal}, {word}"));
}

fn where_time_goes(page: &mut Page, figures: &Comparison, top: f64) {
    page.words(40.0, top, 18, INK, "start\" font-weight=\"bold", "Where the time to the first 200 goes");
    let mut x = LEFT;
    for ((name, _), colour) in named(Stages::default()).iter().zip(STAGES) {
        page.block(x, top + 16.0, 14.0, 14.0, colour);
        page.words(x + 20.0, top + 28.0, 13, INK, "start", name);
        x += 48.0 + 8.2 * as_f64(name.len() as u64);
    }
    let lines = [
        ("Debian, by UEFI", middle(&figures.peer.firmware)),
        ("Astromesh OS, by UEFI", middle(&figures.ours.firmware)),
        ("Debian, direct kernel", middle(&figures.peer.direct)),
        ("Astromesh OS, direct kernel", middle(&figures.ours.direct)),
    ];
    let longest = lines.iter().map(|(_, stages)| stages.to_first_200()).max().unwrap_or(1).max(1);
    let full = WIDTH - LEFT - 130.0;
    for (index, (name, stages)) in lines.iter().enumerate() {
        let gap = if index > 1 { 14.0 } else { 0.0 };
        let y = top + 48.0 + as_f64(index as u64) * 46.0 + gap;
        page.words(LEFT - 14.0, y + 21.0, 14, INK, "end", name);
        let mut x = LEFT;
        for ((_, took), colour) in named(*stages).iter().zip(STAGES) {
            let width = as_f64(*took) / as_f64(longest) * full;
            page.block(x, y, width, 32.0, colour);
            if width > 44.0 {
                let seconds = text(Unit::Milliseconds, *took);
                page.words(x + width / 2.0, y + 21.0, 12, "#ffffff", "middle", &seconds);
            }
            x += width;
        }
        let total = text(Unit::Milliseconds, stages.to_first_200());
        page.words(x + 10.0, y + 21.0, 14, INK, "start\" font-weight=\"bold", &total);
    }
    let note = "Of each, the boot in the middle. The runtime is the same program, started by the same launcher, on both. \
                By UEFI: OVMF and systemd-boot; direct: QEMU puts kernel and initramfs into memory.";
    page.words(40.0, top + 276.0, 12, FAINT, "start", note);
}

/// SVG text in the making. Writing to a String can't fail.
struct Page(String);

impl Page {
    fn block(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>"
        );
    }

    /// `anchor` is `start`, `middle` or `end`, and what else the element has.
    fn words(&mut self, x: f64, y: f64, size: u32, colour: &str, anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{words}</text>"
        );
    }

    /// The range of several values; nothing where there is none to see.
    fn whisker(&mut self, values: &[u64], y: f64, scale: &impl Fn(u64) -> f64) {
        let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else { return };
        let (from, to) = (LEFT + scale(low), LEFT + scale(high));
        if to - from > 2.0 {
            self.line(from, y, to, y, INK, 1.4);
            for x in [from, to] {
                self.line(x, y - 4.0, x, y + 4.0, INK, 1.4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::figures::tests::example;

    #[test]
    fn every_bar_has_its_label_its_ratio_and_its_goal() {
        let picture = svg(&example());
        for words in
            ["installed", "0.115", "40.0 MB, reached", "memory besides the agent (PSS)", "0.12, not reached"]
        {
            assert!(picture.contains(words), "{words}");
        }
        // More memory available is better: a bar would read the wrong way round.
        assert!(!picture.contains("MemAvailable"));
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
    }

    #[test]
    fn our_bar_is_as_long_as_its_part_of_the_peers() {
        let picture = svg(&example());
        let width = 32.0 / 279.0 * FULL;
        assert!(picture.contains(&format!("width=\"{width:.1}\" height=\"14.0\" fill=\"{OURS}\"")));
    }

    #[test]
    fn the_stages_of_a_bar_make_up_its_length() {
        let picture = svg(&example());
        let full = WIDTH - LEFT - 130.0;
        let longest = as_f64(middle(&example().peer.firmware).to_first_200());
        let runtime = 20_500.0 / longest * full;
        assert!(picture.contains(&format!("width=\"{runtime:.1}\" height=\"32.0\" fill=\"{}\"", STAGES[4])));
    }
}
