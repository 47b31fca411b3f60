//! Router advertisements as routers send them. The kernel reads them and hands on, one message each, the options that are
//! for user space; [`heard`] does here what it does there (`ndisc_router_discovery` and `ndisc_ra_useropt` in
//! net/ipv6/ndisc.c), and everything behind that is the node's own.

use crate::raw::bytes;
use astromesh_link::advertised::{Advertised, Item, MOST};
use astromesh_link::notifications::{Notification, notification};
use std::time::{Duration, Instant};

/// An advertisement.
struct Router {
    /// Where this form is from.
    source: &'static str,
    /// Hop limit, flags, lifetime of the router, and the two timers.
    head: &'static str,
    /// Its options.
    options: &'static str,
    /// What is known after it.
    known: &'static str,
}

/// A router of half an hour.
const HEAD: &str = "40 00 0708 00000000 00000000";
/// `fd00::/64`, as nearly every advertisement has one.
const PREFIX: &str = "03 04 40c0 00015180 00003840 00000000 fd000000000000000000000000000000";

const ROUTERS: &[Router] = &[
    Router {
        source: "radvd of a mesh, github.com/freifunk-gluon/gluon/issues/1039",
        head: HEAD,
        options: "05 01 0000 00000500 \
                  03 04 40c0 00015180 00003840 00000000 2001067c2ed861000000000000000000 \
                  03 04 40c0 00015180 00003840 00000000 fd01067c2ed861000000000000000000 \
                  19 05 0000 00000708 fd01067c2ed8000a0000000000550001 fd01067c2ed8000a0000000000560001 \
                  1f 03 0000 00000708 04 'ffda' 02 'io' 00 00000000000000",
        known: "fd01:67c:2ed8:a::55:1 fd01:67c:2ed8:a::56:1 ffda.io",
    },
    Router {
        source: "odhcpd, github.com/openwrt/odhcpd/pull/386",
        head: HEAD,
        options: "1f 03 0000 0000142b 03 'xxx' 03 'lan' 00 00000000000000",
        known: "xxx.lan",
    },
    Router {
        source: "odhcpd before that, which left old bytes behind the last domain",
        head: HEAD,
        options: "1f 03 0000 0000142b 03 'xxx' 03 'lan' 00 7fab12ff003f41",
        known: "xxx.lan",
    },
    Router {
        source: "odhcpd with its own link-local address, github.com/openwrt/odhcpd/issues/70",
        head: HEAD,
        options: "19 03 0000 00000708 fe800000000000000000000000000001",
        known: "fe80::1",
    },
    Router {
        source: "a home router for twelve seconds, github.com/home-assistant/operating-system/issues/3588",
        head: "40 c0 0000 00000000 00000000",
        options: "01 01 525400123502 05 01 0000 000005d4 \
                  19 03 0000 0000000c fe800000000000006c0d8563da46ca9c \
                  1f 05 0000 0000000c 03 'lan' 04 'home' 06 'domain' 03 'com' 00 0000000000000000000000 \
                  07 01 0000 00000fa0",
        known: "fe80::6c0d:8563:da46:ca9c lan.home.domain.com",
    },
    Router {
        source: "a provider, github.com/systemd/systemd/issues/22905",
        head: "00 c0 ffff 00000000 00000000",
        options: "03 04 40c0 00278d00 00093a80 00000000 20010db808ffffff0000000000000000 \
                  19 05 0000 000004b0 20010db8080000000000000000000012 20010db8080000000000000000000040",
        known: "2001:db8:800::12 2001:db8:800::40",
    },
    Router {
        source: "one option for each server, as Cisco IOS writes several `ipv6 nd ra dns server`",
        head: HEAD,
        options: "19 03 0000 00000708 fd000000000000000000000000000053 \
                  19 03 0000 00000708 fd000000000000000000000000000054",
        known: "fd00::53 fd00::54",
    },
    Router {
        source: "QEMU's user network, slirp/src/ip6_icmp.c",
        head: HEAD,
        options: "01 01 525600000002 03 04 40c0 00015180 00003840 00000000 fec00000000000000000000000000000 \
                  19 03 0000 00000960 fec00000000000000000000000000003",
        known: "fec0::3",
    },
    Router {
        source: "dnsmasq with enable-ra and option6:dns-server, option6:domain-search",
        head: HEAD,
        options: "05 01 0000 000005dc 01 01 525400aabbcc \
                  1f 03 0000 00001c20 03 'lan' 04 'test' 00 000000000000 \
                  19 03 0000 00001c20 fd000000000000000000000000000001",
        known: "lan.test fd00::1",
    },
    Router {
        source: "AdGuard Home, whose link-layer option is two bytes too long, github.com/AdguardTeam/AdGuardHome/issues/5840: \
                 the kernel drops what has an option of no length",
        head: HEAD,
        options: "01 01 525400aabbcc 0000 19 03 0000 00000e10 fe800000000000000000000000000001",
        known: "",
    },
    Router {
        source: "radvd without name servers, github.com/radvd-project/radvd/issues/209",
        head: "40 c0 0708 00002710 00001388",
        options: "03 04 40c0 0000012c 0000003c 00000000 fd3cb2e893df000f0000000000000000",
        known: "",
    },
    Router {
        source: "EC2 and GCE: addresses and name servers are in DHCPv6",
        head: "ff c0 0708 00000000 00000000",
        options: "01 01 0a0000000001",
        known: "",
    },
    Router {
        source: "encrypted resolvers, github.com/radvd-project/radvd/pull/282, a captive portal and PREF64: not for us",
        head: HEAD,
        options: "90 02 0001 00000708 0000000000000000 25 01 'http:/' 26 02 0708 0064ff9b0000000000000000",
        known: "",
    },
    Router {
        source: "a server without an end, RFC 8106 5.1",
        head: HEAD,
        options: "19 03 0000 ffffffff fd000000000000000000000000000001",
        known: "fd00::1",
    },
    Router {
        source: "half an address behind a whole one, against RFC 8106 5.1",
        head: HEAD,
        options: "19 04 0000 00000708 fd000000000000000000000000000001 fd00000000000000",
        known: "fd00::1",
    },
    Router {
        source: "what no server has: unspecified, multicast, loopback",
        head: HEAD,
        options: "19 07 0000 00000708 00000000000000000000000000000000 ff0200000000000000000000000000fb \
                  00000000000000000000000000000001",
        known: "",
    },
    Router {
        source: "a domain that would end the line of the resolver's file",
        head: HEAD,
        options: "1f 03 0000 00000708 0c 'lan' 0a 'namesrvr' 00 0000",
        known: "",
    },
];

/// The messages that the kernel makes of an advertisement heard on a link.
fn heard(router: &str, options: &str, link: u32) -> Vec<Vec<u8>> {
    let mut advertisement = bytes("86 00 0000");
    advertisement.extend(bytes(router));
    assert_eq!(advertisement.len(), 16, "{router}");
    advertisement.extend(bytes(options));
    let mut messages = Vec::new();
    let mut rest = &advertisement[16..];
    while rest.len() >= 2 {
        let length = usize::from(rest[1]) * 8;
        if length == 0 || length > rest.len() {
            // Dropped as a whole, before any option was looked at.
            return Vec::new();
        }
        let (option, behind) = rest.split_at(length);
        // ndisc_is_useropt: prefixes, name servers, domains, captive portal, PREF64.
        if [3, 25, 31, 37, 38].contains(&option[0]) {
            let mut message = vec![0; 16];
            message[4..6].copy_from_slice(&68_u16.to_ne_bytes());
            // struct nduseroptmsg, then the option, then NDUSEROPT_SRCADDR.
            message.extend([10, 0]);
            message.extend(u16::try_from(length).unwrap().to_ne_bytes());
            message.extend(link.to_ne_bytes());
            message.extend([134, 0, 0, 0, 0, 0, 0, 0]);
            message.extend(option);
            message.extend([20, 0, 1, 0]);
            message.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            messages.push(message);
        }
        rest = behind;
    }
    messages
}

/// Takes in an advertisement; whether it changed anything.
fn hear(advertised: &mut Advertised, options: &str, link: u32, now: Instant) -> bool {
    let mut changed = false;
    for message in heard(HEAD, options, link) {
        if let Some(Notification::Advertised(advertisement)) = notification(&message) {
            changed |= advertised.hear(advertisement, now);
        }
    }
    changed
}

fn known(advertised: &Advertised, link: u32) -> String {
    let words = advertised.on(link).map(|item| match item {
        Item::Server(server) => server.to_string(),
        Item::Domain(domain) => domain.clone(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn server(last: u8, lifetime: u32) -> String {
    format!("19 03 0000 {lifetime:08x} fd0000000000000000000000000000{last:02x}")
}

#[test]
fn what_each_router_advertises_is_known() {
    assert!(ROUTERS.len() >= 15);
    for router in ROUTERS {
        for options in [router.options.to_owned(), format!("{PREFIX} {}", router.options)] {
            let mut advertised = Advertised::default();
            let now = Instant::now();
            for message in heard(router.head, &options, 2) {
                if let Some(Notification::Advertised(advertisement)) = notification(&message) {
                    assert_eq!(advertisement.link, 2);
                    advertised.hear(advertisement, now);
                }
            }
            assert_eq!(known(&advertised, 2), router.known, "{}", router.source);
        }
    }
}

#[test]
fn servers_of_several_options_and_links_stand_beside_each_other() {
    let (mut advertised, now) = (Advertised::default(), Instant::now());
    assert!(hear(&mut advertised, &server(1, 600), 2, now));
    assert!(hear(&mut advertised, &server(2, 600), 2, now));
    assert!(hear(&mut advertised, &server(1, 600), 3, now));
    assert_eq!(known(&advertised, 2), "fd00::1 fd00::2");
    assert_eq!(known(&advertised, 3), "fd00::1");
    // What is said again changes nothing, not even the order.
    assert!(!hear(&mut advertised, &server(1, 600), 2, now));
    assert_eq!(known(&advertised, 2), "fd00::1 fd00::2");
    // Taken back on one link, it stays on the other.
    assert!(hear(&mut advertised, &server(1, 0), 2, now));
    assert!(!hear(&mut advertised, &server(1, 0), 2, now));
    assert_eq!((known(&advertised, 2), known(&advertised, 3)), ("fd00::2".into(), "fd00::1".into()));
    assert!(advertised.forget(3) && !advertised.forget(3));
    assert_eq!(known(&advertised, 3), "");
}

#[test]
fn each_server_ends_at_its_own_time() {
    let (mut advertised, now) = (Advertised::default(), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    hear(&mut advertised, &server(1, 12), 2, now);
    hear(&mut advertised, &server(2, 600), 2, now);
    hear(&mut advertised, &server(3, u32::MAX), 2, now);
    assert_eq!(advertised.next_end(), Some(after(12)));
    assert!(!advertised.expire(after(11)));
    // Said again, it holds on.
    hear(&mut advertised, &server(1, 12), 2, after(11));
    assert!(!advertised.expire(after(12)));
    assert!(advertised.expire(after(23)));
    assert_eq!(known(&advertised, 2), "fd00::2 fd00::3");
    assert!(advertised.expire(after(600)));
    assert_eq!((known(&advertised, 2), advertised.next_end()), ("fd00::3".into(), None));
}

#[test]
fn a_router_that_names_servers_without_end_fills_no_memory() {
    let (mut advertised, now) = (Advertised::default(), Instant::now());
    for last in 0..=u8::MAX {
        hear(&mut advertised, &server(last, 100 + u32::from(last)), 2, now);
    }
    assert_eq!(advertised.on(2).count(), MOST);
    // What would end first made room.
    assert!(known(&advertised, 2).ends_with("fd00::ff"));
    // And what would end before all others finds none.
    assert!(!hear(&mut advertised, &server(1, 1), 2, now));
}

#[test]
fn a_message_that_is_cut_off_is_nothing() {
    for router in ROUTERS {
        for message in heard(router.head, router.options, 2) {
            let length = 32 + usize::from(message[33]) * 8;
            for cut in 0..length {
                assert_eq!(notification(&message[..cut]), None, "{}: {cut}", router.source);
            }
        }
    }
}
