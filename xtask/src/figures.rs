//! `cargo xtask figures`: docs/figures.md holds the project's figures, and this writes them there.
//!
//! The page is prose with markers, `<!-- figures: NAME -->` to `<!-- /figures -->`. What stands between two markers is
//! rendered from the JSON that the measuring commands save in `bench/`, and from nothing else; a goal stands beside each
//! figure, and whether it is reached is computed. What no command saves is entered by hand in `bench/counted.json` and is
//! called so.
//!
//! Nothing is measured here, so that the page can be checked anywhere: `--check` and a unit test refuse a page that is
//! not what the JSON renders to, and a number outside of the markers.

use crate::{bench, project, size, soak};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

/// The page.
const PAGE: &str = "docs/figures.md";

#[derive(Args)]
pub struct FiguresArguments {
    /// Write nothing; fail where the page is not what the saved figures render to
    #[arg(long)]
    check: bool,
}

/// One marked part of the page.
struct Part {
    /// The marker's name.
    name: &'static str,
    /// The file in `bench/` that it is rendered from.
    from: &'static str,
    /// From the file's bytes to Markdown.
    render: fn(&[u8]) -> Result<String>,
}

/// All parts. The page has each exactly once, in any order.
const PARTS: &[Part] = &[
    Part { name: "size", from: "size.json", render: size::saved_table },
    Part { name: "boot", from: "boot.json", render: bench::boot_goals },
    Part { name: "boot-parts", from: "boot.json", render: bench::boot_parts },
    Part { name: "start", from: "start.json", render: bench::start_table },
    Part { name: "peer", from: "peer.json", render: bench::peer_table },
    Part { name: "soak", from: "soak.json", render: soak::table },
    Part { name: "counted", from: "counted.json", render: counted },
];

/// The command.
pub fn run(arguments: &FiguresArguments) -> Result<()> {
    let path = project().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
    if arguments.check {
        return check(&page, &saved(&project())?);
    }
    let (filled, changed) = fill(&page, &saved(&project())?)?;
    no_number_outside(&filled)?;
    fs::write(&path, filled).with_context(|| format!("{} can't be written", path.display()))?;
    println!(
        "{PAGE}: {}",
        if changed.is_empty() { "nothing changed".to_owned() } else { changed.join(", ") }
    );
    Ok(())
}

/// Every part's name and what the saved figures render to.
fn saved(project: &Path) -> Result<Vec<(&'static str, String)>> {
    PARTS
        .iter()
        .map(|part| {
            let path = project.join("bench").join(part.from);
            let json = match fs::read(&path) {
                Ok(json) => json,
                // A new measurement has its place on the page before its first figures.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok((part.name, format!("Not saved yet: there is no `bench/{}`.", part.from)));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("{} can't be read", path.display()));
                }
            };
            let text =
                (part.render)(&json).with_context(|| format!("{} can't be rendered", path.display()))?;
            Ok((part.name, text.trim_end().to_owned()))
        })
        .collect()
}

/// Refuses a page that is not what the parts make of it, naming the markers.
fn check(page: &str, parts: &[(&str, String)]) -> Result<()> {
    let (_, changed) = fill(page, parts)?;
    ensure!(
        changed.is_empty(),
        "{PAGE} is not what bench/ renders to between the markers of: {}. Run `cargo xtask figures`",
        changed.join(", ")
    );
    no_number_outside(page)
}

/// The page with every part in its place, and the names of those that were not there already.
fn fill(page: &str, parts: &[(&str, String)]) -> Result<(String, Vec<String>)> {
    let (mut filled, mut changed, mut seen) = (String::new(), Vec::new(), Vec::new());
    for piece in pieces(page)? {
        let (name, old) = match piece {
            Piece::Prose(prose) => {
                filled.push_str(prose);
                continue;
            }
            Piece::Part { name, text } => (name, text),
        };
        let (_, new) = parts
            .iter()
            .find(|(one, _)| *one == name)
            .with_context(|| format!("{PAGE} has a marker for {name:?}, which nothing renders"))?;
        ensure!(!seen.contains(&name), "{PAGE} has the marker of {name:?} twice: remove one");
        seen.push(name);
        if old.trim() != new {
            changed.push(name.to_owned());
        }
        let _ = write!(filled, "{OPEN}{name}{END}\n\n{new}\n\n{CLOSE}");
    }
    if let Some((missing, _)) = parts.iter().find(|(name, _)| !seen.contains(name)) {
        bail!("{PAGE} has no marker for {missing:?}: add `{OPEN}{missing}{END}` and `{CLOSE}`");
    }
    Ok((filled, changed))
}

/// What opens a part, before and after its name, and what closes it.
const OPEN: &str = "<!-- figures: ";
const END: &str = " -->";
const CLOSE: &str = "<!-- /figures -->";

/// The page cut at its markers.
enum Piece<'a> {
    /// What people write.
    Prose(&'a str),
    /// What stands between two markers.
    Part { name: &'a str, text: &'a str },
}

fn pieces(page: &str) -> Result<Vec<Piece<'_>>> {
    let (mut pieces, mut rest) = (Vec::new(), page);
    while let Some((prose, after)) = rest.split_once(OPEN) {
        let (name, after) =
            after.split_once(END).with_context(|| format!("{PAGE}: a marker does not end with `{END}`"))?;
        let (text, after) =
            after.split_once(CLOSE).with_context(|| format!("{PAGE}: {name:?} is never closed"))?;
        ensure!(!text.contains(OPEN), "{PAGE}: {name:?} is not closed before the next marker");
        pieces.extend([Piece::Prose(prose), Piece::Part { name, text }]);
        rest = after;
    }
    pieces.push(Piece::Prose(rest));
    Ok(pieces)
}

/// Refuses a number in the prose: it would grow old. What stands in backticks or in a link (the number of a decision) is
/// no figure.
fn no_number_outside(page: &str) -> Result<()> {
    for piece in pieces(page)? {
        let Piece::Prose(prose) = piece else { continue };
        for line in prose.lines() {
            let plain: String = line.split('`').step_by(2).collect();
            let mut words = plain.as_str();
            let mut kept = String::new();
            while let Some((before, link)) = words.split_once('[') {
                kept.push_str(before);
                words = link.split_once(')').map_or("", |(_, after)| after);
            }
            kept.push_str(words);
            if kept.contains(|c: char| c.is_ascii_digit()) {
                bail!(
                    "{PAGE} has a number outside of its markers, in the line {line:?}: give it a place in bench/"
                );
            }
        }
    }
    Ok(())
}

/// A figure that no command saves, entered by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    what: String,
    goal: Option<Goal>,
    measured: Measured,
    /// Of numbers in goal and measured.
    #[serde(default)]
    unit: String,
    /// Only where it can't be computed: with words for a goal or for what was measured.
    verdict: Option<Verdict>,
    /// The command that tells the figure.
    by: String,
    /// The day or the commit it was measured on.
    on: String,
    #[serde(default)]
    note: String,
    /// Of random moments, to play them again.
    #[serde(default)]
    seeds: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    Words(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Measured {
    Number(f64),
    Words(String),
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Reached,
    NotReached,
}

impl Entry {
    /// Whether the goal is reached; none without a goal.
    fn verdict(&self) -> Result<Option<Verdict>> {
        let computed = match (&self.goal, &self.measured) {
            (Some(Goal::AtMost(most)), Measured::Number(value)) => Some(value <= most),
            (Some(Goal::AtLeast(least)), Measured::Number(value)) => Some(value >= least),
            _ => None,
        };
        match (computed, self.verdict, &self.goal) {
            (Some(_), Some(_), _) => bail!("{:?}: the verdict is computed, take it out", self.what),
            (None, Some(_), None) => bail!("{:?} has a verdict and no goal", self.what),
            (None, None, Some(_)) => {
                bail!("{:?}: goal and figure are not both numbers, so give a verdict", self.what)
            }
            (Some(true), None, _) => Ok(Some(Verdict::Reached)),
            (Some(false), None, _) => Ok(Some(Verdict::NotReached)),
            (None, verdict, _) => Ok(verdict),
        }
    }

    fn row(&self) -> Result<String> {
        let with_unit = |number: &f64| format!("{number} {}", self.unit).trim_end().to_owned();
        let goal = match &self.goal {
            None => "-".to_owned(),
            Some(Goal::AtMost(most)) => format!("at most {}", with_unit(most)),
            Some(Goal::AtLeast(least)) => format!("at least {}", with_unit(least)),
            Some(Goal::Words(words)) => words.clone(),
        };
        let measured = match &self.measured {
            Measured::Number(value) => with_unit(value),
            Measured::Words(words) => words.clone(),
        };
        let verdict = match self.verdict()? {
            None => "",
            Some(Verdict::Reached) => "reached",
            Some(Verdict::NotReached) => "**not reached**",
        };
        let mut note = self.note.clone();
        if !self.seeds.is_empty() {
            let _ = write!(note, "; its {} seeds are in `bench/counted.json`", self.seeds.len());
        }
        let Self { what, by, on, .. } = self;
        Ok(format!("| {what} | {goal} | {measured} | {verdict} | {by} | {on} | {note} |"))
    }
}

/// What was entered by hand, as Markdown.
fn counted(json: &[u8]) -> Result<String> {
    let entries: Vec<Entry> = serde_json::from_slice(json).context("an entry is not one")?;
    let rows: Vec<String> = entries.iter().map(Entry::row).collect::<Result<_>>()?;
    Ok(format!(
        "**Entered by hand** in `bench/counted.json`, from what the command prints:\n\n\
         | what | goal | measured | | by | on | |\n|---|--:|--:|---|---|---|---|\n{}\n",
        rows.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "Before.\n<!-- figures: a -->\n\n| 1 |\n\n<!-- /figures -->\nAfter.\n";

    fn parts(text: &str) -> Vec<(&'static str, String)> {
        vec![("a", text.to_owned())]
    }

    #[test]
    fn the_page_is_what_the_saved_figures_render_to() {
        let page = fs::read_to_string(project().join(PAGE)).unwrap();
        check(&page, &saved(&project()).unwrap()).unwrap();
    }

    #[test]
    fn a_figure_that_was_changed_by_hand_is_refused_and_its_marker_named() {
        check(SMALL, &parts("| 1 |")).unwrap();
        let refusal = check(SMALL, &parts("| 2 |")).unwrap_err().to_string();
        assert!(refusal.contains("markers of: a."), "{refusal}");
        let (filled, changed) = fill(SMALL, &parts("| 2 |")).unwrap();
        assert_eq!((filled, changed), (SMALL.replace("| 1 |", "| 2 |"), vec!["a".to_owned()]));
    }

    #[test]
    fn a_marker_that_is_unknown_twice_missing_or_open_is_refused() {
        for (page, reason) in [
            (SMALL.replace("figures: a", "figures: b"), "which nothing renders"),
            (SMALL.repeat(2), "twice"),
            ("Nothing.\n".to_owned(), "no marker for \"a\""),
            (SMALL.replace(CLOSE, ""), "never closed"),
            (SMALL.replacen(CLOSE, "", 1) + SMALL, "before the next marker"),
        ] {
            let refusal = fill(&page, &parts("| 1 |")).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn a_number_outside_of_the_markers_is_refused() {
        check(&SMALL.replace("After.", "As [016](decisions/016.md) says, `zstd -19`."), &parts("| 1 |"))
            .unwrap();
        for prose in ["It takes 3 s.", "`a` 3 `b`", "[link](to) 3"] {
            let page = SMALL.replace("After.", prose);
            assert!(check(&page, &parts("| 1 |")).unwrap_err().to_string().contains(prose));
        }
    }

    fn entry(goal: &str, measured: &str, verdict: &str) -> Result<String> {
        let verdict = if verdict.is_empty() { "null".to_owned() } else { format!("\"{verdict}\"") };
        let json = format!(
            r#"[{{"what": "w", "goal": {goal}, "measured": {measured}, "unit": "s", "verdict": {verdict},
                 "by": "b", "on": "o"}}]"#
        );
        counted(json.as_bytes())
    }

    #[test]
    fn a_verdict_is_computed_from_numbers_and_entered_only_for_words() {
        for (goal, measured, verdict, row) in [
            (r#"{"at_most": 2}"#, "2", "", "| w | at most 2 s | 2 s | reached | b | o |  |"),
            (r#"{"at_most": 2}"#, "2.5", "", "| at most 2 s | 2.5 s | **not reached** |"),
            (r#"{"at_least": 2}"#, "1.5", "", "| at least 2 s | 1.5 s | **not reached** |"),
            (r#"{"words": "nothing"}"#, r#""some""#, "not_reached", "| nothing | some | **not reached** |"),
            ("null", "2", "", "| w | - | 2 s |  |"),
        ] {
            let text = entry(goal, measured, verdict).unwrap();
            assert!(text.contains(row) && text.contains("Entered by hand"), "{text}");
        }
        assert!(entry(r#"{"at_most": 2}"#, "3", "reached").is_err());
        assert!(entry(r#"{"words": "nothing"}"#, "0", "").is_err());
        assert!(entry("null", "2", "reached").is_err());
    }
}
