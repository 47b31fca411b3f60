//! The inet sockets a process holds, by the kernel's tables.
//!
//! It exists to prove that QEMU opened nothing towards the outside: a packet of the guest can only leave
//! through a socket of its QEMU, and the kernel lists those. A sampler looks again and again, since a socket
//! may live for less than a test. It refuses to explain: it lists, the test judges, and a twin of the test
//! shows that an allowed connection is seen.
//!
//! Source: `proc_pid_net(5)`, `proc_pid_fd(5)`. A look takes about 2 ms; what opens and closes between two
//! looks is missed, so a test lets its guest try more than once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

/// Why a process's sockets are not known.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// Its tables can't be read.
    #[error("cannot read {path}: {source}. The process may have ended, or belongs to another user")]
    ReadTable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One inet socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InetSocket {
    /// The kernel's table: `tcp`, `udp6`, `raw`...
    pub table: &'static str,
    /// Its own address.
    pub local: SocketAddr,
    /// The other end, or the unspecified address.
    pub remote: SocketAddr,
}

impl InetSocket {
    /// Whether both ends are inside this host. A socket on the unspecified address is not.
    pub fn is_loopback(&self) -> bool {
        let remote = self.remote.ip().to_canonical();
        self.local.ip().to_canonical().is_loopback() && (remote.is_loopback() || remote.is_unspecified())
    }

    /// Whether it is connected to a peer.
    pub fn is_connected(&self) -> bool {
        !self.remote.ip().is_unspecified()
    }
}

const TABLES: [&str; 10] =
    ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"];

/// What a process held at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QemuSockets {
    /// Its inet sockets.
    pub inet: BTreeSet<InetSocket>,
    /// How many of its sockets are packet sockets, which bypass every address.
    pub packet: usize,
}

impl QemuSockets {
    /// Looks at the process now.
    pub fn of(pid: u32) -> Result<Self, SocketsError> {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let held = held_inodes(&base.join("fd"))?;
        let mut sockets = Self::default();
        for table in TABLES {
            // A kernel without this protocol has no such table, and then no such socket.
            let Some(text) = read_if_present(&base.join("net").join(table))? else { continue };
            let rows = text.lines().skip(1).filter_map(|line| parse_row(table, line));
            sockets.inet.extend(rows.filter(|(inode, _)| held.contains(inode)).map(|(_, socket)| socket));
        }
        if let Some(text) = read_if_present(&base.join("net/packet"))? {
            let inodes = text.lines().skip(1).filter_map(|l| l.split_whitespace().last()?.parse().ok());
            sockets.packet = inodes.filter(|inode: &u64| held.contains(inode)).count();
        }
        Ok(sockets)
    }

    /// Those that lead, or could lead, out of this host.
    pub fn outside(&self) -> Vec<&InetSocket> {
        self.inet.iter().filter(|socket| !socket.is_loopback()).collect()
    }
}

fn read_if_present(path: &Path) -> Result<Option<String>, SocketsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SocketsError::ReadTable { path: path.into(), source }),
    }
}

fn held_inodes(fds: &Path) -> Result<BTreeSet<u64>, SocketsError> {
    let entries = fs::read_dir(fds).map_err(|source| SocketsError::ReadTable { path: fds.into(), source })?;
    let inode = |entry: fs::DirEntry| {
        // A descriptor may close between the listing and the look: then it is no longer held.
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(entries.flatten().filter_map(inode).collect())
}

/// Whether there is no such process, or only its exit status.
fn has_ended(pid: u32) -> bool {
    // The state is the first field after the name, which ends with the last parenthesis: proc_pid_stat(5).
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    state.and_then(|stat| stat.rsplit_once(") ")?.1.chars().next()).is_none_or(|state| "ZX".contains(state))
}

/// `sl local remote st queues timer retrnsmt uid timeout inode ...`, addresses in hexadecimal.
fn parse_row(table: &'static str, line: &str) -> Option<(u64, InetSocket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let socket =
        InetSocket { table, local: parse_address(fields.get(1)?)?, remote: parse_address(fields.get(2)?)? };
    Some((fields.get(9)?.parse().ok()?, socket))
}

/// The kernel prints each 32-bit word of the address as a number in the host's order.
fn parse_address(field: &str) -> Option<SocketAddr> {
    let (address, port) = field.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in 0..address.len() / 8 {
        let word = u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Looks at a process every few milliseconds until it is stopped, and remembers all it saw.
pub struct SocketSampler {
    seen: Arc<Mutex<Samples>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a sampler saw.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// How many looks succeeded: none would prove nothing.
    pub looks: usize,
    /// How many failed while the process was there.
    pub failed: usize,
    /// Each socket, and in how many looks it was there.
    pub sockets: BTreeMap<InetSocket, usize>,
    /// Looks that saw a packet socket.
    pub packet: usize,
}

impl Samples {
    /// Those that lead, or could lead, out of this host.
    pub fn outside(&self) -> Vec<&InetSocket> {
        self.sockets.keys().filter(|socket| !socket.is_loopback()).collect()
    }

    /// That nothing led out of this host, for somebody who really looked: an error says what did, or that nobody can say.
    pub fn all_inside(&self) -> Result<(), String> {
        let outside = self.outside();
        if self.looks == 0 || self.failed > 0 {
            Err(format!("{} looks at the sockets, and {} that failed, show nothing", self.looks, self.failed))
        } else if !outside.is_empty() || self.packet > 0 {
            Err(format!("sockets that lead out of this host: {outside:?}, and {} of packets", self.packet))
        } else {
            Ok(())
        }
    }
}

/// Shorter than a TCP connection attempt to an address that never answers, by far.
const INTERVAL: Duration = Duration::from_millis(10);

impl SocketSampler {
    /// Begins to look at the process. It ends by itself when the process does.
    pub fn start(pid: u32) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Samples::default())), Arc::new(AtomicBool::new(false)));
        let (sink, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let look = move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = QemuSockets::of(pid);
                let mut samples = sink.lock().unwrap_or_else(PoisonError::into_inner);
                match now {
                    Ok(now) => {
                        samples.looks += 1;
                        samples.packet += usize::from(now.packet > 0);
                        for socket in now.inet {
                            *samples.sockets.entry(socket).or_default() += 1;
                        }
                    }
                    // It has ended, or is about to be reaped: there is nothing left to see.
                    Err(_) if has_ended(pid) => break,
                    Err(_) => samples.failed += 1,
                }
                drop(samples);
                std::thread::sleep(INTERVAL);
            }
        };
        Self { seen, stop, thread: Some(std::thread::spawn(look)) }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Samples {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops and tells all that was seen.
    pub fn stop(mut self) -> Samples {
        self.join();
        self.seen()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can't panic; if it did, `looks` stays where it was and the test sees that.
            let _ = thread.join();
        }
    }
}

impl Drop for SocketSampler {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn this_process_is_seen_to_hold_what_it_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let anywhere = UdpSocket::bind("0.0.0.0:0").unwrap();
        let sockets = QemuSockets::of(std::process::id()).unwrap();
        let find = |address| sockets.inet.iter().find(|s| s.local == address).unwrap();
        let listening = find(listener.local_addr().unwrap());
        assert!(listening.is_loopback() && !listening.is_connected() && listening.table == "tcp");
        // Mutation twin: a socket that is not bound to loopback is reported, though nothing was sent.
        let open = find(anywhere.local_addr().unwrap());
        assert!(sockets.outside().contains(&open));
    }

    #[test]
    fn the_kernels_addresses_are_read_in_both_families() {
        let four =
            parse_address(if cfg!(target_endian = "little") { "0100007F:1F90" } else { "7F000001:1F90" });
        assert_eq!(four, Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(parse_address(&format!("{}:0000", "0".repeat(32))), Some("[::]:0".parse().unwrap()));
        assert_eq!(parse_address("zz:1"), None);
    }

    #[test]
    fn only_somebody_who_looked_can_say_that_nothing_led_out() {
        let socket = |address: &str| InetSocket {
            table: "tcp",
            local: address.parse().unwrap(),
            remote: "0.0.0.0:0".parse().unwrap(),
        };
        let seen = |address: &str| Samples {
            looks: 3,
            sockets: BTreeMap::from([(socket(address), 3)]),
            ..Samples::default()
        };
        assert_eq!(seen("127.0.0.1:1").all_inside(), Ok(()));
        let wrong = [
            Samples::default(),
            Samples { looks: 0, ..seen("127.0.0.1:1") },
            Samples { failed: 1, ..seen("127.0.0.1:1") },
            Samples { packet: 1, ..seen("127.0.0.1:1") },
            seen("192.0.2.1:1"),
        ];
        for samples in wrong {
            assert!(samples.all_inside().is_err(), "{samples:?}");
        }
        let sampler = SocketSampler::start(std::process::id());
        while sampler.seen().looks < 2 {
            std::thread::yield_now();
        }
        assert_eq!(sampler.stop().failed, 0);
    }
}
