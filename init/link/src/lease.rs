//! The DHCP client's state machine (RFC 2131), without a socket and without a clock: both are passed in.
//!
//! Broadcast until there is a lease, unicast to renew it (T1), broadcast again when its server is silent (T2), start
//! over when it runs out. A refusal starts over at once. The kernel is given the lease's end with the address, so
//! that it goes even if this process does.

use crate::routes::Route;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// First pause before a message is sent again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a message is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// Longest of the shortest pauses between two tries to renew (RFC 2131 4.4.5). A lease that is shorter than some
/// minutes leaves no time for it, so it is at most this part of the lease.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
const RENEW_PART: u32 = 16;
/// How long a lease lasts whose server doesn't say, in seconds: what busybox's client takes.
pub const UNSAID: u32 = 3600;
/// How often an offer is asked for before another one is looked for.
const ASKED_FOR: u32 = 4;

/// What a server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Routes, the default route among them.
    pub routes: Vec<Route>,
    /// Name servers, at most three.
    pub nameservers: heapless::Vec<Ipv4Addr, 3>,
    /// Domains in which the resolver looks for names without dots.
    pub domains: Vec<String>,
    /// Largest packet that the link carries, in bytes.
    pub mtu: Option<u16>,
    /// The server that granted it.
    pub server: Ipv4Addr,
    /// Seconds it lasts, from when it was asked for; never more than the server said.
    pub seconds: u32,
    /// Seconds until it is renewed (T1).
    pub renew_after: u32,
    /// Seconds until anybody may renew it (T2).
    pub rebind_after: u32,
}

impl Lease {
    /// The router by which `address` is reached; `None` when it is on the link, or can't be reached.
    pub fn gateway_to(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let leading = self.routes.iter().filter(|route| route.leads_to(address));
        leading.max_by_key(|route| route.prefix)?.gateway
    }
}

/// What came from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An offer.
    Offer(Lease),
    /// A grant.
    Ack(Lease),
    /// A refusal.
    Nak,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// DISCOVER, to everybody.
    Discover,
    /// REQUEST for an offered address, to everybody.
    Request {
        /// The address.
        address: Ipv4Addr,
        /// Whose offer it was.
        server: Ipv4Addr,
    },
    /// REQUEST for the address we have, to the server that granted it, or to everybody.
    Renew {
        /// The address.
        address: Ipv4Addr,
        /// The server, or nobody in particular.
        server: Option<Ipv4Addr>,
    },
}

/// What changed for the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The lease is granted, or granted again.
    Granted(Lease),
    /// The address must go.
    Lost(Lease),
}

#[derive(Debug)]
enum State {
    Selecting,
    Requesting { offer: Lease, sent: u32 },
    Bound { lease: Lease, since: Instant },
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    state: State,
    send_at: Instant,
    pause: Duration,
    /// When a lease was asked for last: a server counts from no earlier than that (RFC 2131 4.4.1).
    asked: Instant,
}

impl Client {
    /// A client that will look for a server at once.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Selecting, send_at: now, pause: FIRST_PAUSE, asked: now }
    }

    /// When [`Self::poll`] wants to be called again.
    pub fn wake_at(&self) -> Instant {
        match &self.state {
            State::Bound { lease, since } => self.send_at.min(*since + seconds(lease.seconds)),
            _ => self.send_at,
        }
    }

    /// What is due now.
    pub fn poll(&mut self, now: Instant) -> (Option<Change>, Option<Send>) {
        let mut change = None;
        if let State::Bound { lease, since } = &self.state {
            if now >= *since + seconds(lease.seconds) {
                change = Some(Change::Lost(lease.clone()));
                self.start_over(now);
            }
        }
        if now < self.send_at {
            return (change, None);
        }
        self.send_at = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let send = match &mut self.state {
            State::Selecting => Send::Discover,
            State::Requesting { sent, .. } if *sent >= ASKED_FOR => {
                self.start_over(now);
                self.send_at = now + FIRST_PAUSE;
                Send::Discover
            }
            State::Requesting { offer, sent } => {
                *sent += 1;
                self.asked = now;
                Send::Request { address: offer.address, server: offer.server }
            }
            State::Bound { lease, since } => {
                let rebinding = now >= *since + seconds(lease.rebind_after);
                // RFC 2131 4.4.5: half of what remains, but not less than a minute.
                let until = if rebinding { lease.seconds } else { lease.rebind_after };
                let remains = (*since + seconds(until)).saturating_duration_since(now);
                let least = RENEW_PAUSE.min(seconds(lease.seconds / RENEW_PART)).max(FIRST_PAUSE);
                self.send_at = now + (remains / 2).max(least).min(remains.max(FIRST_PAUSE));
                self.asked = now;
                Send::Renew { address: lease.address, server: (!rebinding).then_some(lease.server) }
            }
        };
        (change, Some(send))
    }

    /// What an answer changes. One that nobody asked for changes nothing.
    pub fn receive(&mut self, answer: Answer, now: Instant) -> Option<Change> {
        match (&self.state, answer) {
            (State::Selecting, Answer::Offer(offer)) => {
                self.state = State::Requesting { offer, sent: 0 };
                self.send_at = now;
                self.pause = FIRST_PAUSE;
                None
            }
            (State::Requesting { offer, .. }, Answer::Ack(lease)) if lease.address == offer.address => {
                Some(self.bind(lease, now))
            }
            (State::Bound { lease: held, since }, Answer::Ack(lease))
                if lease.address == held.address && now >= *since + seconds(held.renew_after) =>
            {
                Some(self.bind(lease, now))
            }
            (State::Requesting { .. }, Answer::Nak) => {
                self.start_over(now);
                self.send_at = now + FIRST_PAUSE;
                None
            }
            (State::Bound { lease, since }, Answer::Nak) if now >= *since + seconds(lease.renew_after) => {
                let lost = Change::Lost(lease.clone());
                self.start_over(now);
                Some(lost)
            }
            _ => None,
        }
    }

    fn bind(&mut self, mut lease: Lease, now: Instant) -> Change {
        // A server may leave T1 and T2 out, or put them in the wrong order.
        let (half, most) = (lease.seconds / 2, lease.seconds - lease.seconds.div_ceil(8));
        if lease.renew_after == 0 || lease.renew_after >= lease.seconds {
            lease.renew_after = half;
        }
        if lease.rebind_after <= lease.renew_after || lease.rebind_after >= lease.seconds {
            lease.rebind_after = most.max(lease.renew_after);
        }
        // A lease of a second must not make us ask without a pause.
        self.send_at = (self.asked + seconds(lease.renew_after)).max(now + FIRST_PAUSE);
        self.pause = FIRST_PAUSE;
        self.state = State::Bound { lease: lease.clone(), since: self.asked };
        Change::Granted(lease)
    }

    fn start_over(&mut self, now: Instant) {
        self.state = State::Selecting;
        self.send_at = now;
        self.pause = FIRST_PAUSE;
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(seconds: u32) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            routes: Vec::new(),
            nameservers: heapless::Vec::new(),
            domains: Vec::new(),
            mtu: None,
            server: Ipv4Addr::new(10, 0, 2, 2),
            seconds,
            renew_after: 0,
            rebind_after: 0,
        }
    }

    /// A client that holds `lease` since `now`.
    fn bound(lease_seconds: u32, now: Instant) -> Client {
        let mut client = Client::new(now);
        assert_eq!(client.poll(now).1, Some(Send::Discover));
        assert_eq!(client.receive(Answer::Offer(lease(lease_seconds)), now), None);
        assert!(matches!(client.poll(now).1, Some(Send::Request { .. })));
        assert!(matches!(client.receive(Answer::Ack(lease(lease_seconds)), now), Some(Change::Granted(_))));
        client
    }

    #[test]
    fn a_lease_is_renewed_at_half_its_time_with_the_server_that_granted_it() {
        let start = Instant::now();
        let mut client = bound(3600, start);
        let just_before = start + Duration::from_secs(1799);
        assert_eq!(client.poll(just_before), (None, None));
        let at = start + Duration::from_secs(1800);
        let (_, send) = client.poll(at);
        assert_eq!(send, Some(Send::Renew { address: lease(0).address, server: Some(lease(0).server) }));
        assert!(matches!(client.receive(Answer::Ack(lease(3600)), at), Some(Change::Granted(_))));
        assert_eq!(client.wake_at(), at + Duration::from_secs(1800));
    }

    #[test]
    fn anybody_is_asked_when_the_server_is_silent_and_the_address_goes_when_all_are() {
        let start = Instant::now();
        let mut client = bound(3600, start);
        let mut everybody = false;
        let mut sent = 0;
        let lost = loop {
            let now = client.wake_at();
            let (change, send) = client.poll(now);
            if let Some(Change::Lost(_)) = change {
                break now;
            }
            sent += 1;
            assert!(sent < 50, "a silent server is not flooded");
            if let Some(Send::Renew { server, .. }) = send {
                everybody |= server.is_none();
                assert_eq!(server.is_none(), now >= start + Duration::from_secs(3150));
            }
        };
        assert!(everybody);
        assert_eq!(lost, start + Duration::from_secs(3600));
    }

    #[test]
    fn a_refusal_starts_over() {
        let now = Instant::now();
        let mut client = Client::new(now);
        client.poll(now);
        client.receive(Answer::Offer(lease(3600)), now);
        client.poll(now);
        assert_eq!(client.receive(Answer::Nak, now), None);
        assert_eq!(client.poll(now + FIRST_PAUSE).1, Some(Send::Discover));
    }

    #[test]
    fn what_nobody_asked_for_changes_nothing() {
        let now = Instant::now();
        let mut client = Client::new(now);
        assert_eq!(client.receive(Answer::Ack(lease(3600)), now), None);
        assert_eq!(client.receive(Answer::Nak, now), None);
        let mut client = bound(3600, now);
        assert_eq!(client.receive(Answer::Nak, now), None, "before T1 there was no question");
        assert_eq!(client.receive(Answer::Offer(lease(60)), now), None);
        let other = Lease { address: Ipv4Addr::new(10, 9, 9, 9), ..lease(60) };
        assert_eq!(client.receive(Answer::Ack(other), now + Duration::from_secs(2000)), None);
    }

    #[test]
    fn nonsensical_times_are_put_in_order() {
        let now = Instant::now();
        for (seconds, renew_after, rebind_after) in
            [(1, 0, 0), (10, 20, 5), (3600, 3000, 2000), (u32::MAX, 1, 2)]
        {
            let mut client = Client::new(now);
            let lease = Lease { renew_after, rebind_after, ..lease(seconds) };
            client.poll(now);
            client.receive(Answer::Offer(lease.clone()), now);
            client.poll(now);
            let Some(Change::Granted(lease)) = client.receive(Answer::Ack(lease), now) else { panic!() };
            assert_eq!(lease.seconds, seconds, "never longer than the server said, and never shorter");
            assert!(lease.renew_after <= lease.rebind_after && lease.rebind_after < lease.seconds);
        }
    }

    #[test]
    fn a_lease_of_half_a_minute_is_renewed_at_fifteen_seconds_and_given_up_at_thirty() {
        let start = Instant::now();
        let mut client = bound(30, start);
        assert_eq!(client.wake_at(), start + Duration::from_secs(15));
        let mut asked = Vec::new();
        loop {
            let now = client.wake_at();
            let (change, send) = client.poll(now);
            if change.is_some() {
                assert_eq!(now, start + Duration::from_secs(30));
                break;
            }
            asked.push((now - start, send));
            assert!(asked.len() < 16, "{asked:?}");
        }
        let asked_one = |(_, send): &&(_, _)| matches!(send, Some(Send::Renew { server: Some(_), .. }));
        let one = asked.iter().filter(asked_one).count();
        assert!(one > 1 && asked.len() - one > 1, "{asked:?}");
        // Twin: one that was renewed is kept, and is counted from the question and not from the answer.
        let mut client = bound(30, start);
        client.poll(start + Duration::from_secs(15));
        client.receive(Answer::Ack(lease(30)), start + Duration::from_secs(17));
        assert_eq!(client.poll(start + Duration::from_secs(31)).0, None);
        let end = start + Duration::from_secs(45);
        assert!(matches!(client.poll(end).0, Some(Change::Lost(_))));
    }

    #[test]
    fn a_server_that_leases_for_a_second_is_not_flooded() {
        let start = Instant::now();
        let mut client = Client::new(start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(60) {
            let answer = match client.poll(now).1 {
                Some(Send::Discover) => Answer::Offer(lease(1)),
                Some(_) => Answer::Ack(lease(1)),
                None => Answer::Nak,
            };
            sent += 1;
            client.receive(answer, now);
            now = client.wake_at();
        }
        assert!(sent <= 4 * 60, "{sent}");
    }

    #[test]
    fn the_longest_prefix_leads_to_an_address() {
        let by = |last| Ipv4Addr::new(10, 0, 0, last);
        let to = |destination, prefix, gateway| Route { destination, prefix, gateway };
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        let mut lease = lease(60);
        assert_eq!(lease.gateway_to(metadata), None);
        lease.routes = vec![Route::default_by(by(1)), to(metadata, 32, Some(by(2))), to(by(1), 32, None)];
        assert_eq!(lease.gateway_to(metadata), Some(by(2)));
        assert_eq!(lease.gateway_to(Ipv4Addr::new(9, 9, 9, 9)), Some(by(1)));
        assert_eq!(lease.gateway_to(by(1)), None);
    }

    #[test]
    fn an_offer_that_nobody_confirms_is_given_up() {
        let mut client = Client::new(Instant::now());
        client.poll(client.wake_at());
        client.receive(Answer::Offer(lease(3600)), client.wake_at());
        let sent: Vec<_> = (0..6).map(|_| client.poll(client.wake_at()).1.unwrap()).collect();
        assert_eq!(sent.iter().filter(|send| matches!(send, Send::Request { .. })).count(), 4);
        assert_eq!(sent[4], Send::Discover);
    }
}
