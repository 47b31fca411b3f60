//! What the observer in a node saw of each process (`init/observer`), beside what its row in the table of processes says.
//!
//! The comparison is a pure function, so that its twin needs no machine.

use astromesh_node::process::{INIT, Kind, Namespaces, PROCESSES, Process};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What ends a round of the observer on the console.
pub const END: &str = "observer: a round is over";

/// One process, as the kernel has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    pid: u32,
    name: String,
    /// Fields of `/proc/PID/status`.
    credentials: BTreeMap<String, String>,
    /// Whether each of its threads has the same.
    alike: bool,
    cgroup: String,
    namespaces: BTreeMap<String, String>,
    /// How many descriptors it had open.
    descriptors: usize,
    /// KiB of memory: `Rss` and `Pss`.
    memory: BTreeMap<String, u64>,
    /// Where they lead.
    #[serde(skip)]
    open: BTreeMap<u32, String>,
}

/// A line of the observer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Descriptor {
        round: u32,
        pid: u32,
        fd: u32,
        to: String,
    },
    Process {
        round: u32,
        #[serde(flatten)]
        seen: Seen,
    },
    Group {
        round: u32,
        #[serde(flatten)]
        group: Group,
    },
    Socket {
        round: u32,
        #[serde(flatten)]
        socket: Socket,
    },
    End {
        round: u32,
        processes: usize,
        groups: usize,
        sockets: usize,
        own: BTreeMap<String, u64>,
    },
}

/// A cgroup, as the kernel has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    /// Its folder.
    pub group: String,
    /// Its limits, and the most memory it ever had.
    files: BTreeMap<String, String>,
}

/// A socket that waits for whoever comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Socket {
    /// The kernel's table: `tcp`, `udp6`, `packet`...
    pub table: String,
    /// Its address and port as the table has them, in hexadecimal.
    pub local: String,
}

impl Socket {
    /// Its port.
    pub fn port(&self) -> Option<u16> {
        u16::from_str_radix(self.local.split_once(':')?.1, 16).ok()
    }

    /// Whether only this machine reaches it: it has an address of 127.0.0.0/8, which the table writes backwards.
    pub fn is_loopback(&self) -> bool {
        self.table == "tcp" && self.local.get(6..8) == Some("7F")
    }
}

/// What a round told.
#[derive(Debug, Default)]
pub struct Round {
    /// Every process but the observer.
    pub seen: Vec<Seen>,
    /// Every cgroup that the table of processes has.
    pub groups: Vec<Group>,
    /// Every socket that waits for whoever comes.
    pub sockets: Vec<Socket>,
    /// KiB of the observer's own share of memory.
    pub own: u64,
}

/// The last round that ended; an error where a line of it is missing.
pub fn last_round(console: &str) -> Result<Round, String> {
    let mut rounds: BTreeMap<u32, BTreeMap<u32, Seen>> = BTreeMap::new();
    let (mut groups, mut sockets, mut last) = (Vec::new(), Vec::new(), None);
    for line in console.lines() {
        let Some((_, line)) = line.split_once("observer: {") else { continue };
        let line: Line = serde_json::from_str(&format!("{{{}", line.trim_end()))
            .map_err(|error| format!("{line:?} is no line of the observer: {error}"))?;
        match line {
            Line::Process { round, seen } => {
                rounds.entry(round).or_default().insert(seen.pid, seen);
            }
            Line::Descriptor { round, pid, fd, to } => {
                let seen = rounds.entry(round).or_default().get_mut(&pid);
                seen.ok_or_else(|| format!("a descriptor of {pid}, which was not told"))?.open.insert(fd, to);
            }
            Line::Group { round, group } => groups.push((round, group)),
            Line::Socket { round, socket } => sockets.push((round, socket)),
            Line::End { round, processes, groups, sockets, own } => {
                last = Some((round, (processes, groups, sockets), own));
            }
        }
    }
    let (last, told, own) = last.ok_or("the observer ended no round")?;
    let round = Round {
        own: *own.get("Pss").ok_or("the observer's own memory was not told")?,
        seen: rounds.remove(&last).unwrap_or_default().into_values().collect(),
        groups: groups.into_iter().filter(|(round, _)| *round == last).map(|(_, group)| group).collect(),
        sockets: sockets.into_iter().filter(|(round, _)| *round == last).map(|(_, socket)| socket).collect(),
    };
    if let Some(seen) = round.seen.iter().find(|seen| seen.open.len() != seen.descriptors) {
        return Err(format!("a line on a descriptor is missing: {seen:?}"));
    }
    let came = (round.seen.len(), round.groups.len(), round.sockets.len());
    if came == told {
        Ok(round)
    } else {
        Err(format!("{told:?} processes, cgroups and sockets were told, {came:?} came"))
    }
}

/// KiB of memory of the process with this name: resident, and its share of what it shares.
pub fn memory(seen: &[Seen], name: &str) -> Option<(u64, u64)> {
    let found = seen.iter().find(|seen| row(seen).is_some_and(|row| row.name() == name))?;
    Some((*found.memory.get("Rss")?, *found.memory.get("Pss")?))
}

/// What is otherwise than the rows say in the limits of the cgroups: the kernel keeps a limit only if it has it.
pub fn loose(groups: &[Group]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in &PROCESSES {
        let Some(cgroup) = &row.cgroup else { continue };
        let name = cgroup.path.to_string_lossy().replace("/sys/fs/cgroup/", "");
        let Some(group) = groups.iter().find(|group| group.group == name) else {
            faults.push(format!("there is no cgroup {name}"));
            continue;
        };
        // A job's is made when it is started, and some are started on some machines only.
        if matches!(row.kind, Kind::Job { .. } | Kind::Part(_)) && group.files.values().all(String::is_empty)
        {
            continue;
        }
        for limit in cgroup.limits {
            let file = limit.file.to_string_lossy();
            let is = group.files.get(&*file).map_or("", String::as_str);
            if amount(is).is_none() || amount(is) != amount(limit.value) {
                faults.push(format!("{name}: {file} is {is:?}, and should be {:?}", limit.value));
            }
        }
    }
    faults
}

/// Bytes of the most memory that a cgroup ever had.
pub fn peak(groups: &[Group], name: &str) -> Option<u64> {
    groups.iter().find(|group| group.group == name)?.files.get("memory.peak")?.parse().ok()
}

/// A number of a cgroup's file, as it is written (`24M`) and as it is read (`25165824`).
fn amount(text: &str) -> Option<u64> {
    match text.strip_suffix('M') {
        Some(mib) => Some(mib.parse::<u64>().ok()? << 20),
        None => text.parse().ok(),
    }
}

/// The row of a process: by the name that PID 1 gave it, or, for the runtime, which has become another program, by its user.
fn row(seen: &Seen) -> Option<&'static Process> {
    if seen.pid == 1 {
        return Some(INIT);
    }
    let is_runtime = |row: &&Process| {
        row.kind == Kind::Agent && seen.credentials.get("Uid").is_some_and(|ids| *ids == four(row.id))
    };
    PROCESSES.iter().find(|row| row.name() == seen.name).or_else(|| PROCESSES.iter().find(is_runtime))
}

/// Real, effective, saved and file system id.
fn four(id: u32) -> String {
    [id; 4].map(|id| id.to_string()).join(" ")
}

/// Beginnings of where the descriptors of a process may lead: what PID 1 gives it, and what it opens itself.
fn explained(row: &Process) -> &'static [&'static str] {
    match row.name() {
        // The kernel's console at the start; the log, the watchdog, the buttons, signals; sockets of services, the pipe of
        // the runtime's log, the cgroups; devices that `update` may read; the reason of a job.
        "init" => &[
            "/dev/console",
            "/dev/input/event",
            "/dev/kmsg",
            "/dev/null",
            "/dev/vd",
            "/dev/watchdog",
            "/memfd:grow",
            "/memfd:slots",
            "/sys/fs/cgroup/",
            "anon_inode:[signalfd]",
            "pipe:",
            "socket:",
        ],
        // What it reads ahead.
        "prefetch" => &["/dev/kmsg", "/dev/null", "/usr/"],
        // The partition that it reads the superblock from, and what is mounted of it.
        "grow" => &["/dev/kmsg", "/dev/vd", "/memfd:grow", "/var"],
        // It lists the links again every two seconds.
        "net" => &["/dev/kmsg", "/dev/null", "/sys/class/net", "/sys/devices/", "socket:"],
        // Both logs that it collects.
        "control" => &["/dev/kmsg", "/dev/null", "pipe:", "socket:"],
        // The root that runs, the other slot's, the boot partition.
        "update" => &["/dev/kmsg", "/dev/null", "/dev/vd", "socket:"],
        // Not the kernel log, and not the socket to PID 1: those of the runtime are its own.
        "agent" => &["/dev/null", "anon_inode:[eventpoll]", "pipe:", "socket:"],
        _ => &[],
    }
}

/// What is otherwise than in the process's row. `first` is PID 1, whose namespaces are the machine's.
pub fn faults(seen: &Seen, first: &Seen) -> Vec<String> {
    let Some(row) = row(seen) else { return vec![format!("no row is of {seen:?}")] };
    let mut faults = Vec::new();
    let mut compare = |what: &str, is: &str, should: &str| {
        if is != should {
            faults.push(format!("{}: {what} is {is:?}, and should be {should:?}", row.name()));
        }
    };
    let has = |field: &str| seen.credentials.get(field).map_or("not told", String::as_str);
    let is_first = row.kind == Kind::Pid1;
    compare("Uid", has("Uid"), &four(row.id));
    compare("Gid", has("Gid"), &four(row.id));
    compare("Groups", has("Groups"), "");
    let keeps = format!("{:016x}", row.capabilities().bits());
    let none = format!("{:016x}", 0);
    for (set, should) in
        [("CapInh", &none), ("CapPrm", &keeps), ("CapEff", &keeps), ("CapBnd", &keeps), ("CapAmb", &none)]
    {
        compare(set, has(set), should);
    }
    compare("NoNewPrivs", has("NoNewPrivs"), if is_first { "0" } else { "1" });
    let path =
        row.cgroup.as_ref().map_or("/sys/fs/cgroup/", |cgroup| cgroup.path.to_str().unwrap_or_default());
    compare("cgroup", &seen.cgroup, &format!("0::{}", path.trim_start_matches("/sys/fs/cgroup")));
    compare("alike", &seen.alike.to_string(), "true");
    let own = [("mnt", Namespaces::MOUNT), ("pid", Namespaces::PID), ("net", Namespaces::NET)];
    for (name, namespace) in &first.namespaces {
        let should = own.iter().any(|(of, bit)| of == name && row.namespaces.contains(*bit));
        let is = seen.namespaces.get(name).is_none_or(|of| of != namespace);
        compare(&format!("own {name} namespace"), &is.to_string(), &should.to_string());
    }
    for (number, to) in &seen.open {
        if !explained(row).iter().any(|beginning| to.starts_with(beginning)) {
            faults.push(format!("{}: descriptor {number} leads to {to}, which nothing explains", row.name()));
        }
    }
    faults
}

/// The names of the rows that these processes have, but for jobs, which may have ended or not.
pub fn kept_alive(seen: &[Seen]) -> Vec<&'static str> {
    let rows = seen.iter().filter_map(row).filter(|row| !matches!(row.kind, Kind::Job { .. }));
    let mut names: Vec<_> = rows.map(Process::name).collect();
    names.sort_unstable();
    names
}

/// PID 1 among them.
pub fn first(seen: &[Seen]) -> Option<&Seen> {
    seen.iter().find(|seen| seen.pid == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A console on which PID 1 and `net` are as they should be.
    fn console() -> String {
        let credentials = |id: &str, keeps: &str, privileges: &str| {
            json!({
                "Uid": id, "Gid": id, "Groups": "", "NoNewPrivs": privileges, "CapInh": "0000000000000000",
                "CapPrm": keeps, "CapEff": keeps, "CapBnd": keeps, "CapAmb": "0000000000000000",
            })
        };
        let namespaces = json!({ "mnt": "mnt:[1]", "pid": "pid:[2]", "net": "net:[3]", "user": "user:[4]" });
        let lines = [
            json!({ "round": 1, "pid": 1, "name": "/init", "alike": true, "cgroup": "0::/", "descriptors": 0,
                "memory": { "Rss": 1500, "Pss": 900 },
                "credentials": credentials("0 0 0 0", "000001ffffffffff", "0"), "namespaces": namespaces }),
            json!({ "round": 1, "pid": 90, "name": "net", "alike": true, "cgroup": "0::/net", "descriptors": 1,
                "memory": { "Rss": 1800, "Pss": 1200 },
                "credentials": credentials("902 902 902 902", "0000000000003400", "1"),
                "namespaces": namespaces }),
            json!({ "round": 1, "pid": 90, "fd": 3, "to": "socket:[77]" }),
            json!({ "round": 1, "group": "net", "files": { "pids.max": "8", "memory.peak": "1310720" } }),
            json!({ "round": 1, "table": "tcp", "local": "0100007F:1F40" }),
            json!({ "round": 1, "table": "tcp6", "local": "00000000000000000000000000000000:1771" }),
            json!({ "round": 1, "processes": 2, "groups": 1, "sockets": 2, "own": { "Rss": 9, "Pss": 5 } }),
        ];
        let console = lines.map(|line| format!("[   21.000001] observer: {line}"));
        console.join("\r\n")
    }

    #[test]
    fn a_round_is_read_whole_or_not_at_all() {
        let Round { seen, groups, sockets, own } = last_round(&console()).unwrap();
        assert_eq!(own, 5);
        assert_eq!(kept_alive(&seen), ["init", "net"]);
        let first = first(&seen).unwrap();
        for one in &seen {
            assert_eq!(faults(one, first), Vec::<String>::new());
        }
        assert_eq!(memory(&seen, "init"), Some((1500, 900)));
        assert_eq!(memory(&seen, "control"), None);
        assert_eq!(peak(&groups, "net"), Some(1_310_720));
        assert_eq!(sockets.iter().map(Socket::port).collect::<Vec<_>>(), [Some(8000), Some(6001)]);
        assert_eq!(sockets.iter().map(Socket::is_loopback).collect::<Vec<_>>(), [true, false]);
        for missing in ["\"fd\":3", "\"name\":\"net\"", "\"processes\":", "\"group\"", "\"table\""] {
            let console = console();
            let lines = console.lines().filter(|line| !line.contains(missing));
            assert!(last_round(&lines.collect::<Vec<_>>().join("\n")).is_err(), "{missing}");
        }
    }

    #[test]
    fn twin_a_process_that_differs_from_its_row_in_one_thing_is_found() {
        let seen = last_round(&console()).unwrap().seen;
        let (first, net) = (first(&seen).unwrap(), &seen[1]);
        let credential = |field: &str, value: &str| {
            let mut other = net.clone();
            other.credentials.insert(field.to_owned(), value.to_owned());
            other
        };
        let namespace = Seen {
            namespaces: [("mnt", "mnt:[9]"), ("pid", "pid:[2]"), ("net", "net:[3]"), ("user", "user:[4]")]
                .map(|(name, id)| (name.to_owned(), id.to_owned()))
                .into(),
            ..net.clone()
        };
        let descriptor = Seen { open: [(3, "/dev/vda2".to_owned())].into(), ..net.clone() };
        let others = [
            credential("Uid", "902 0 902 902"),
            credential("Gid", "0 0 0 0"),
            credential("Groups", "27"),
            credential("CapEff", "0000000000003420"),
            credential("CapBnd", "000001ffffffffff"),
            credential("CapAmb", "0000000000001000"),
            credential("NoNewPrivs", "0"),
            Seen { cgroup: "0::/".to_owned(), ..net.clone() },
            Seen { alike: false, ..net.clone() },
            Seen { name: "sshd".to_owned(), ..net.clone() },
            namespace,
            descriptor,
        ];
        for other in others {
            assert_eq!(faults(&other, first).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn twin_a_limit_that_the_kernel_does_not_have_is_found() {
        let groups: Vec<_> = PROCESSES
            .iter()
            .filter_map(|row| row.cgroup.as_ref())
            .map(|cgroup| Group {
                group: cgroup.path.to_string_lossy().replace("/sys/fs/cgroup/", ""),
                files: cgroup
                    .limits
                    .iter()
                    .map(|limit| {
                        let value = amount(limit.value).map_or_else(String::new, |value| value.to_string());
                        (limit.file.to_string_lossy().into_owned(), value)
                    })
                    .collect(),
            })
            .collect();
        assert_eq!(loose(&groups), Vec::<String>::new());
        assert!(
            groups.iter().any(|group| group.files.get("memory.max").is_some_and(|max| max == "25165824"))
        );
        for value in ["max", "", "25165825"] {
            let mut other = groups.clone();
            let files = other.iter_mut().find(|group| group.group == "update").map(|group| &mut group.files);
            files.unwrap().insert("memory.max".to_owned(), value.to_owned());
            assert_eq!(loose(&other).len(), 1, "{value:?}");
        }
        assert_eq!(loose(&groups[1..]).len(), 1, "one is missing");
    }
}
