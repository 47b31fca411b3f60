//! Who the node is and how it is, put together from PID 1, the kernel and the last probe.

use crate::cut::{LONGEST_REASON, cut};
use crate::shared::Shared;
use crate::verdict::Life;
use astromesh_node::ipc_client::Pid1Error;
use astromesh_proto::control::{Mode, Service, Stage, Status};
use astromesh_proto::ipc::FromInit;
use astromesh_release::running::running_version;
use std::fs;

/// Version of the image, by its verified root. The binary's own is the same in a release; a test boots one binary in
/// several.
fn version() -> String {
    running_version().map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |version| version.to_string())
}

/// Most addresses that are told: a link that hears many routers has no end of them.
const MOST_ADDRESSES: usize = 64;

/// The status.
pub fn status(shared: &Shared) -> Result<Status, Pid1Error> {
    let mut status = Status {
        node: shared.config.as_ref().map(|config| config.node.clone()).unwrap_or_default(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: version(),
        mode: Mode::Running,
        healthy: false,
        reason: String::new(),
        root_hash: String::new(),
        uptime_ms: astromesh_node::clock::now_us() / 1000,
        addresses: addresses(),
        services: Vec::new(),
        memory_total_kib: memory("MemTotal:"),
        memory_available_kib: memory("MemAvailable:"),
    };
    let messages = shared.pid1.ask(true)?;
    match shared.health.verdict(Life::of(&messages)) {
        Ok(()) => {
            status.healthy = true;
            "health holds".clone_into(&mut status.reason);
        }
        Err(reason) => status.reason = cut(reason, LONGEST_REASON),
    }
    for message in messages {
        match message {
            FromInit::Node { mode, root_hash, config_error, .. } => {
                status.mode = mode;
                status.root_hash = root_hash.as_str().to_owned();
                if mode == Mode::Maintenance {
                    status.healthy = false;
                    status.reason = config_error.as_str().to_owned();
                }
            }
            FromInit::Service { name, pid, restarts, rss_kib, pss_kib } => {
                // PID 1 does not look into the agent (see `supervise::memory`); nobody else maps its pages.
                let rss_kib = if rss_kib == 0 { resident(pid) } else { rss_kib };
                let pss_kib = if pss_kib == 0 { rss_kib } else { pss_kib };
                status.services.push(Service {
                    name: name.as_str().to_owned(),
                    pid,
                    restarts,
                    rss_kib,
                    pss_kib,
                });
            }
            _ => {}
        }
    }
    Ok(status)
}

/// The stages of this boot.
pub fn boot(shared: &Shared) -> Result<Vec<Stage>, Pid1Error> {
    let stages = shared.pid1.ask(false)?.into_iter().filter_map(|message| match message {
        FromInit::Stage { name, started_us, took_us, idle_us, outcome, note } => Some(Stage {
            name: name.as_str().to_owned(),
            started_us,
            took_us,
            idle_us,
            outcome,
            note: note.as_str().to_owned(),
        }),
        _ => None,
    });
    Ok(stages.collect())
}

/// A value of /proc/meminfo, in KiB.
pub fn memory(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Resident memory of a process in KiB, from /proc/PID/statm, which takes no lock of the process.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * (rustix::param::page_size() as u64 / 1024)
}

/// Addresses that others can reach: from the kernel's tables, loopback left out.
fn addresses() -> Vec<String> {
    let routes = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found = local_addresses(&routes);
    let six = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    found.extend(six.lines().filter_map(address_6));
    found.truncate(MOST_ADDRESSES);
    found
}

/// The `/32 host LOCAL` entries of /proc/net/fib_trie.
fn local_addresses(trie: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = "";
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line == "/32 host LOCAL"
            && !last.starts_with("127.")
            && !found.iter().any(|one| one == last)
        {
            found.push(last.to_owned());
        }
    }
    found
}

/// A line of /proc/net/if_inet6: address, index, prefix length, scope, flags, name.
fn address_6(line: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let address = std::net::Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
    let prefix = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    (!address.is_loopback()).then(|| format!("{address}/{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), ["10.0.2.15"]);
        let six = "fec0000000000000505400fffe123456 02 40 40 00     eth0";
        assert_eq!(address_6(six).unwrap(), "fec0::5054:ff:fe12:3456/64");
        assert_eq!(address_6("00000000000000000000000000000001 01 80 10 80       lo"), None);
    }
}
