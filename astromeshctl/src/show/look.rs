//! How output looks: tables, colours, cells and JSON. Every answer is shown with these.

use crate::terminal::{clean, clean_json};
use astromesh_proto::control::StageOutcome;
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

/// A table in the house's look.
pub(super) fn table(look: Look, header: &[&str]) -> Table {
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
pub(super) fn cell(text: &str) -> Cell {
    Cell::new(clean(text))
}

pub(super) fn outcome(outcome: StageOutcome) -> (&'static str, Color) {
    match outcome {
        StageOutcome::Done => ("done", Color::Green),
        StageOutcome::Degraded => ("degraded", Color::Yellow),
        StageOutcome::Failed => ("failed", Color::Red),
        StageOutcome::Running => ("running", Color::Cyan),
    }
}

/// Microseconds as milliseconds with one digit.
pub(super) fn milliseconds(micros: u64) -> String {
    format!("{}.{}", micros / 1000, micros % 1000 / 100)
}
