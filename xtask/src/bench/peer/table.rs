//! The comparison as Markdown: one table, the stages of both boots, and what was compared.

use super::figures::{Comparison, middle};
use super::rows::{named, rows};
use crate::statistics::{Unit, text, with_range};
use std::fmt::Write as _;

/// The whole report. Writing to a String can't fail.
pub(super) fn markdown(figures: &Comparison) -> String {
    let mut out = String::from("| | ours | peer | ours / peer | goal | |\n|---|--:|--:|--:|--:|---|\n");
    for row in rows(figures) {
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let (ours, peer) = (with_range(row.unit, &row.ours), with_range(row.unit, &row.peer));
        let (goal, verdict) = (row.goal_text(), row.verdict());
        let _ = writeln!(out, "| {} | {ours} | {peer} | {ratio} | {goal} | {verdict} |", row.what);
    }
    out += "\nWhere the time goes, of each the boot in the middle:\n\n";
    out += "| stage | ours, UEFI | peer, UEFI | ours, direct | peer, direct |\n|---|--:|--:|--:|--:|\n";
    let columns =
        [&figures.ours.firmware, &figures.peer.firmware, &figures.ours.direct, &figures.peer.direct];
    let columns = columns.map(|boots| named(middle(boots)));
    for (index, (name, _)) in columns[0].iter().enumerate() {
        let cells = columns.map(|column| text(Unit::Milliseconds, column[index].1));
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
    out += "\n";
    out += &notes(figures);
    out
}

fn notes(figures: &Comparison) -> String {
    let (machine, built) = (&figures.machine, &figures.built);
    let runs = figures.ours.firmware.len();
    let mut out = format!(
        "* {}, {}, {} host processors; guests with q35, 2 CPUs, 1 GiB, virtio, a closed network; {runs} interleaved boots \
         of each by each way, medians with ranges. Instructions: one boot each, direct, on 1 CPU, idle time taken off.\n",
        machine.qemu, machine.accelerator, machine.host_processors
    );
    let _ = writeln!(
        out,
        "* Installed: ours boot loader, unified kernel image, root and hash tree as they lie on the disk; the peer's boot \
         loader and the bytes of all its files ({} of {}), without what its file system adds.",
        built.weight.files,
        text(Unit::Bytes, built.weight.bytes)
    );
    let versions: Vec<_> = ["linux-image-", "systemd", "python3.13", "libc6"]
        .iter()
        .filter_map(|wanted| {
            built.packages.iter().find(|(name, _)| {
                name == wanted
                    || wanted.ends_with('-') && name.starts_with(wanted) && name.contains("-cloud-")
            })
        })
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = writeln!(
        out,
        "* The peer: {} packages, {}; {} Python modules with byte code that is used, {} of them loaded by a start.",
        built.packages.len(),
        versions.join(", "),
        built.bytecode,
        built.imported
    );
    for (name, side) in [("ours", &figures.ours), ("peer", &figures.peer)] {
        let _ = writeln!(out, "* Listening, {name}: {}.", side.sockets.join(", "));
        let _ = writeln!(out, "* Processes, {name}: {}.", side.names.join("; "));
        if !side.slowest.is_empty() {
            let _ = writeln!(out, "* Slowest units, {name}: {}.", side.slowest.join(", "));
            let _ = writeln!(out, "* The agent waited for, {name}: {}.", side.waited_for.join(", "));
        }
        if !side.failed.is_empty() {
            let _ = writeln!(out, "* Failed, {name}: {}.", side.failed.join(", "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::figures::tests::example;

    #[test]
    fn the_table_has_figures_ranges_ratios_and_verdicts() {
        let text = markdown(&example());
        assert!(
            text.contains("| installed | 32.0 MB | 279.0 MB | 0.115 | at most 40.0 MB | reached |"),
            "{text}"
        );
        assert!(
            text.contains(
                "| without the root (Python, runtime) | 9.5 MB | - | - | at most 16.0 MB | reached |"
            ),
            "{text}"
        );
        assert!(
            text.contains("**not reached**") && text.contains("| initramfs | 0.0 s | 12.0 s |"),
            "{text}"
        );
        assert!(
            text.contains("systemd 257.9-1") && text.contains("linux-image-6.12-cloud-amd64 6.12.1-1"),
            "{text}"
        );
    }

    #[test]
    fn what_failed_is_told_and_nothing_is_said_where_nothing_did() {
        let mut figures = example();
        assert!(!markdown(&figures).contains("Failed"));
        figures.peer.failed = vec!["systemd-logind.service".to_owned()];
        assert!(markdown(&figures).contains("Failed, peer: systemd-logind.service."));
    }
}
