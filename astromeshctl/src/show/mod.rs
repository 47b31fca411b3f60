//! What a node answered, for people and for programs.
//!
//! Each function gives text and prints nothing, so that tests see what an operator sees. Strings of a node are cleaned
//! in tables by `look::cell`, and in JSON by [`json`].

mod doctor;
mod image;
mod look;
mod status;
mod svg;
mod timeline;
mod update;

pub use doctor::{all_green, doctor};
pub use image::{Image, image, image_json};
pub use look::{Look, json};
pub use status::status;
pub use svg::svg;
pub use timeline::boot;
pub use update::{history, release, update_status};

use crate::terminal::{clean, clean_json};
use astromesh_proto::control::{Check, LogLine, Stage};
use serde::Serialize;

/// `doctor -o json`: `{"ok": bool, "checks": [...]}`.
pub fn doctor_json(checks: &[Check]) -> String {
    #[derive(Serialize)]
    struct Doctor<'a> {
        ok: bool,
        checks: &'a [Check],
    }
    json(&Doctor { ok: all_green(checks), checks })
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
