//! docs/architecture.md shows the table of processes of `init/node/src/process.rs`. Here: it shows what is there.
//!
//! What stands between `<!-- processes -->` and `<!-- /processes -->` is rendered from the table and from nothing else. The
//! test that finds a difference prints what belongs there.

#[cfg(test)]
mod tests {
    use crate::project;
    use astromesh_node::process::{
        Cgroup, EVERY_CAPABILITY, Kept, Kind, Limit, Namespaces, PROCESSES, Process, Say,
    };
    use astromesh_proto::ipc::SlotsWork;
    use std::fmt::Write as _;

    const PAGE: &str = "docs/architecture.md";
    const OPEN: &str = "<!-- processes -->";
    const CLOSE: &str = "<!-- /processes -->";

    /// The page, from its opening marker to its closing one; neither included.
    fn between(page: &str) -> Option<&str> {
        let (_, after) = page.split_once(OPEN)?;
        Some(after.split_once(CLOSE)?.0)
    }

    /// Words with commas; what there is none of is `none`.
    fn list(words: impl Iterator<Item = String>, none: &str) -> String {
        let words: Vec<_> = words.collect();
        if words.is_empty() { none.to_owned() } else { words.join(", ") }
    }

    fn code(text: impl std::fmt::Display) -> String {
        format!("`{text}`")
    }

    fn capabilities(kept: &Kept) -> String {
        if kept.capabilities == EVERY_CAPABILITY {
            return "all".to_owned();
        }
        list(kept.capabilities.iter_names().map(|(name, _)| code(name)), "none")
    }

    fn limits(cgroup: &Cgroup) -> impl Iterator<Item = (String, &'static str)> {
        let limit = |limit: &'static Limit| {
            (code(format_args!("{} {}", limit.file.to_string_lossy(), limit.value)), limit.why)
        };
        cgroup.limits.iter().map(limit)
    }

    fn namespaces(of: Namespaces) -> String {
        let own = [(Namespaces::MOUNT, "mount"), (Namespaces::PID, "pid"), (Namespaces::NET, "network")];
        let names = own.into_iter().filter(|(one, _)| of.contains(*one)).map(|(_, name)| name.to_owned());
        list(names, "the machine's")
    }

    fn kind(process: &Process) -> String {
        match process.kind {
            Kind::Pid1 => "PID 1".to_owned(),
            Kind::Service => "service".to_owned(),
            Kind::Job { within: None } => "job".to_owned(),
            Kind::Job { within: Some(within) } => format!("job, at most {} s", within.as_secs()),
            Kind::Agent => "service, launched".to_owned(),
            Kind::Part(of) => format!("part of `{of}`"),
        }
    }

    fn say(say: Say) -> String {
        match say {
            Say::Ready => "ready",
            Say::Waiting => "waiting",
            Say::Health => "health",
            Say::Ask => "ask",
            Say::RestartAgent => "restart the agent",
            Say::Reboot => "reboot",
            Say::Poweroff => "power off",
            Say::Slots(SlotsWork::Inspect) => "inspect the slots",
            Say::Slots(SlotsWork::Install) => "install",
            Say::Slots(SlotsWork::Bless) => "bless",
            Say::Slots(SlotsWork::Rollback) => "roll back",
            Say::Slots(SlotsWork::TakeDrive) => "take from a drive",
        }
        .to_owned()
    }

    /// Three tables: who and where, what is shared with whom, and why.
    fn render() -> String {
        let mut who = "| process | uid | lives as | capabilities | cgroup | namespaces of its own |\n\
                       |---|--:|---|---|---|---|\n"
            .to_owned();
        let mut shares = "| process | reads | owns | may say to PID 1 |\n|---|---|---|---|\n".to_owned();
        let mut why = "| process | has | because |\n|---|---|---|\n".to_owned();
        for process in &PROCESSES {
            let name = process.name();
            let cgroup = process.cgroup.as_ref();
            // Writing to a String can't fail.
            let _ = writeln!(
                who,
                "| `{name}` | {} | {} | {} | {} | {} |",
                process.id,
                kind(process),
                list(process.keeps.iter().map(capabilities), "none"),
                cgroup.map_or("PID 1's".to_owned(), |one| code(
                    one.path.to_string_lossy().trim_start_matches("/sys/fs/cgroup/")
                )),
                namespaces(process.namespaces),
            );
            let owns = process.owns.iter().map(|directory| code(directory.path.to_string_lossy()));
            let reads = process.reads.into_iter().map(|path| code(path.to_string_lossy()));
            let says = process.may_say.iter().map(|one| say(*one));
            let (reads, owns, says) = (list(reads, ""), list(owns, ""), list(says, ""));
            if !(reads.is_empty() && owns.is_empty() && says.is_empty()) {
                let _ = writeln!(shares, "| `{name}` | {reads} | {owns} | {says} |");
            }
            let kept = process.keeps.iter().map(|kept| (capabilities(kept), kept.why));
            // A part has the limits of the whole, which are told there.
            let limits =
                cgroup.filter(|_| !matches!(process.kind, Kind::Part(_))).into_iter().flat_map(limits);
            for (what, reason) in kept.chain(limits) {
                let _ = writeln!(why, "| `{name}` | {what} | {reason} |");
            }
        }
        format!("{who}\n{shares}\n{why}").trim_end().to_owned()
    }

    #[test]
    fn the_documented_processes_are_those_of_the_table() {
        let page = std::fs::read_to_string(project().join(PAGE)).unwrap();
        let shown = between(&page);
        let rendered = render();
        assert!(
            shown.map(str::trim) == Some(rendered.as_str()),
            "{PAGE} does not show the table of init/node/src/process.rs. Put this between `{OPEN}` and \
             `{CLOSE}`:\n\n{rendered}\n"
        );
    }

    #[test]
    fn twin_a_page_with_another_table_or_without_its_markers_shows_something_else() {
        let rendered = render();
        let page = format!("Before.\n{OPEN}\n\n{rendered}\n\n{CLOSE}\nAfter.\n");
        assert_eq!(between(&page).map(str::trim), Some(rendered.as_str()));
        let other = page.replace("| `update` | 906 |", "| `update` | 0 |");
        assert_ne!(between(&other).map(str::trim), Some(rendered.as_str()));
        assert_eq!(between(&page.replace(CLOSE, "")), None);
        assert_eq!(between(&page.replace(OPEN, "")), None);
    }
}
