//! What other people's servers answer, in the raw forms in which they do, against the code that reads it and the state
//! machine that acts on it: DHCP servers of networks ([`leases`]) and of clouds ([`clouds`]), and routers of IPv6
//! ([`routers`]). Each row names where its form is from.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod clouds;
mod leases;
mod raw;
mod routers;

use astromesh_link::lease::{Answer, Change, Client, Lease, Send};
use astromesh_link::wire;
use raw::{MAC, REPLY, Reply, TRANSACTION};
use std::time::{Duration, Instant};

/// A lease in one line: address, routes, name servers, domains, packet size, lifetime and its two times, server.
fn line(lease: &Lease) -> String {
    let mut parts = vec![format!("{}/{}", lease.address, lease.prefix)];
    for route in &lease.routes {
        let by = route.gateway.map_or_else(|| "direct".to_owned(), |gateway| format!("by {gateway}"));
        parts.push(format!("{}/{} {by}", route.destination, route.prefix));
    }
    let words = |name: &str, words: Vec<String>| format!("{name} {}", words.join(" "));
    if !lease.nameservers.is_empty() {
        parts.push(words("dns", lease.nameservers.iter().map(ToString::to_string).collect()));
    }
    if !lease.domains.is_empty() {
        parts.push(words("search", lease.domains.clone()));
    }
    parts.extend(lease.mtu.map(|mtu| format!("mtu {mtu}")));
    parts.push(format!("{}/{}/{} s", lease.seconds, lease.renew_after, lease.rebind_after));
    parts.push(format!("from {}", lease.server));
    parts.join("; ")
}

/// What a client has of a server that offers and grants this.
fn granted(reply: &Reply) -> Option<Lease> {
    let now = Instant::now();
    let mut client = Client::new(now);
    assert_eq!(client.poll(now).1, Some(Send::Discover));
    let answer = |kind| wire::answer(&reply.packet(kind), MAC, TRANSACTION);
    client.receive(answer(2)?, now);
    let Some(Send::Request { address, server }) = client.poll(now).1 else { return None };
    match client.receive(answer(5)?, now) {
        Some(Change::Granted(lease)) => {
            assert_eq!((lease.address, lease.server), (address, server));
            Some(lease)
        }
        _ => None,
    }
}

#[test]
fn what_each_server_grants_is_taken_as_it_means_it() {
    assert!(leases::REPLIES.len() + clouds::REPLIES.len() >= 40);
    for reply in leases::REPLIES.iter().chain(clouds::REPLIES) {
        let taken = granted(reply).as_ref().map(line).unwrap_or_default();
        assert_eq!(taken, reply.taken, "{}", reply.source);
    }
}

#[test]
fn no_lease_is_kept_for_longer_than_its_server_said() {
    for reply in leases::REPLIES.iter().chain(clouds::REPLIES) {
        let Some(lease) = granted(reply) else { continue };
        let start = Instant::now();
        let mut client = Client::new(start);
        client.poll(start);
        client.receive(Answer::Offer(lease.clone()), start);
        client.poll(start);
        client.receive(Answer::Ack(lease.clone()), start);
        let mut sent = 0;
        let lost = loop {
            let now = client.wake_at();
            if let (Some(Change::Lost(_)), _) = client.poll(now) {
                break now;
            }
            sent += 1;
            assert!(sent < 100, "{}: a silent server is flooded", reply.source);
        };
        assert_eq!(lost - start, Duration::from_secs(lease.seconds.into()), "{}", reply.source);
    }
}

#[test]
fn an_answer_that_is_cut_off_or_somebody_elses_is_passed_over() {
    for reply in leases::REPLIES.iter().chain(clouds::REPLIES) {
        let packet = reply.packet(5);
        // No length may panic; one without its fixed fields is nothing.
        for length in 0..packet.len() {
            let answer = wire::answer(&packet[..length], MAC, TRANSACTION);
            assert!(length >= packet.len() || answer.is_none(), "{}: {length}", reply.source);
        }
        assert_eq!(wire::answer(&packet, MAC, TRANSACTION + 1), None, "{}", reply.source);
        assert_eq!(wire::answer(&packet, [0x52, 0x54, 0, 0, 0, 9], TRANSACTION), None, "{}", reply.source);
    }
}

#[test]
fn a_refusal_needs_nothing_but_its_type() {
    let reply = Reply { address: [0, 0, 0, 0], ..REPLY };
    assert_eq!(wire::answer(&reply.packet(6), MAC, TRANSACTION), Some(Answer::Nak));
}
