//! The `network` section.

use super::error::{ConfigError, ErrorKind};
use super::names::{is_hostname, is_link_name};
use super::reader::{At, Fields};
use super::types::{Addressing, Cidr, Interface, Link, Network};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More links than a machine of this kind has.
const MAX_INTERFACES: usize = 64;
/// More addresses than a link of this kind has.
const MAX_ADDRESSES: usize = 16;
/// resolv.conf(5): `MAXNS`.
const MAX_NAMESERVERS: usize = 3;
/// What a hosts file, searched from top to bottom, should hold at most.
const MAX_HOSTS: usize = 256;

pub(super) fn network(at: &At<'_>) -> Result<Network, ConfigError> {
    let fields = at.mapping(&["interfaces", "nameservers", "hosts"])?;
    let mut network = Network::default();
    if let Some(list) = fields.optional("interfaces") {
        for item in list.list("a list of 1 to 64 interfaces", 1, MAX_INTERFACES)? {
            let next = interface(&item)?;
            unused(&item, &next, &network.interfaces)?;
            network.interfaces.push(next);
        }
    }
    if let Some(list) = fields.optional("nameservers") {
        for item in list.list("a list of 1 to 3 addresses", 1, MAX_NAMESERVERS)? {
            network.nameservers.push(item.parse("the address of a name server", host_address)?);
        }
    }
    if let Some(hosts) = fields.optional("hosts") {
        network.hosts = self::hosts(&hosts)?;
    }
    Ok(network)
}

fn hosts(at: &At<'_>) -> Result<BTreeMap<String, IpAddr>, ConfigError> {
    let expected = "a mapping of at most 256 host names to addresses";
    let entries = at.entries(expected)?;
    if entries.len() > MAX_HOSTS {
        return Err(at.wrong_value(expected, &format!("{} names", entries.len())));
    }
    let mut hosts = BTreeMap::new();
    for (name, value) in entries {
        // First the value: a key that is there twice is an error of its value.
        let address = value.parse("an address", |text| text.parse::<IpAddr>().ok().filter(is_usable))?;
        if !is_hostname(name, 253) {
            return Err(value.wrong_value("a host name as key", "a key that is none"));
        }
        if hosts.insert(name.to_ascii_lowercase(), address).is_some() {
            return Err(value.error(
                ErrorKind::DuplicateKey,
                "each host name once",
                "the same name in other case",
            ));
        }
    }
    Ok(hosts)
}

fn interface(at: &At<'_>) -> Result<Interface, ConfigError> {
    let fields = at.mapping(&["name", "mac", "dhcp", "addresses", "gateway", "gateway6"])?;
    let link =
        match (fields.optional("name"), fields.optional("mac")) {
            (Some(name), None) => Link::Name(name.parse("the name of a link, such as eth0", |text| {
                is_link_name(text).then(|| text.to_owned())
            })?),
            (None, Some(mac)) => {
                Link::Mac(mac.parse("a hardware address such as \"52:54:00:12:34:56\"", self::mac)?)
            }
            (Some(_), Some(mac)) => return Err(mac.wrong_value("one of `name` and `mac`", "both")),
            (None, None) => return Err(fields.missing("name", "`name` or `mac`")),
        };
    let addressing = match (fields.optional("dhcp"), fields.optional("addresses")) {
        (Some(_), Some(addresses)) => {
            return Err(addresses.wrong_value("one of `dhcp: true` and `addresses`", "both"));
        }
        (None, None) => return Err(fields.missing("dhcp", "`dhcp: true` or `addresses`")),
        (Some(dhcp), None) => {
            if !dhcp.boolean()? {
                let error = dhcp.wrong_value("`dhcp: true` or `addresses`", "false and no addresses");
                return Err(error.hint("give the interface addresses, or leave it out"));
            }
            for key in ["gateway", "gateway6"] {
                if let Some(gateway) = fields.optional(key) {
                    return Err(gateway.wrong_value("no gateway beside `dhcp: true`", "one"));
                }
            }
            Addressing::Dhcp
        }
        (None, Some(addresses)) => fixed(&addresses, &fields)?,
    };
    Ok(Interface { link, addressing })
}

fn fixed(list: &At<'_>, fields: &Fields<'_>) -> Result<Addressing, ConfigError> {
    let mut addresses: Vec<Cidr> = Vec::new();
    for item in list.list("a list of 1 to 16 addresses", 1, MAX_ADDRESSES)? {
        let next = item.parse("an address with its prefix length, such as 10.0.0.5/24", cidr)?;
        if addresses.iter().any(|known| known.address == next.address) {
            return Err(item.wrong_value("each address once", "the same address again"));
        }
        addresses.push(next);
    }
    let gateway = fields
        .optional("gateway")
        .map(|at| {
            at.parse(
                "an IPv4 address inside the network of one of the addresses, or any other beside an address with /32",
                |text| text.parse::<Ipv4Addr>().ok().filter(|address| is_reached(&addresses, (*address).into())),
            )
        })
        .transpose()?;
    let gateway6 = fields
        .optional("gateway6")
        .map(|at| {
            at.parse(
                "an IPv6 address inside the network of one of the addresses, in fe80::/10, or any other beside an \
                 address with /128",
                |text| {
                    let address = text.parse::<Ipv6Addr>().ok()?;
                    let reached = address.is_unicast_link_local() || is_reached(&addresses, address.into());
                    reached.then_some(address)
                },
            )
        })
        .transpose()?;
    Ok(Addressing::Static { addresses, gateway, gateway6 })
}

/// Whether a gateway can be the next station of a link with these addresses. Outside of their networks it is taken for a
/// slip, unless an address has a network of one host, as in several data centres: no gateway is inside of that, and it is
/// on the link all the same.
fn is_reached(addresses: &[Cidr], gateway: IpAddr) -> bool {
    let longest = if gateway.is_ipv4() { 32 } else { 128 };
    let alone = |known: &Cidr| known.address.is_ipv4() == gateway.is_ipv4() && known.prefix == longest;
    let usable = is_usable(&gateway) && !gateway.is_loopback();
    usable
        && addresses.iter().all(|known| known.address != gateway)
        && addresses.iter().any(|known| alone(known) || known.contains(gateway))
}

/// That `next` claims neither a link nor an address of an interface before it.
fn unused(at: &At<'_>, next: &Interface, before: &[Interface]) -> Result<(), ConfigError> {
    for known in before {
        if known.link == next.link {
            return Err(at.wrong_value("each interface once", "the same interface again"));
        }
        if let (Addressing::Static { addresses: a, .. }, Addressing::Static { addresses: b, .. }) =
            (&known.addressing, &next.addressing)
            && a.iter().any(|one| b.iter().any(|other| one.address == other.address))
        {
            return Err(at.wrong_value("each address once", "an address of another interface"));
        }
    }
    Ok(())
}

fn cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address = host_address(address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|bits| digits && (1..=longest).contains(bits))?;
    if let IpAddr::V4(v4) = address
        && prefix < 31
    {
        let host = v4.to_bits() & (u32::MAX >> prefix);
        if host == 0 || host == u32::MAX >> prefix {
            return None; // The network's own address, or its broadcast.
        }
    }
    Some(Cidr { address, prefix })
}

fn host_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|address| is_usable(address) && !address.is_loopback())
}

fn is_usable(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // The lowest bit of the first byte marks a group address (IEEE 802), which no link has.
    (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}
