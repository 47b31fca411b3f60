//! `status`: who a node is and how it is.

use super::look::{Look, cell, table};
use crate::terminal::clean;
use astromesh_proto::control::{Mode, Status};
use comfy_table::{Cell, CellAlignment, Color};

/// The node as a table, and its processes as another.
pub fn status(status: &Status, look: Look) -> String {
    let (health, colour) = match (status.mode, status.healthy) {
        (Mode::Maintenance, _) => ("maintenance: control API only", Color::Red),
        (Mode::Stopping, _) => ("stopping", Color::Yellow),
        (Mode::Running, true) => ("healthy", Color::Green),
        (Mode::Running, false) => ("not healthy", Color::Red),
    };
    let mut node = table(look, &["node", if status.node.is_empty() { "(no machine-config)" } else { "" }]);
    if !status.node.is_empty() {
        node.set_header([cell("node"), cell(&status.node)]);
    }
    node.add_row([Cell::new("state"), Cell::new(health).fg(colour)]);
    for (name, value) in [
        ("reason", clean(&status.reason)),
        ("hostname", clean(&status.hostname)),
        ("version", clean(&status.version)),
        ("root hash", clean(&status.root_hash)),
        ("up", duration(status.uptime_ms)),
        ("addresses", clean(&status.addresses.join(" "))),
        ("memory", memory(status)),
    ] {
        if !value.is_empty() {
            node.add_row([Cell::new(name), Cell::new(value)]);
        }
    }
    let mut services = table(look, &["service", "pid", "restarts", "RSS KiB", "PSS KiB"]);
    for service in &status.services {
        let pid = if service.pid == 0 { "-".to_owned() } else { service.pid.to_string() };
        let number = |value: String| Cell::new(value).set_alignment(CellAlignment::Right);
        services.add_row([
            cell(&service.name),
            number(pid),
            number(service.restarts.to_string()),
            number(service.rss_kib.to_string()),
            number(service.pss_kib.to_string()),
        ]);
    }
    if status.services.is_empty() { format!("{node}\n") } else { format!("{node}\n{services}\n") }
}

fn memory(status: &Status) -> String {
    format!("{} MiB of {} MiB available", status.memory_available_kib / 1024, status.memory_total_kib / 1024)
}

fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
