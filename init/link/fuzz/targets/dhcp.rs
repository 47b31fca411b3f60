//! DHCP answers from anybody on the link: never a panic, a lease that the kernel can take and the resolver's file can hold,
//! never kept for longer than it says, and a client that wakes before its lease ends.
#![no_main]

use astromesh_link::lease::{Answer, Change, Client};
use astromesh_link::routes::{MOST, masked};
use astromesh_link::wire;
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const TRANSACTION: u32 = 7;

/// The input as the options of an answer to us: what is in front of them, a fuzzer would have to guess.
fn packet(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[2, 1, 6]);
    message[4..8].copy_from_slice(&TRANSACTION.to_be_bytes());
    message[16..20].copy_from_slice(&[10, 0, 0, 5]);
    message[28..34].copy_from_slice(&MAC);
    // The fields for names hold what the options end with.
    let names = options.len().saturating_sub(192);
    let tail = &options[names..];
    message[44..44 + tail.len()].copy_from_slice(tail);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend(options);
    let length = u16::try_from(message.len()).unwrap_or(0);
    let mut packet = vec![0x45, 0];
    packet.extend((length + 28).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 255, 255, 255, 255, 0, 67, 0, 68]);
    packet.extend((length + 8).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(message);
    packet
}

fn judge(answer: &Answer) {
    let (Answer::Offer(lease) | Answer::Ack(lease)) = answer else { return };
    assert!(lease.prefix <= 32 && lease.seconds > 0 && !lease.address.is_unspecified());
    assert!(lease.mtu.is_none_or(|mtu| mtu >= 576));
    assert!(lease.routes.len() <= MOST + 1);
    for route in &lease.routes {
        assert!(route.prefix <= 32 && masked(route.destination, route.prefix) == route.destination);
        assert!(route.gateway.is_none_or(|gateway| !gateway.is_unspecified() && !gateway.is_multicast()));
    }
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    assert!(lease.domains.iter().all(|domain| !domain.is_empty() && domain.bytes().all(of_a_name)));
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > 1400 {
        return;
    }
    let _ = wire::answer(bytes, MAC, TRANSACTION);
    let mut client = Client::new(Instant::now());
    let (mut now, mut held) = (client.wake_at(), None);
    // As an offer, as a grant, and as whatever it says itself.
    for kind in [[53, 1, 2], [53, 1, 5], [0, 0, 0]].into_iter().cycle().take(24) {
        if let (Some(Change::Lost(_)), _) = client.poll(now) {
            held = None;
        }
        let Some(answer) = wire::answer(&packet(&[&kind, bytes].concat()), MAC, TRANSACTION) else {
            continue;
        };
        judge(&answer);
        match client.receive(answer, now) {
            Some(Change::Granted(lease)) => {
                assert!(lease.renew_after <= lease.rebind_after && lease.rebind_after < lease.seconds);
                held = Some((lease.seconds, now));
            }
            Some(Change::Lost(_)) => held = None,
            None => {}
        }
        if let Some((seconds, since)) = held {
            assert!(
                client.wake_at() <= since + Duration::from_secs(seconds.into()).max(Duration::from_secs(1))
            );
        }
        now = client.wake_at().max(now);
    }
});
