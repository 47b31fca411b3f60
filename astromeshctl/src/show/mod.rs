//! What a node answered, for people and for programs.
//!
//! Each function gives text and prints nothing, so that tests see what an operator sees. Strings of a node are cleaned
//! in tables by [`cell`], and in JSON by [`json`].

mod doctor;
mod image;
mod status;
mod svg;
mod timeline;
mod update;

pub use doctor::doctor;
pub use image::{Image, image, image_json};
pub use status::status;
pub use svg::svg;
pub use timeline::boot;
pub use update::{history, release, update_status};

use crate::terminal::{clean, clean_json};
use astromesh_proto::control::{Check, LogLine, Outcome, Stage};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// How output is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether colour may be used.
    pub colour: bool,
}

/// `value` as indented JSON, safe on a terminal.
pub fn json<T: Serialize>(value: &T) -> String {
    // Can't fail: the types of the protocol have string keys and no fallible Serialize.
    clean_json(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// `doctor -o json`: `{"ok": bool, "checks": [...]}`.
pub fn doctor_json(checks: &[Check]) -> String {
    #[derive(Serialize)]
    struct Doctor<'a> {
        ok: bool,
        checks: &'a [Check],
    }
    json(&Doctor { ok: all_green(checks), checks })
}

/// Whether every check is green; no check at all is not green.
pub fn all_green(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| check.ok)
}

/// `boot -o json`: `{"stages": [...]}`.
pub fn boot_json(stages: &[Stage]) -> String {
    #[derive(Serialize)]
    struct Boot<'a> {
        stages: &'a [Stage],
    }
    json(&Boot { stages })
}

/// A log line as one line of text.
pub fn log(line: &LogLine) -> String {
    let (seconds, micros) = (line.at_us / 1_000_000, line.at_us % 1_000_000);
    format!("[{seconds:>6}.{micros:06}] {:<8} {}", clean(&line.source), clean(&line.text))
}

/// A log line as one line of JSON.
pub fn log_json(line: &LogLine) -> String {
    clean_json(&serde_json::to_string(line).unwrap_or_default())
}

/// A table in the house's look.
fn table(look: Look, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

/// A cell with a node's text.
fn cell(text: &str) -> Cell {
    Cell::new(clean(text))
}

fn outcome(outcome: Outcome) -> (&'static str, Color) {
    match outcome {
        Outcome::Done => ("done", Color::Green),
        Outcome::Degraded => ("degraded", Color::Yellow),
        Outcome::Failed => ("failed", Color::Red),
        Outcome::Running => ("running", Color::Cyan),
    }
}

/// Microseconds as milliseconds with one digit.
fn milliseconds(micros: u64) -> String {
    format!("{}.{}", micros / 1000, micros % 1000 / 100)
}
