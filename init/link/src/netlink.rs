//! Telling the kernel about links, addresses, routes and rules (rtnetlink(7)).
//!
//! Only what the node needs: four kinds of message out, and acknowledgements in. The crates that know all of rtnetlink
//! carry every message's encoder into the binary; these few lines are a fiftieth of that
//! (docs/decisions/004-few-lines-of-rtnetlink.md). What the kernel says of its own accord is read in
//! [`crate::notifications`].

use crate::message::{Message, verdict};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

/// A configuring socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h, linux/fib_rules.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTPROT_DHCP: u8 = 16;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The table that is looked in for every packet.
pub const MAIN_TABLE: u32 = 254;

/// Who a route or an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBy {
    /// A lease with this many seconds left.
    Lease(u32),
    /// The machine-config.
    Config,
}

/// A route in one of the kernel's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRoute {
    /// Which table.
    pub table: u32,
    /// The network.
    pub destination: IpAddr,
    /// Length of its prefix; 0 for the default route.
    pub prefix: u8,
    /// By whom; `None` when the network is on the link itself. A gateway needs to be in no network of the link's:
    /// clouds give addresses whose network is one host.
    pub gateway: Option<IpAddr>,
    /// Of two routes to a network, the one with the lower metric is taken.
    pub metric: u32,
    /// The address that packets come from which were given none.
    pub source: Option<IpAddr>,
    /// Largest packet on it, where that is less than the link carries.
    pub mtu: Option<u32>,
}

/// Packets from one address are routed by a table of their own, before the main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRule {
    /// The address.
    pub source: IpAddr,
    /// The table.
    pub table: u32,
    /// When it is looked at: before the main table's rule, 32766, and after the local table's, 0.
    pub priority: u32,
}

impl Netlink {
    /// Opens a socket.
    pub fn open() -> Result<Self, Errno> {
        let socket = open(0, SocketFlags::CLOEXEC)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), Errno> {
        self.ask(link_message(index, IFF_UP, IFF_UP))
    }

    /// Sets a link down: its routes and IPv6 addresses go, its IPv4 addresses stay.
    pub fn set_down(&mut self, index: u32) -> Result<(), Errno> {
        self.ask(link_message(index, 0, IFF_UP))
    }

    /// Sets the largest packet of a link, in bytes. The kernel refuses what the device can't carry.
    pub fn set_mtu(&mut self, index: u32, mtu: u16) -> Result<(), Errno> {
        let mut message = link_message(index, 0, 0);
        message.attribute(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        self.ask(message)
    }

    /// Gives a link an address, or refreshes the one it has.
    pub fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        origin: GivenBy,
    ) -> Result<(), Errno> {
        let mut message = address_message(RTM_NEWADDR, CREATE | REPLACE, index, address, prefix);
        if let GivenBy::Lease(seconds) = origin {
            // struct ifa_cacheinfo: preferred, valid, created, updated
            let mut lifetime = [0; 16];
            lifetime[..4].copy_from_slice(&seconds.to_ne_bytes());
            lifetime[4..8].copy_from_slice(&seconds.to_ne_bytes());
            message.attribute(IFA_CACHEINFO, &lifetime);
        }
        self.ask(message)
    }

    /// Takes an address from a link; one that is gone already is gone.
    pub fn remove_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        gone(self.ask(address_message(RTM_DELADDR, 0, index, address, prefix)))
    }

    /// Adds a route by a link, or replaces the one with the same table, network and metric.
    pub fn add_route(&mut self, index: u32, route: &TableRoute, origin: GivenBy) -> Result<(), Errno> {
        self.ask(route_message(RTM_NEWROUTE, CREATE | REPLACE, index, route, origin))
    }

    /// Removes a route by a link; one that is gone already is gone.
    pub fn remove_route(&mut self, index: u32, route: &TableRoute, origin: GivenBy) -> Result<(), Errno> {
        gone(self.ask(route_message(RTM_DELROUTE, 0, index, route, origin)))
    }

    /// Adds a rule; one that is there already is there.
    pub fn add_rule(&mut self, rule: &SourceRule) -> Result<(), Errno> {
        match self.ask(rule_message(RTM_NEWRULE, CREATE | EXCLUSIVE, rule)) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes a rule; one that is gone already is gone.
    pub fn remove_rule(&mut self, rule: &SourceRule) -> Result<(), Errno> {
        gone(self.ask(rule_message(RTM_DELRULE, 0, rule)))
    }

    /// Routes one address, and no other, by way of `gateway`.
    pub fn set_host_route(&mut self, index: u32, host: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), Errno> {
        let route = TableRoute {
            table: MAIN_TABLE,
            destination: host.into(),
            prefix: 32,
            gateway: Some(gateway.into()),
            metric: 0,
            source: None,
            mtu: None,
        };
        self.add_route(index, &route, GivenBy::Lease(0))
    }

    /// Sends one message and waits for the kernel's verdict, which it gives at once.
    fn ask(&mut self, message: Message) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        rustix::net::sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 512];
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty())?;
            if let Some((sequence, verdict)) = verdict(&answer[..length]) {
                if sequence == self.sequence {
                    return verdict;
                }
            }
        }
    }
}

/// What is not there any more was to be removed; a link that is gone took it along.
fn gone(verdict: Result<(), Errno>) -> Result<(), Errno> {
    match verdict {
        Err(Errno::SRCH | Errno::NOENT | Errno::ADDRNOTAVAIL | Errno::NODEV) => Ok(()),
        other => other,
    }
}

fn link_message(index: u32, flags: u32, change: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0);
    // struct ifinfomsg: family, pad, type, index, flags, change
    message.bytes(&[0, 0, 0, 0]).u32(index).u32(flags).u32(change);
    message
}

fn route_message(kind: u16, flags: u16, index: u32, route: &TableRoute, origin: GivenBy) -> Message {
    let protocol = if origin == GivenBy::Config { RTPROT_STATIC } else { RTPROT_DHCP };
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    let on_link = if route.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
    let mut message = Message::new(kind, flags);
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags. The table is an attribute.
    message
        .bytes(&[family(route.destination), route.prefix, 0, 0, 0, protocol, scope, RTN_UNICAST])
        .u32(on_link)
        .attribute(RTA_TABLE, &route.table.to_ne_bytes())
        .attribute(RTA_OIF, &index.to_ne_bytes());
    if route.prefix > 0 {
        message.attribute_address(RTA_DST, route.destination);
    }
    if let Some(gateway) = route.gateway {
        message.attribute_address(RTA_GATEWAY, gateway);
    }
    if route.metric > 0 {
        message.attribute(RTA_PRIORITY, &route.metric.to_ne_bytes());
    }
    if let Some(source) = route.source {
        message.attribute_address(RTA_PREFSRC, source);
    }
    if let Some(mtu) = route.mtu {
        // An attribute in an attribute: its own header, then the value.
        let mut nested = [0; 8];
        nested[..2].copy_from_slice(&8_u16.to_ne_bytes());
        nested[2..4].copy_from_slice(&RTAX_MTU.to_ne_bytes());
        nested[4..].copy_from_slice(&mtu.to_ne_bytes());
        message.attribute(RTA_METRICS, &nested);
    }
    message
}

fn rule_message(kind: u16, flags: u16, rule: &SourceRule) -> Message {
    let mut message = Message::new(kind, flags);
    let length = if rule.source.is_ipv4() { 32 } else { 128 };
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags. The table is an attribute.
    message
        .bytes(&[family(rule.source), 0, length, 0, 0, 0, 0, FR_ACT_TO_TBL])
        .u32(0)
        .attribute_address(FRA_SRC, rule.source)
        .attribute(FRA_PRIORITY, &rule.priority.to_ne_bytes())
        .attribute(FRA_TABLE, &rule.table.to_ne_bytes());
    message
}

fn address_message(kind: u16, flags: u16, index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut message = Message::new(kind, flags);
    // struct ifaddrmsg: family, prefixlen, flags, scope, index
    message.bytes(&[family(address), prefix, 0, 0]).u32(index);
    message.attribute_address(IFA_LOCAL, address).attribute_address(IFA_ADDRESS, address);
    message
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// A socket of rtnetlink that hears these groups, given as bits.
pub fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}
