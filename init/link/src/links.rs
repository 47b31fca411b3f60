//! The machine's Ethernet links, as the kernel lists them.

use astromesh_proto::machine_config::{Addressing, Interface, Link, Network};
use std::fs;
use std::path::Path;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthernetLink {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// `ARPHRD_ETHER` of linux/if_arp.h.
const ETHERNET: &str = "1";

/// The links that are there now, in the kernel's order.
pub fn list() -> Vec<EthernetLink> {
    let mut links: Vec<_> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| read(&entry.path()))
        .collect();
    links.sort_unstable_by_key(|link| link.index);
    links
}

fn read(path: &Path) -> Option<EthernetLink> {
    let value = |file: &str| Some(fs::read_to_string(path.join(file)).ok()?.trim().to_owned());
    if value("type")? != ETHERNET {
        return None;
    }
    Some(EthernetLink {
        name: path.file_name()?.to_str()?.to_owned(),
        index: value("ifindex")?.parse().ok()?,
        mac: parse_mac(&value("address")?)?,
    })
}

/// Whether something is at the link's other end. Only a link that is up can tell.
pub fn has_carrier(link: &EthernetLink) -> bool {
    fs::read_to_string(format!("/sys/class/net/{}/carrier", link.name)).is_ok_and(|text| text.trim() == "1")
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The largest packet that a link carries as it is set now, in bytes.
pub fn mtu(link: &EthernetLink) -> Option<u16> {
    fs::read_to_string(format!("/sys/class/net/{}/mtu", link.name)).ok()?.trim().parse().ok()
}

/// Metric of the first link; IPv6's own default is 1024 for all.
const FIRST_METRIC: u32 = 100;

/// The metric of a link's routes: of two links with a router, the one that the machine-config names first is taken, or
/// without one, the one with the lower index. It depends on nothing that comes and goes.
pub fn metric(link: &EthernetLink, network: &Network) -> u32 {
    let written = network.interfaces.iter().position(|interface| is_named(link, interface));
    let place = written.and_then(|place| u32::try_from(place).ok()).unwrap_or(link.index);
    FIRST_METRIC.saturating_add(place)
}

fn is_named(link: &EthernetLink, interface: &Interface) -> bool {
    match &interface.link {
        Link::Name(name) => *name == link.name,
        Link::Mac(mac) => *mac == link.mac,
    }
}

/// How a link is to be addressed: as configured; by DHCP when nothing is configured at all; not, when other links are.
pub fn addressing<'a>(link: &EthernetLink, network: &'a Network) -> Option<&'a Addressing> {
    const DHCP: &Addressing = &Addressing::Dhcp;
    if network.interfaces.is_empty() {
        return Some(DHCP);
    }
    network
        .interfaces
        .iter()
        .find(|interface| is_named(link, interface))
        .map(|interface| &interface.addressing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> EthernetLink {
        EthernetLink { name: "eth0".to_owned(), index: 2, mac: [0x52, 0x54, 0, 0, 0, 1] }
    }

    #[test]
    fn a_hardware_address_is_six_bytes_and_nothing_else() {
        assert_eq!(parse_mac("52:54:00:00:00:01"), Some(link().mac));
        for wrong in ["", "52:54:00:00:00", "52:54:00:00:00:01:02", "52:54:00:00:00:zz"] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_link_that_is_written_first_comes_first_and_else_the_one_with_the_lower_index() {
        let other = EthernetLink { name: "eth1".to_owned(), index: 3, mac: [0x52, 0x54, 0, 0, 0, 2] };
        let mut network = Network::default();
        assert!(metric(&link(), &network) < metric(&other, &network));
        for link in [Link::Mac(other.mac), Link::Name("eth0".to_owned())] {
            network.interfaces.push(Interface { link, addressing: Addressing::Dhcp });
        }
        assert!(metric(&other, &network) < metric(&link(), &network));
    }

    #[test]
    fn without_configuration_every_link_is_addressed_by_dhcp_and_with_it_only_those_named() {
        let mut network = Network::default();
        assert_eq!(addressing(&link(), &network), Some(&Addressing::Dhcp));
        network
            .interfaces
            .push(Interface { link: Link::Name("eth1".to_owned()), addressing: Addressing::Dhcp });
        assert_eq!(addressing(&link(), &network), None);
        network.interfaces.push(Interface { link: Link::Mac(link().mac), addressing: Addressing::Dhcp });
        assert_eq!(addressing(&link(), &network), Some(&Addressing::Dhcp));
    }
}
