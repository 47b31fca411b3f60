//! One record of `/dev/kmsg` as a log line: a pure function (Documentation/ABI/testing/dev-kmsg).

use crate::ring::text_of;
use astromesh_node::process::{Kind, PROCESSES};
use astromesh_proto::control::LogLine;

/// Whether this is the name of a process that logs: each line of one begins with its name and a colon. A part of a process
/// logs under the name of the whole.
fn is_source(name: &str) -> bool {
    PROCESSES.iter().any(|process| process.name() == name && !matches!(process.kind, Kind::Part(_)))
}

/// The line in a record: `priority,sequence,microseconds,flags;text`, then continuation lines. `None` for what is no
/// record.
pub fn parse(record: &[u8]) -> Option<LogLine> {
    let end = record.iter().position(|&byte| byte == b';')?;
    let mut fields = core::str::from_utf8(&record[..end]).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let at_us = fields.nth(1)?.parse().ok()?;
    let text = &record[end + 1..];
    let text = &text[..text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len())];
    let text = text_of(text);
    // Facility 0 is the kernel's own; no process can claim it.
    let service = (priority >> 3 != 0)
        .then(|| text.split_once(": ").filter(|(name, _)| is_source(name)))
        .flatten()
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    let (source, text) = service.unwrap_or_else(|| ("kernel".to_owned(), text));
    Some(LogLine { at_us, source, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_service_is_told_from_the_kernels_own() {
        let line = parse(b"30,712,2500000,-;net: eth0: 10.0.2.15/24\n SUBSYSTEM=x\n").unwrap();
        assert_eq!((line.source.as_str(), line.text.as_str()), ("net", "eth0: 10.0.2.15/24"));
        assert_eq!(line.at_us, 2_500_000);
        for name in ["init", "slots", "update", "metadata", "agent"] {
            let line = parse(format!("29,713,2500001,-;{name}: text\n").as_bytes()).unwrap();
            assert_eq!((line.source.as_str(), line.text.as_str()), (name, "text"));
        }
        let line = parse(b"30,714,2500002,-;install: text\n").unwrap();
        assert_eq!((line.source.as_str(), line.text.as_str()), ("kernel", "install: text"));
        let line = parse(b"6,1,0,-;net: registered\n").unwrap();
        assert_eq!((line.source.as_str(), line.text.as_str()), ("kernel", "net: registered"));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in [&b""[..], b"6", b"6,1,0,-", b"x,1,0,-;text", b";text", b"\xff,1,2,-;x"] {
            assert_eq!(parse(record), None);
        }
    }
}
