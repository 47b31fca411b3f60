//! Before the door: connections that have not yet shown a certificate and said what they want.
//!
//! Whoever reaches the port can open connections and stay silent, so these have a pool of their own, and none of it is the
//! operators'. A connection has [`ASKS_WITHIN`] for its handshake and its request. At most [`MOST_WAITING`] wait at a time;
//! one more is let in all the same, and the one that has waited longest is closed for it: a silent crowd can't keep out
//! somebody who speaks at once. Only with a request in hand does a connection take one of the operators' places
//! ([`Place`]).
//!
//! **Refuses** whoever is on this machine: an agent has no business here, and reaches no further than the TCP handshake.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection has for its handshake and its request. Slow lines and emulated machines take a second.
pub const ASKS_WITHIN: Duration = Duration::from_secs(5);
/// Most connections that wait.
pub const MOST_WAITING: usize = 8;
/// Most threads of connections that wait or were just closed. A closed one ends as soon as its thread runs.
const MOST_THREADS: usize = 2 * MOST_WAITING;

/// Most refusals that the log tells of within [`TOLD_WITHIN`]: whoever reaches the port could fill it.
const MOST_TOLD: u32 = 5;
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// The connections that wait.
#[derive(Debug, Default)]
pub struct Door {
    line: Mutex<Line>,
    threads: AtomicUsize,
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Line {
    /// Number of the connection that comes next; none is used twice.
    next: u64,
    /// Oldest first, each with its number.
    waiting: VecDeque<(u64, TcpStream)>,
}

/// A connection's claim to wait: it lasts until it is dropped, or another connection needs its room.
#[derive(Debug)]
pub struct Waiting {
    door: Arc<Door>,
    number: u64,
}

impl Door {
    /// Lets a connection wait, and closes the one that has waited longest if there are too many. `None` when not even the
    /// closed ones have ended yet.
    pub fn admit(self: &Arc<Self>, stream: &TcpStream) -> Option<Waiting> {
        let claim = Place::take(&self.threads, MOST_THREADS)?;
        let stream = stream.try_clone().ok()?;
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.waiting.len() >= MOST_WAITING {
            if let Some((_, oldest)) = line.waiting.pop_front() {
                let _ = oldest.shutdown(Shutdown::Both);
            }
        }
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, stream));
        // From here on `Waiting` gives the thread back.
        claim.keep();
        Some(Waiting { door: Arc::clone(self), number })
    }

    /// Whether one more thread may be begun.
    pub fn has_room(&self) -> bool {
        self.threads.load(Ordering::Acquire) < MOST_THREADS
    }

    /// Tells the log that a client was refused, unless it has told of many just now.
    pub fn refused(&self, who: SocketAddr, why: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.may_tell(Instant::now()) {
            log::warn!("a client at {} is refused: {why}", who.ip().to_canonical());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.door.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.waiting.retain(|(number, _)| *number != self.number);
        self.door.threads.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place out of a fixed number of them.
#[derive(Debug)]
pub struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    /// Takes one of `most`, if one is free.
    pub fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(taken);
        if taken.fetch_add(1, Ordering::AcqRel) < most { Some(place) } else { None }
    }

    /// Keeps it beyond this value: somebody else gives it back.
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How often the log was told of a refusal, and since when.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Instant>,
    told: u32,
}

impl Refusals {
    fn may_tell(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= TOLD_WITHIN) {
            *self = Self { since: Some(now), told: 0 };
        }
        self.told += 1;
        self.told <= MOST_TOLD
    }
}

/// Whether a client is on this machine: by loopback, or by any other address of the node. The kernel knows which those are,
/// and gives a socket no address but one of them (ip(7), `bind`).
pub fn is_of_this_machine(client: SocketAddr) -> bool {
    let mut own = client;
    // An IPv4 client of a socket for both is told as an address of IPv6.
    if client.ip().to_canonical().is_ipv4() {
        own.set_ip(client.ip().to_canonical());
    }
    own.set_port(0);
    UdpSocket::bind(own).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// Both ends of a connection: a client's, and the door's.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn is_open(client: &mut TcpStream) -> bool {
        client.read(&mut [0]).is_err()
    }

    #[test]
    fn one_too_many_closes_the_one_that_has_waited_longest() {
        let door = Arc::new(Door::default());
        let mut clients = Vec::new();
        let mut claims = Vec::new();
        for _ in 0..MOST_WAITING {
            let (client, stream) = connection();
            claims.push(door.admit(&stream).unwrap());
            clients.push((client, stream));
        }
        // Who has left makes room, and nobody is closed for the next.
        claims.remove(3);
        let (fourth, stream) = connection();
        claims.push(door.admit(&stream).unwrap());
        clients.push((fourth, stream));
        assert!(is_open(&mut clients[0].0));
        let (last, stream) = connection();
        claims.push(door.admit(&stream).unwrap());
        clients.push((last, stream));
        assert!(!is_open(&mut clients[0].0));
        assert!(clients[1..].iter_mut().all(|(client, _)| is_open(client)));
        assert_eq!(door.line.lock().unwrap().waiting.len(), MOST_WAITING);
    }

    #[test]
    fn closed_connections_whose_threads_have_not_ended_are_bounded_too() {
        let door = Arc::new(Door::default());
        let mut claims = Vec::new();
        for _ in 0..MOST_THREADS {
            let (_, stream) = connection();
            claims.push(door.admit(&stream).unwrap());
        }
        let (_, stream) = connection();
        assert!(door.admit(&stream).is_none());
        claims.clear();
        assert_eq!(door.threads.load(Ordering::Acquire), 0);
        assert!(door.line.lock().unwrap().waiting.is_empty());
        assert!(door.admit(&stream).is_some());
    }

    #[test]
    fn a_client_on_this_machine_is_known_by_its_address() {
        for own in ["127.0.0.1:4711", "127.9.9.9:4711", "[::ffff:127.0.0.1]:4711"] {
            assert!(is_of_this_machine(own.parse().unwrap()), "{own}");
        }
        // The address that this machine would have towards others; nothing is sent.
        let towards = UdpSocket::bind("0.0.0.0:0").unwrap();
        if towards.connect("192.0.2.7:9").is_ok() {
            assert!(is_of_this_machine(towards.local_addr().unwrap()));
        }
        // TEST-NET-1 and the documentation's IPv6: no machine has them.
        for other in ["192.0.2.7:4711", "[2001:db8::7]:4711", "[::ffff:192.0.2.7]:4711"] {
            assert!(!is_of_this_machine(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn refusals_fill_no_log() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| refusals.may_tell(now)).count(), MOST_TOLD as usize);
        assert!(refusals.may_tell(now + TOLD_WITHIN));
    }
}
