//! `config validate`: the node's own validation of a machine-config, with the line it is about.
//!
//! The line is shown with what is behind a key that holds a secret masked: the report ends up in tickets.

use crate::terminal::clean;
use astromesh_proto::machine_config::{ConfigError, MachineConfig};

/// Longest part of a line that is shown, in characters.
const SHOWN: usize = 100;

/// Reads `bytes` as the node would.
pub fn validate(bytes: &[u8]) -> Result<MachineConfig, ConfigError> {
    MachineConfig::parse(bytes)
}

/// The error with the place in the document, for people.
pub fn report(name: &str, bytes: &[u8], error: &ConfigError) -> String {
    let mut lines = vec![format!("{}: {}", clean(name), clean(&error.to_string()))];
    let text = String::from_utf8_lossy(bytes);
    if let Some(number) = error.line
        && let Some(line) = text.lines().nth(usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX))
    {
        let shown: String = clean(&mask(line)).chars().take(SHOWN).collect();
        let gutter = number.to_string();
        lines.push(format!("  {gutter} | {shown}"));
        let column =
            error.column.map_or(usize::MAX, |column| usize::try_from(column - 1).unwrap_or(usize::MAX));
        if column <= shown.chars().count() {
            lines.push(format!("  {} | {}^", " ".repeat(gutter.len()), " ".repeat(column)));
        }
    }
    if !error.hint.is_empty() {
        lines.push(format!("  hint: {}", clean(&error.hint)));
    }
    lines.join("\n") + "\n"
}

/// `line` without what may be secret: what follows `apiKey` or `key`, and lines that may be inside a PEM block.
fn mask(line: &str) -> String {
    const MASK: &str = "(not shown)";
    let lower = line.to_ascii_lowercase();
    for key in ["apikey", "api_key", "key\"", "key'", "key:"] {
        if let Some(at) = lower.find(key) {
            let after = at + key.len();
            let rest = &lower[after..];
            // `apiKeyEnv` names a variable; but people paste keys there, so it is masked as well.
            let end = rest.find(':').map_or(after, |colon| after + colon + 1);
            return if end < line.len() { format!("{} {MASK}", &line[..end]) } else { line.to_owned() };
        }
    }
    let trimmed = line.trim_start();
    let indent = &line[..line.len() - trimmed.len()];
    if trimmed.len() > 40 && !trimmed.contains([' ', ':']) {
        return format!("{indent}{MASK}");
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_shows_the_line_and_points_at_the_column() {
        let bytes = b"apiVersion: astromesh.os/v1\nkind: Machine\n";
        let report = report("file", bytes, &validate(bytes).unwrap_err());
        assert!(report.contains("  2 | kind: Machine\n    |       ^\n"), "{report}");
    }

    #[test]
    fn what_is_no_machine_config_is_named_as_what_it_is() {
        for (bytes, word) in [
            (&b"\xef\xbb\xbf#cloud-config\nusers: []\n"[..], "#cloud-config"),
            (b"#cloud-config\nusers: []\n", "#cloud-config"),
            (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip"),
            (b"#!/bin/sh\nreboot\n", "script"),
        ] {
            let report = report("file", bytes, &validate(bytes).unwrap_err());
            assert!(report.contains(word) && report.contains("apiVersion"), "{report}");
        }
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_masked() {
        for line in [
            "    apiKey: \"sk-1",
            "{apiKey: sk-1",
            "  - {name: a, \"apiKey\": \"sk-1\"}",
            "  api_key_env: sk-1",
            "  apiKeyEnv: sk-1",
            "  key: sk-1",
            "    sk-1MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
        ] {
            assert!(!mask(line).contains("sk-1"), "{line} -> {}", mask(line));
        }
        assert_eq!(mask("  id: node-1"), "  id: node-1");
    }
}
