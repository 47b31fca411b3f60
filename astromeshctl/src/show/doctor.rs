//! `doctor`: every check, the red ones with what to do.

use super::look::{Look, cell, table};
use astromesh_proto::control::Check;
use comfy_table::{Cell, Color};

/// The checks as a table, and a line that sums them up.
pub fn doctor(checks: &[Check], look: Look) -> String {
    let mut rows = table(look, &["check", "", "found", "next"]);
    for check in checks {
        let (mark, colour) = if check.ok { ("ok", Color::Green) } else { ("RED", Color::Red) };
        rows.add_row([cell(&check.name), Cell::new(mark).fg(colour), cell(&check.detail), cell(&check.hint)]);
    }
    let red = checks.iter().filter(|check| !check.ok).count();
    let sum = match (all_green(checks), red) {
        (true, _) => format!("all {} checks are green", checks.len()),
        (false, 0) => "the node made no check at all".to_owned(),
        (false, red) => format!("{red} of {} checks red", checks.len()),
    };
    format!("{rows}\n{sum}\n")
}

/// Whether every check is green; no check at all is not green.
pub fn all_green(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| check.ok)
}
