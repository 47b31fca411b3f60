//! Telling the kernel about links, addresses and routes (rtnetlink(7)).
//!
//! Only what the node needs: three messages out, acknowledgements and one kind of notification in. The crates that
//! know all of rtnetlink carry every message's encoder into the binary; these few lines are a fiftieth of that
//! (docs/decisions/004-few-lines-of-rtnetlink.md).

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A configuring socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNDUSEROPT: u16 = 68;
const NLMSG_ERROR: u16 = 2;
const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_DHCP: u8 = 16;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `RTNLGRP_ND_USEROPT` as a bit.
const ND_OPTIONS: u32 = 1 << (20 - 1);

/// Who a route or an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBy {
    /// A lease with this many seconds left.
    Lease(u32),
    /// The machine-config.
    Config,
}

impl Netlink {
    /// Opens a socket.
    pub fn open() -> Result<Self, Errno> {
        let socket = open(0, SocketFlags::CLOEXEC)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), Errno> {
        self.ask(link_message(index, IFF_UP))
    }

    /// Sets a link down: its routes and IPv6 addresses go, its IPv4 addresses stay.
    pub fn set_down(&mut self, index: u32) -> Result<(), Errno> {
        self.ask(link_message(index, 0))
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

    /// Takes an address from a link.
    pub fn remove_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        self.ask(address_message(RTM_DELADDR, 0, index, address, prefix))
    }

    /// Makes `gateway` the default route by a link. On-link, because clouds lease addresses whose network is one host.
    pub fn set_default_route(&mut self, index: u32, gateway: IpAddr, origin: GivenBy) -> Result<(), Errno> {
        let protocol = if origin == GivenBy::Config { RTPROT_STATIC } else { RTPROT_DHCP };
        self.ask(route_message(index, gateway, protocol, 0))
    }

    /// Routes one address, and no other, by way of `gateway`; on-link for the same reason.
    pub fn set_host_route(&mut self, index: u32, host: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), Errno> {
        let mut message = route_message(index, IpAddr::V4(gateway), RTPROT_DHCP, 32);
        message.attribute_address(RTA_DST, IpAddr::V4(host));
        self.ask(message)
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

/// The kernel's verdict in an answer: of which message, and what.
fn verdict(answer: &[u8]) -> Option<(u32, Result<(), Errno>)> {
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != NLMSG_ERROR {
        return None;
    }
    let code = word(16)?.cast_signed();
    let verdict = if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code.wrapping_neg())) };
    Some((word(8)?, verdict))
}

fn link_message(index: u32, flags: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0);
    // struct ifinfomsg: family, pad, type, index, flags, change
    message.bytes(&[0, 0, 0, 0]).u32(index).u32(flags).u32(IFF_UP);
    message
}

fn route_message(index: u32, gateway: IpAddr, protocol: u8, prefix: u8) -> Message {
    let family = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut message = Message::new(RTM_NEWROUTE, CREATE | REPLACE);
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    message
        .bytes(&[family, prefix, 0, 0, RT_TABLE_MAIN, protocol, 0, RTN_UNICAST])
        .u32(RTNH_F_ONLINK)
        .attribute_address(RTA_GATEWAY, gateway)
        .attribute(RTA_OIF, &index.to_ne_bytes());
    message
}

fn address_message(kind: u16, flags: u16, index: u32, address: IpAddr, prefix: u8) -> Message {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut message = Message::new(kind, flags);
    // struct ifaddrmsg: family, prefixlen, flags, scope, index
    message.bytes(&[family, prefix, 0, 0]).u32(index);
    message.attribute_address(IFA_LOCAL, address).attribute_address(IFA_ADDRESS, address);
    message
}

/// What routers advertise besides addresses, which the kernel sees to: name servers (RFC 8106).
#[derive(Debug)]
pub struct RouterOptions(OwnedFd);

impl RouterOptions {
    /// Listens.
    pub fn open() -> Result<Self, Errno> {
        open(ND_OPTIONS, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(Self)
    }

    /// The name servers of the next advertisement, if one waits. Lifetime 0 takes them back: then the list is empty.
    pub fn next(&self) -> Option<heapless::Vec<Ipv6Addr, 3>> {
        let mut bytes = [0; 2048];
        loop {
            let (_, length) = rustix::net::recv(&self.0, &mut bytes, RecvFlags::empty()).ok()?;
            if let Some(servers) = advertised_nameservers(&bytes[..length]) {
                return Some(servers);
            }
        }
    }
}

impl AsFd for RouterOptions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The name servers in an `RTM_NEWNDUSEROPT` notification.
fn advertised_nameservers(message: &[u8]) -> Option<heapless::Vec<Ipv6Addr, 3>> {
    const RDNSS: u8 = 25;
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != RTM_NEWNDUSEROPT || message.get(16) != Some(&AF_INET6) {
        return None;
    }
    // nlmsghdr (16) and nduseroptmsg (16), then the option as it was on the wire: type, length in units of eight
    // bytes, two reserved, lifetime, addresses.
    let option = message.get(32..)?;
    let length = usize::from(*option.get(1)?) * 8;
    let option = option.get(..length)?;
    if option.first() != Some(&RDNSS) || length < 24 {
        return None;
    }
    let lifetime = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
    let mut servers = heapless::Vec::new();
    if lifetime > 0 {
        for address in option[8..].chunks_exact(16).take(3) {
            let address = <[u8; 16]>::try_from(address).ok()?;
            let _ = servers.push(Ipv6Addr::from(address));
        }
    }
    Some(servers)
}

fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Errno> {
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

/// A message being written: a header of 16 bytes, then whatever is appended.
struct Message(heapless::Vec<u8, 256>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self(heapless::Vec::new());
        message
            .u32(0)
            .bytes(&kind.to_ne_bytes())
            .bytes(&(REQUEST_AND_ACK | flags).to_ne_bytes())
            .u32(0)
            .u32(0);
        message
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // The largest message, a route by IPv6, takes 64 bytes.
        let _ = self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // Each of ours is a multiple of four bytes, so no padding is needed.
        debug_assert_eq!(value.len() % 4, 0);
        let length = u16::try_from(value.len() + 4).unwrap_or(4);
        self.bytes(&length.to_ne_bytes()).bytes(&kind.to_ne_bytes()).bytes(value)
    }

    fn attribute_address(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    fn finish(mut self, sequence: u32) -> heapless::Vec<u8, 256> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertisement(lifetime: u32, servers: &[Ipv6Addr]) -> Vec<u8> {
        let mut message = vec![0; 32];
        message[4..6].copy_from_slice(&RTM_NEWNDUSEROPT.to_ne_bytes());
        message[16] = AF_INET6;
        message.extend([25, u8::try_from(1 + servers.len() * 2).unwrap(), 0, 0]);
        message.extend(lifetime.to_be_bytes());
        for server in servers {
            message.extend(server.octets());
        }
        message
    }

    #[test]
    fn advertised_name_servers_are_read_and_taken_back() {
        let server = "fec0::3".parse().unwrap();
        assert_eq!(advertised_nameservers(&advertisement(1800, &[server])).unwrap().as_slice(), [server]);
        assert_eq!(advertised_nameservers(&advertisement(0, &[server])).unwrap().len(), 0);
    }

    #[test]
    fn a_truncated_advertisement_is_none() {
        let whole = advertisement(1800, &["fec0::3".parse().unwrap()]);
        for length in 0..whole.len() {
            assert_eq!(advertised_nameservers(&whole[..length]), None);
        }
    }

    #[test]
    fn the_kernel_s_verdict_is_read() {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[8..12].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(verdict(&answer), Some((9, Ok(()))));
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Some((9, Err(Errno::PERM))));
        assert_eq!(verdict(&answer[..10]), None);
    }
}
