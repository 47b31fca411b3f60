//! From what the reporter gives, which is the kernel's own texts, to figures. Pure: bytes in, values out.
//!
//! What measures is left out of what is measured: the reporter's process and its port.

use super::recipe::REPORTER_PORT;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What `xtask/reporter` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    uptime: String,
    ready: Option<Ready>,
    reporter: u32,
    processes: Vec<Process>,
    meminfo: String,
    sockets: BTreeMap<String, String>,
    manager: String,
    failed: String,
    blame: String,
    chain: String,
    kernel: Vec<String>,
}

/// The moment at which the runtime's socket listened.
#[derive(Debug, Deserialize)]
struct Ready {
    uptime: String,
    stat: String,
}

#[derive(Debug, Deserialize)]
struct Process {
    pid: u32,
    command: String,
    stat: String,
    memory: String,
}

/// How the agent's process is recognised: by the launcher in its arguments.
const LAUNCHER: &str = "/usr/lib/astromesh/launch.py";
/// How many of the slowest units are kept: the first few are what there is to gain.
const SLOWEST: usize = 6;
/// `USER_HZ` on x86-64: `/proc` counts in hundredths of a second.
const TICK_MS: u64 = 10;

impl Report {
    /// What it says of the machine at rest.
    pub(super) fn facts(&self) -> Result<Facts> {
        let others = || self.processes.iter().filter(|one| one.pid != self.reporter);
        let agent = others().find(|one| one.command.contains(LAUNCHER)).context("the agent does not run")?;
        let besides = || others().filter(|one| one.pid != agent.pid);
        let besides_kib = besides().map(|one| kib(&one.memory, "Pss")).sum::<Option<u64>>();
        Ok(Facts {
            processes: others().count() as u64,
            names: others().map(|one| one.command.clone()).collect(),
            besides_kib: besides_kib.context("a process has no proportional size")?,
            available_kib: kib(&self.meminfo, "MemAvailable").context("/proc/meminfo has no MemAvailable")?,
            sockets: listening(&self.sockets),
            exec_ms: started(&agent.stat).context("the agent's /proc/PID/stat has no start time")?,
            initramfs_ms: self.kernel.first().and_then(|record| logged(record)),
            services_ms: property(&self.manager, "UserspaceTimestampMonotonic").map(|us| us / 1000),
            slowest: self.blame.lines().take(SLOWEST).map(|line| line.trim().to_owned()).collect(),
            waited_for: chain(&self.chain),
            failed: self
                .failed
                .lines()
                .map(|line| line.split(' ').next().unwrap_or(line).to_owned())
                .collect(),
        })
    }

    /// Time since the kernel started, in milliseconds.
    pub(super) fn uptime_ms(&self) -> Option<u64> {
        uptime_ms(&self.uptime)
    }

    /// What the one processor did from kernel entry until the runtime's socket listened, on a machine whose clock counts
    /// instructions: all the time but that in which it had nothing to do.
    pub(super) fn instructions(&self) -> Result<u64> {
        let ready = self.ready.as_ref().context("the launcher never said that it was ready")?;
        let busy =
            uptime_ms(&ready.uptime).zip(idle_ms(&ready.stat)).and_then(|(up, idle)| up.checked_sub(idle));
        Ok(busy.context("the times at which the runtime was ready make no sense")? * 1_000_000)
    }
}

/// A machine at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Processes, kernel threads not counted.
    pub(super) processes: u64,
    /// Their command lines.
    pub(super) names: Vec<String>,
    /// Proportional size of all but the agent.
    pub(super) besides_kib: u64,
    /// What the kernel says is left.
    pub(super) available_kib: u64,
    /// Protocol, address and port of each socket that takes what comes from outside of its process.
    pub(super) sockets: Vec<String>,
    /// When the agent's process began.
    pub(super) exec_ms: u64,
    /// When the initramfs took over from the kernel.
    pub(super) initramfs_ms: Option<u64>,
    /// When PID 1 of the root began.
    pub(super) services_ms: Option<u64>,
    /// The units of the boot that took longest, as systemd tells.
    pub(super) slowest: Vec<String>,
    /// What the agent's unit waited for, the last first.
    pub(super) waited_for: Vec<String>,
    /// Units that failed.
    pub(super) failed: Vec<String>,
}

/// The first number of `/proc/uptime`, in milliseconds.
pub(super) fn uptime_ms(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * TICK_MS)
}

/// Idle time and time spent waiting for a disk, of all processors: both are instructions that nobody executed.
fn idle_ms(stat: &str) -> Option<u64> {
    let mut numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().skip(3);
    let mut next = || numbers.next()?.parse::<u64>().ok();
    Some((next()? + next()?) * TICK_MS)
}

/// When a process began: the twenty-second field of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn started(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().nth(19)?.parse::<u64>().ok()? * TICK_MS)
}

/// A line `NAME:   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

fn property(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// The units in `systemd-analyze critical-chain`, which draws a tree: `NAME @ACTIVE +TOOK`, some without times.
fn chain(text: &str) -> Vec<String> {
    let plain = |line: &str| line.trim_start_matches(|c: char| c.is_whitespace() || !c.is_ascii()).to_owned();
    text.lines()
        .map(plain)
        .filter(|line| line.contains(" @"))
        .filter(|line| !line.contains("\"@\""))
        .collect()
}

/// The time of a record of `/dev/kmsg`: its third field, in microseconds.
fn logged(record: &str) -> Option<u64> {
    Some(record.split(',').nth(2)?.parse::<u64>().ok()? / 1000)
}

/// Listening TCP sockets and UDP sockets that are connected to nobody, from the tables in `/proc/net`; but the
/// reporter's.
pub(super) fn listening(tables: &BTreeMap<String, String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (protocol, table) in tables {
        // 0A is LISTEN; a UDP socket without a peer is in state 07, CLOSE (include/net/tcp_states.h).
        let wanted = if protocol.starts_with("tcp") { "0A" } else { "07" };
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(local), Some(&state)) = (fields.get(1), fields.get(3)) else { continue };
            let Some((address, port)) = local.split_once(':') else { continue };
            let Ok(port) = u16::from_str_radix(port, 16) else { continue };
            if state == wanted && port != REPORTER_PORT {
                found.push(format!("{protocol} {}:{port}", readable(address)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// An address of `/proc/net`: IPv4 as one little-endian number, IPv6 as four.
fn readable(hex: &str) -> String {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|index| u32::from_str_radix(&hex[index * 8..index * 8 + 8], 16).ok().map(u32::to_le_bytes))
        .collect();
    match words.as_deref() {
        Some([four]) => std::net::Ipv4Addr::from(*four).to_string(),
        Some([a, b, c, d]) => {
            let bytes: [u8; 16] = std::array::from_fn(|index| [a, b, c, d][index / 4][index % 4]);
            format!("[{}]", std::net::Ipv6Addr::from(bytes))
        }
        _ => hex.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let process = |pid: u32, command: &str, pss: u32, ticks: u32| {
            let zeros = ["0"; 18].join(" ");
            serde_json::json!({
                "pid": pid, "command": command, "stat": format!("{pid} (a) b) S {zeros} {ticks} 0"),
                "memory": format!("00400000-7fff r [rollup]\nRss: 9 kB\nPss:  {pss} kB\nPss_Anon: 1 kB\n"),
            })
        };
        let line = |address: &str, state: &str| format!("   0: {address} 00000000:0000 {state} 0 0\n");
        serde_json::from_value(serde_json::json!({
            "uptime": "61.07 100.00\n",
            "ready": { "uptime": "50.00 1.00\n", "stat": "cpu  1 2 3 400 50 0 0\ncpu0 1 2 3 400 50\n" },
            "reporter": 7,
            "processes": [
                process(1, "/sbin/init", 4000, 12), process(7, "/usr/lib/peer-reporter", 500, 3000),
                process(9, "/opt/astromesh/bin/python -I /usr/lib/astromesh/launch.py", 60_000, 3712),
                process(20, "/usr/lib/systemd/systemd-journald", 3000, 900),
            ],
            "meminfo": "MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable:   800000 kB\n",
            "sockets": {
                "tcp": format!("  sl local\n{}{}{}{}", line("00000000:1F40", "0A"), line("00000000:238C", "0A"),
                    line("0F02000A:1F40", "01"), line("3500007F:0035", "0A")),
                "udp": format!("  sl local\n{}", line("3500007F:0035", "07")),
                "tcp6": format!("  sl local\n{}", line("00000000000000000000000001000000:0016", "0A")),
            },
            "manager": "UserspaceTimestampMonotonic=21500000\nFinishTimestampMonotonic=40000000\n",
            "failed": "a.service loaded failed failed A\n",
            "blame": "   8.1s b.service\n  25ms c.service\n",
            "chain": "The time when unit became active or started is printed after the \"@\" character.\n\n\
                      astromesh.service @20.1s\n\u{2514}\u{2500}basic.target @19.9s\n  \u{2514}\u{2500}b.service @11s +8.1s\n",
            "kernel": ["6,500,9876543,-;Run /init as init process\n"],
        }))
        .unwrap()
    }

    #[test]
    fn what_measures_is_in_no_figure() {
        let facts = report().facts().unwrap();
        assert_eq!(facts.processes, 3);
        assert_eq!((facts.besides_kib, facts.available_kib), (7000, 800_000));
        assert!(!facts.sockets.iter().any(|socket| socket.ends_with(":9100")));
        assert_eq!(facts.failed, ["a.service"]);
        assert_eq!(facts.slowest, ["8.1s b.service", "25ms c.service"]);
        assert_eq!(
            facts.waited_for,
            ["astromesh.service @20.1s", "basic.target @19.9s", "b.service @11s +8.1s"]
        );
    }

    #[test]
    fn only_sockets_that_take_from_outside_are_listed_with_readable_addresses() {
        let sockets = report().facts().unwrap().sockets;
        assert_eq!(sockets, ["tcp 0.0.0.0:8000", "tcp 127.0.0.53:53", "tcp6 [::1]:22", "udp 127.0.0.53:53"]);
    }

    #[test]
    fn the_times_are_read_in_milliseconds_of_the_kernels_clock() {
        let facts = report().facts().unwrap();
        assert_eq!(
            (facts.exec_ms, facts.initramfs_ms, facts.services_ms),
            (37_120, Some(9876), Some(21_500))
        );
        assert_eq!(report().uptime_ms(), Some(61_070));
    }

    #[test]
    fn idle_and_waiting_for_a_disk_are_no_instructions() {
        assert_eq!(report().instructions().unwrap(), 45_500_000_000);
        let silent = Report { ready: None, ..report() };
        assert!(silent.instructions().is_err());
    }

    #[test]
    fn a_machine_without_the_agent_is_an_error() {
        let mut report = report();
        report.processes.retain(|process| process.pid != 9);
        assert!(report.facts().is_err());
    }
}
