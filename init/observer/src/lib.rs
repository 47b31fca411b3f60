//! Writes down what every process of the node is, as `/proc` has it: for the gate that compares each with its row in
//! the table of processes. It is part of the twins' build alone, and PID 1 starts it only when the command line says
//! so.
//!
//! Beside them it tells the limits and the memory of each cgroup, and the sockets that wait for others: what a node
//! says of itself is no evidence of that.
//!
//! It has every right and the machine's own namespaces, because only so can it look into the others. It changes
//! nothing. One line of JSON is a process, one is a descriptor of it, and one tells how many there were; each is a
//! record of the kernel log, which the serial console shows. Where the machine has a TPM, its registers and the
//! firmware's log of them come first. There are several rounds, so that a test can take one
//! that began when the node was healthy.

use astromesh_node::inherited::Inherited;
use astromesh_node::log_sink;
use astromesh_node::places::OBSERVER;
use astromesh_node::process::{Cgroup, EVERY_CAPABILITY, Kept, Kind, Namespaces, PROCESSES, Process};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its row. It is not in the table: no release has this process.
pub static ROW: Process = Process {
    name: OBSERVER,
    id: 0,
    kind: Kind::Job { within: None },
    keeps: &[Kept { capabilities: EVERY_CAPABILITY, why: "looks into every other process" }],
    cgroup: None,
    namespaces: Namespaces::MACHINE,
    reads: None,
    owns: &[],
    may_say: &[],
};

/// How long after the boot it looks, and how long between two rounds: what a boot still does by then is over.
const EVERY: Duration = Duration::from_secs(10);
/// How often it looks: for the ten minutes that a busy emulated machine may take to be healthy.
const ROUNDS: u32 = 60;

/// The TPM, as the kernel shows it, and how many registers it has.
const TPM: &str = "/sys/class/tpm/tpm0";
const REGISTERS: u32 = 24;
/// What firmware, boot loader and stub wrote down of what they measured.
const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// How much of it a line holds: a record of the kernel log has less than a kilobyte.
const PIECE: usize = 380;

/// The namespaces of a process, as in `/proc/PID/ns`.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
/// The sets of capabilities of a process, as in `/proc/PID/status`.
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The process.
pub fn main(inherited: Inherited) -> i32 {
    // It is given nothing that it needs.
    drop(inherited);
    if let Ok(kmsg) = io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(&ROW, kmsg);
    }
    for line in measured() {
        log::info!("measured {line}");
    }
    for round in 1..=ROUNDS {
        std::thread::sleep(EVERY);
        // One that ends while it is looked at is none of this round.
        let seen: Vec<_> = processes().iter().filter_map(|path| look(round, path).ok()).collect();
        let groups: Vec<_> = PROCESSES.iter().filter_map(|row| group(round, row.cgroup.as_ref()?)).collect();
        let sockets = sockets(round, Path::new("/proc/net"));
        for line in seen.iter().flatten().chain(&groups).chain(&sockets) {
            log::info!("{line}");
        }
        let (processes, groups, sockets) = (seen.len(), groups.len(), sockets.len());
        // Its own memory too: what it shares with the others makes their shares smaller.
        let own = memory(&fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default());
        log::info!(
            "{}",
            json!({ "round": round, "processes": processes, "groups": groups, "sockets": sockets, "own": own })
        );
        // By itself, so that all before it is whole when a test reads this.
        log::info!("a round is over");
    }
    0
}

/// What the machine's TPM holds, and the firmware's log of it, in pieces: nothing where there is no TPM.
fn measured() -> Vec<Value> {
    let mut lines = Vec::new();
    for register in 0..REGISTERS {
        if let Ok(value) = fs::read_to_string(format!("{TPM}/pcr-sha256/{register}")) {
            lines.push(json!({ "register": register, "value": value.trim_end() }));
        }
    }
    let log = fs::read(FIRMWARE_LOG).unwrap_or_default();
    let pieces = log.chunks(PIECE).enumerate();
    lines.extend(pieces.map(|(index, piece)| json!({ "piece": index, "of": log.len(), "hex": hex(piece) })));
    lines.push(json!({ "end": true }));
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The folders of all processes but this one and the kernel's own threads, which have no command line.
fn processes() -> Vec<PathBuf> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
        })
        .map(|entry| entry.path())
        .filter(|path| fs::read(path.join("cmdline")).is_ok_and(|line| !line.is_empty()))
        .collect()
}

/// One process: a line for it, and one for each of its descriptors.
fn look(round: u32, path: &Path) -> io::Result<Vec<Value>> {
    let pid: u32 = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default();
    let line = fs::read(path.join("cmdline"))?;
    let name = line.split(|&byte| byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default();
    let status = fs::read_to_string(path.join("status"))?;
    let mut threads = fs::read_dir(path.join("task"))?;
    let alike = threads.all(|thread| {
        let thread = thread.and_then(|thread| fs::read_to_string(thread.path().join("status")));
        thread.is_ok_and(|thread| credentials(&thread) == credentials(&status))
    });
    let mut namespaces = Map::new();
    for name in NAMESPACES {
        // A kind of namespace that this kernel doesn't have is the same for everybody.
        namespaces.insert(name.to_owned(), link(&path.join("ns").join(name)).unwrap_or_default().into());
    }
    let mut descriptors = Vec::new();
    for entry in fs::read_dir(path.join("fd"))?.flatten() {
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap_or_default();
        // A descriptor that was closed meanwhile is none.
        if let Ok(to) = link(&entry.path()) {
            descriptors.push(json!({ "round": round, "pid": pid, "fd": number, "to": to }));
        }
    }
    let mut lines = vec![json!({
        "round": round,
        "pid": pid,
        "name": name,
        "credentials": credentials(&status),
        "alike": alike,
        "cgroup": fs::read_to_string(path.join("cgroup"))?.trim_end(),
        "namespaces": namespaces,
        "descriptors": descriptors.len(),
        "memory": memory(&fs::read_to_string(path.join("smaps_rollup"))?),
    })];
    lines.append(&mut descriptors);
    Ok(lines)
}

/// Who a thread is and what it may do: some fields of `/proc/PID/status`, as they stand there.
fn credentials(status: &str) -> Value {
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let wanted = ["Uid", "Gid", "Groups", "NoNewPrivs"].contains(&name) || CAPABILITIES.contains(&name);
        let words: Vec<_> = value.split_ascii_whitespace().collect();
        wanted.then(|| (name.to_owned(), words.join(" ").into()))
    };
    Value::Object(status.lines().filter_map(named).collect())
}

/// KiB that a process has resident, and its share of what it shares: `Rss` and `Pss` of `/proc/PID/smaps_rollup`.
fn memory(rollup: &str) -> Value {
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
        ["Rss", "Pss"].contains(&name).then(|| (name.to_owned(), kib.into()))
    };
    Value::Object(rollup.lines().filter_map(named).collect())
}

/// A cgroup: its limits as the kernel has them, and the most memory it ever had.
fn group(round: u32, group: &Cgroup) -> Option<Value> {
    let path = Path::new(group.path.to_str().ok()?);
    let files = group.limits.iter().filter_map(|limit| limit.file.to_str().ok()).chain(["memory.peak"]);
    let mut values = Map::new();
    for file in files {
        let value = fs::read_to_string(path.join(file)).unwrap_or_default();
        values.insert(file.to_owned(), value.trim_end().into());
    }
    Some(json!({ "round": round, "group": path.file_name()?.to_str()?, "files": values }))
}

/// State of a TCP socket that takes connections (`TCP_LISTEN` in include/net/tcp_states.h), as the tables have it.
const LISTEN: &str = "0A";

/// The sockets that anybody could reach: those that listen, and those that hear whatever comes.
fn sockets(round: u32, tables: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"] {
        let text = fs::read_to_string(tables.join(table)).unwrap_or_default();
        for row in text.lines().skip(1) {
            let fields: Vec<_> = row.split_ascii_whitespace().collect();
            // `packet` has no addresses: its third field is the kind of socket.
            let (Some(local), Some(state)) = (fields.get(1), fields.get(3)) else { continue };
            if !table.starts_with("tcp") || *state == LISTEN {
                let local = if table == "packet" { "" } else { local };
                found.push(json!({ "round": round, "table": table, "local": local }));
            }
        }
    }
    found
}

fn link(path: &Path) -> io::Result<String> {
    Ok(fs::read_link(path)?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_with_its_rights_and_each_of_its_descriptors_on_a_line() {
        let lines = look(3, Path::new("/proc/self")).unwrap();
        let (process, descriptors) = lines.split_first().unwrap();
        let credentials = process["credentials"].as_object().unwrap();
        for name in CAPABILITIES.iter().chain(&["Uid", "Gid", "Groups", "NoNewPrivs"]) {
            assert!(credentials[*name].is_string(), "{process}");
        }
        assert_eq!(process["alike"], true);
        assert!(process["memory"]["Rss"].as_u64() >= process["memory"]["Pss"].as_u64(), "{process}");
        assert!(process["memory"]["Pss"].as_u64() > Some(0), "{process}");
        assert!(process["namespaces"]["mnt"].as_str().unwrap().starts_with("mnt:["), "{process}");
        assert_eq!(process["descriptors"], descriptors.len());
        assert!(descriptors.iter().all(|line| line["round"] == 3 && line["to"].is_string()));
        // Each line is one record of the kernel log, of less than a kilobyte with its beginning.
        assert!(process.to_string().len() < 900, "{process}");
    }

    #[test]
    fn all_processes_but_this_one_and_the_kernels_are_looked_at() {
        let found = processes();
        assert!(!found.contains(&PathBuf::from(format!("/proc/{}", std::process::id()))));
        assert!(found.iter().all(|path| fs::read(path.join("cmdline")).is_ok_and(|line| !line.is_empty())));
    }

    #[test]
    fn a_socket_that_listens_is_told_and_a_connection_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let local = |port: u16| json!(format!("0100007F:{port:04X}"));
        let found = sockets(1, Path::new("/proc/net"));
        let has =
            |port| found.iter().any(|socket| socket["local"] == local(port) && socket["table"] == "tcp");
        assert!(has(port), "{found:?}");
        assert!(!has(open.local_addr().unwrap().port()), "{found:?}");
    }
}
