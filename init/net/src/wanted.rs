//! What a link is to have, as a value: it is made from a lease or from the machine-config, compared with what the link
//! was given before, and the difference is what the kernel is told.
//!
//! **Why a value.** A lease brings an address, routes and the size of packets; when it is renewed with other ones, or
//! lost, whatever it brought has to go. What is compared can't be forgotten.
//!
//! **Two tables.** The main one has the routes of all links, each link with its own metric, so that a renewal on one
//! never changes what another has. A second one for each link has only that link's routes, and is looked in for packets
//! from that link's addresses: who asks at an address is answered by the link that has it.

use astromesh_link::lease::Lease;
use astromesh_link::netlink::{GivenBy, MAIN_TABLE, SourceRule, TableRoute};
use astromesh_link::routes::masked;
use astromesh_proto::machine_config::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Tables of links begin here: far from those with a meaning of their own, 253 to 255.
const FIRST_TABLE: u32 = 10_000;
/// When their rules are looked at: before the main table's.
const RULE_PRIORITY: u32 = 10_000;
/// A link that carries less has no IPv6 (RFC 8200 5), and the kernel takes that away at once.
const LEAST_MTU_OF_IPV6: u16 = 1280;

/// The link: its index, and the metric of its routes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Index.
    pub index: u32,
    /// Metric.
    pub metric: u32,
}

/// One thing that the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// An address.
    Address(Cidr),
    /// A route.
    Route(TableRoute),
    /// A rule.
    Rule(SourceRule),
}

/// All that a link is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it comes from.
    pub given_by: GivenBy,
    /// In the order in which they can be added: a route may need an address, a rule a route.
    pub facts: Vec<Fact>,
    /// Largest packet of the link; `None` for what it has by itself.
    pub mtu: Option<u16>,
}

impl Default for Wanted {
    /// Nothing.
    fn default() -> Self {
        Self { given_by: GivenBy::Config, facts: Vec::new(), mtu: None }
    }
}

impl Wanted {
    /// What a lease brings.
    pub fn leased(lease: &Lease, place: Place) -> Self {
        let address = IpAddr::V4(lease.address);
        let cidr = Cidr { address, prefix: lease.prefix };
        // DHCP speaks for IPv4 alone. What would end IPv6 on the link is kept to the routes that the lease brings.
        let small = lease.mtu.filter(|mtu| *mtu < LEAST_MTU_OF_IPV6).map(u32::from);
        let routes = lease.routes.iter().map(|route| TableRoute {
            table: MAIN_TABLE,
            destination: route.destination.into(),
            prefix: route.prefix,
            gateway: route.gateway.map(IpAddr::V4),
            metric: place.metric,
            source: Some(address),
            mtu: small,
        });
        let mut facts = vec![Fact::Address(cidr)];
        // First those that lead to a router, then those by it.
        let (direct, by_router): (Vec<_>, Vec<_>) = routes.partition(|route| route.gateway.is_none());
        let routes = [direct, by_router].concat();
        facts.extend(routes.iter().copied().map(Fact::Route));
        own_table(&mut facts, &[cidr], &routes, place);
        let mtu = lease.mtu.map(|mtu| mtu.max(LEAST_MTU_OF_IPV6));
        Self { given_by: GivenBy::Lease(lease.seconds), facts, mtu }
    }

    /// What the machine-config says.
    pub fn configured(
        addresses: &[Cidr],
        gateway: Option<Ipv4Addr>,
        gateway6: Option<Ipv6Addr>,
        place: Place,
    ) -> Self {
        let mut facts: Vec<_> = addresses.iter().copied().map(Fact::Address).collect();
        let gateways = gateway.map(IpAddr::V4).into_iter().chain(gateway6.map(IpAddr::V6));
        for gateway in gateways {
            let route = TableRoute {
                table: MAIN_TABLE,
                destination: unspecified(gateway),
                prefix: 0,
                gateway: Some(gateway),
                metric: place.metric,
                source: None,
                mtu: None,
            };
            facts.push(Fact::Route(route));
            let same = |cidr: &&Cidr| cidr.address.is_ipv4() == gateway.is_ipv4();
            let addresses: Vec<_> = addresses.iter().filter(same).copied().collect();
            own_table(&mut facts, &addresses, &[route], place);
        }
        Self { given_by: GivenBy::Config, facts, mtu: None }
    }

    /// What `before` had and this hasn't, in the order in which it is to be removed.
    pub fn removed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Fact> {
        before.facts.iter().rev().filter(|fact| !self.facts.contains(fact))
    }
}

/// The link's own table: its networks and its routes, for packets from its addresses.
fn own_table(facts: &mut Vec<Fact>, addresses: &[Cidr], routes: &[TableRoute], place: Place) {
    let table = FIRST_TABLE.saturating_add(place.index);
    let mut of_table = Vec::new();
    for cidr in addresses {
        let network = TableRoute {
            table,
            destination: network(*cidr),
            prefix: cidr.prefix,
            gateway: None,
            metric: place.metric,
            source: cidr.address.is_ipv4().then_some(cidr.address),
            mtu: None,
        };
        let known = |one: &TableRoute| (one.destination, one.prefix) == (network.destination, network.prefix);
        // A network of one host is the address itself.
        let alone = cidr.prefix == if cidr.address.is_ipv4() { 32 } else { 128 };
        if !alone && !of_table.iter().any(known) && !routes.iter().any(known) {
            of_table.push(network);
        }
    }
    of_table.extend(routes.iter().map(|route| TableRoute { table, ..*route }));
    facts.extend(of_table.into_iter().map(Fact::Route));
    let rule = |cidr: &Cidr| Fact::Rule(SourceRule { source: cidr.address, table, priority: RULE_PRIORITY });
    facts.extend(addresses.iter().map(rule));
}

fn network(cidr: Cidr) -> IpAddr {
    match cidr.address {
        IpAddr::V4(address) => masked(address, cidr.prefix).into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(cidr.prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_link::routes::Route;
    use std::collections::BTreeSet;

    const ETH0: Place = Place { index: 2, metric: 102 };
    const ETH1: Place = Place { index: 3, metric: 103 };

    fn lease(address: [u8; 4], prefix: u8, router: [u8; 4]) -> Lease {
        Lease {
            address: address.into(),
            prefix,
            routes: vec![Route::default_by(router.into())],
            nameservers: heapless::Vec::new(),
            domains: Vec::new(),
            mtu: None,
            server: router.into(),
            seconds: 3600,
            renew_after: 1800,
            rebind_after: 3150,
        }
    }

    fn routes(wanted: &Wanted) -> impl Iterator<Item = &TableRoute> {
        wanted.facts.iter().filter_map(|fact| if let Fact::Route(route) = fact { Some(route) } else { None })
    }

    fn rules(wanted: &Wanted) -> impl Iterator<Item = &SourceRule> {
        wanted.facts.iter().filter_map(|fact| if let Fact::Rule(rule) = fact { Some(rule) } else { None })
    }

    /// By which gateway a packet from `source` to elsewhere goes, as the kernel decides: rules first, then the main table,
    /// and there the lowest metric.
    fn way_out(links: &[&Wanted], source: Option<IpAddr>) -> Option<IpAddr> {
        let table = links.iter().flat_map(|one| rules(one)).find(|rule| Some(rule.source) == source);
        let table = table.map_or(MAIN_TABLE, |rule| rule.table);
        let routes = links.iter().flat_map(|one| routes(one));
        let default = routes.filter(|route| route.table == table && route.prefix == 0);
        default.min_by_key(|route| route.metric)?.gateway
    }

    #[test]
    fn the_default_route_stays_with_the_first_link_whichever_renews_and_each_address_answers_by_its_own() {
        let first = Wanted::leased(&lease([10, 0, 0, 5], 24, [10, 0, 0, 1]), ETH0);
        let second = Wanted::leased(&lease([10, 1, 0, 5], 24, [10, 1, 0, 1]), ETH1);
        let router = |octets: [u8; 4]| Some(IpAddr::from(octets));
        // In whatever order the kernel was told, no fact of one replaces one of the other: the key of a route is table,
        // network and metric.
        let key = |one: &TableRoute| (one.table, one.destination, one.prefix, one.metric);
        let keys = |wanted: &Wanted| routes(wanted).map(key).collect::<BTreeSet<_>>();
        let (a, b) = (keys(&first), keys(&second));
        assert!(a.is_disjoint(&b));
        for links in [[&first, &second], [&second, &first]] {
            assert_eq!(way_out(&links, None), router([10, 0, 0, 1]));
            assert_eq!(way_out(&links, Some(IpAddr::from([10, 0, 0, 5]))), router([10, 0, 0, 1]));
            assert_eq!(way_out(&links, Some(IpAddr::from([10, 1, 0, 5]))), router([10, 1, 0, 1]));
        }
        // Twin: without the rules, the second address is answered by the first link.
        let mut bare = second.clone();
        bare.facts.retain(|fact| !matches!(fact, Fact::Rule(_)));
        assert_eq!(way_out(&[&first, &bare], Some(IpAddr::from([10, 1, 0, 5]))), router([10, 0, 0, 1]));
    }

    #[test]
    fn a_lost_lease_leaves_nothing_and_a_renewed_one_only_what_it_says() {
        let mut lease = lease([10, 0, 0, 5], 24, [10, 0, 0, 1]);
        lease.mtu = Some(1400);
        let before = Wanted::leased(&lease, ETH0);
        assert_eq!(before.mtu, Some(1400));
        let nothing = Wanted::default();
        assert_eq!(nothing.mtu, None);
        let mut removed: Vec<_> = nothing.removed_since(&before).copied().collect();
        removed.reverse();
        assert_eq!(removed, before.facts);
        assert_eq!(before.removed_since(&before).count(), 0);
        lease.routes = vec![Route::default_by([10, 0, 0, 2].into())];
        lease.mtu = None;
        let after = Wanted::leased(&lease, ETH0);
        let removed: Vec<_> = after.removed_since(&before).collect();
        assert!(!removed.is_empty());
        let by = |fact: &&&Fact| matches!(fact, Fact::Route(route) if route.gateway == Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(removed.iter().filter(by).count(), removed.len());
        assert_eq!(after.mtu, None);
    }

    #[test]
    fn a_small_packet_size_of_ipv4_does_not_end_ipv6() {
        let mut lease = lease([10, 0, 0, 5], 24, [10, 0, 0, 1]);
        lease.mtu = Some(576);
        let wanted = Wanted::leased(&lease, ETH0);
        assert_eq!(wanted.mtu, Some(1280));
        assert!(routes(&wanted).filter(|route| route.gateway.is_some()).all(|route| route.mtu == Some(576)));
        lease.mtu = Some(1400);
        assert!(routes(&Wanted::leased(&lease, ETH0)).all(|route| route.mtu.is_none()));
    }

    #[test]
    fn an_address_whose_network_is_one_host_has_a_way_out_too() {
        let cidr = |text: &str| {
            let (address, prefix) = text.split_once('/').unwrap();
            Cidr { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
        };
        let addresses = [cidr("203.0.113.7/32"), cidr("2001:db8::7/128"), cidr("fd00::7/64")];
        let gateway = Ipv4Addr::new(172, 31, 1, 1);
        let gateway6: Ipv6Addr = "fe80::1".parse().unwrap();
        let wanted = Wanted::configured(&addresses, Some(gateway), Some(gateway6), ETH0);
        assert_eq!(way_out(&[&wanted], None), Some(gateway.into()));
        for address in addresses {
            let by = way_out(&[&wanted], Some(address.address));
            assert!(by.is_some());
        }
        // No route to a network of one host, and one to the other.
        let direct: Vec<_> = routes(&wanted).filter(|route| route.gateway.is_none()).collect();
        assert_eq!(direct.len(), 1);
        assert_eq!((direct[0].destination, direct[0].prefix), ("fd00::".parse().unwrap(), 64));
    }
}
