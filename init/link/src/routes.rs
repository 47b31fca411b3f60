//! Routes that a DHCP server hands out: the routers of option 3, and the classless routes of option 121 (RFC 3442).

use std::net::Ipv4Addr;

/// Most routes taken from one server: a cloud hands out three, and the kernel's tables are not a stranger's to fill.
pub const MOST: usize = 32;

/// Where packets for some addresses go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network, with no bit set behind its prefix.
    pub destination: Ipv4Addr,
    /// Length of its prefix; 0 for the default route.
    pub prefix: u8,
    /// By whom; `None` when the network is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

impl Route {
    /// The default route by a router.
    pub const fn default_by(router: Ipv4Addr) -> Self {
        Self { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(router) }
    }

    /// Whether packets for `address` may take it.
    pub fn leads_to(&self, address: Ipv4Addr) -> bool {
        masked(address, self.prefix) == self.destination
    }
}

/// The network of this length that an address is in.
pub fn masked(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

/// Whether a host can have this address.
pub fn is_ordinary(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network" (RFC 1122 3.2.1.3).
    !(address.octets()[0] == 0 || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// The ordinary addresses of a list, and nothing of what is behind its last whole one.
pub fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let (whole, _) = bytes.as_chunks::<4>();
    whole.iter().copied().map(Ipv4Addr::from).filter(|address| is_ordinary(*address))
}

/// The routes of option 121: up to the first that makes no sense, each destination once.
///
/// Bits behind the prefix are cleared: RFC 3442 wants that of the client, and the kernel refuses a route with any.
pub fn classless(mut bytes: &[u8]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let significant = usize::from(prefix).div_ceil(8);
        let (Some(network), Some(gateway), true) =
            (rest.get(..significant), rest.get(significant..significant + 4), prefix <= 32)
        else {
            break;
        };
        bytes = &rest[significant + 4..];
        let mut octets = [0; 4];
        octets[..significant].copy_from_slice(network);
        let destination = masked(Ipv4Addr::from(octets), prefix);
        let gateway = <[u8; 4]>::try_from(gateway).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
        let known = routes.iter().any(|one| (one.destination, one.prefix) == (destination, prefix));
        // A default route that a server writes as one to the host 0.0.0.0 leads nowhere, and nobody hands out 127/8.
        let usable =
            (prefix == 0 || is_ordinary(destination)) && (gateway.is_unspecified() || is_ordinary(gateway));
        if usable && !known && routes.len() < MOST {
            routes.push(Route {
                destination,
                prefix,
                gateway: Some(gateway).filter(|by| !by.is_unspecified()),
            });
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: [u8; 4], prefix: u8, gateway: [u8; 4]) -> Route {
        let gateway = Some(Ipv4Addr::from(gateway)).filter(|by| !by.is_unspecified());
        Route { destination: destination.into(), prefix, gateway }
    }

    #[test]
    fn a_destination_takes_as_many_bytes_as_its_prefix_needs() {
        // The examples of RFC 3442, each with 10.0.0.1 for a router.
        let cases: [(&[u8], [u8; 4], u8); 7] = [
            (&[0], [0, 0, 0, 0], 0),
            (&[8, 10], [10, 0, 0, 0], 8),
            (&[24, 10, 0, 0], [10, 0, 0, 0], 24),
            (&[16, 10, 17], [10, 17, 0, 0], 16),
            (&[24, 10, 27, 129], [10, 27, 129, 0], 24),
            (&[25, 10, 229, 0, 128], [10, 229, 0, 128], 25),
            (&[32, 10, 198, 122, 47], [10, 198, 122, 47], 32),
        ];
        for (bytes, destination, prefix) in cases {
            let bytes = [bytes, &[10, 0, 0, 1]].concat();
            assert_eq!(classless(&bytes), [route(destination, prefix, [10, 0, 0, 1])]);
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_cleared_and_a_destination_counts_once() {
        let bytes = [&[20, 10, 1, 31, 10, 0, 0, 1][..], &[20, 10, 1, 16, 10, 0, 0, 2]].concat();
        assert_eq!(classless(&bytes), [route([10, 1, 16, 0], 20, [10, 0, 0, 1])]);
    }

    #[test]
    fn what_is_behind_a_broken_route_is_not_guessed() {
        let good = [24, 10, 1, 1, 10, 0, 0, 1];
        let wanted = [route([10, 1, 1, 0], 24, [10, 0, 0, 1])];
        for length in 1..good.len() {
            assert_eq!(classless(&[&good, &good[..length]].concat()), wanted);
        }
        assert_eq!(classless(&[&good[..], &[33, 1, 2, 3, 4, 5, 10, 0, 0, 1]].concat()), wanted);
        assert_eq!(classless(&[&[24, 10, 2, 2, 224, 0, 0, 1][..], &good].concat()), wanted);
    }
}
