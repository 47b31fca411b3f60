//! DHCP packets as bytes: pure functions, so that what a stranger on the link sends is judged without a socket.
//!
//! Headers, fixed fields and what is sent are smoltcp's wire formats; the options of an answer are read as servers write
//! them ([`crate::options`]).

use crate::domains;
use crate::lease::{Answer, Lease, Send, UNSAID};
use crate::options::Options;
use crate::routes::{Route, addresses, classless, is_ordinary};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpOpCode, DhcpPacket, DhcpRepr, EthernetAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};
use std::net::Ipv4Addr;

/// Largest packet built or read, in bytes: the smallest any host must accept.
pub const MOST_BYTES: usize = 576;

/// Least bytes of a message that is sent.
const LEAST_BYTES: usize = 300;

/// The client's port.
pub const CLIENT_PORT: u16 = 68;
/// The server's port.
pub const SERVER_PORT: u16 = 67;

// Options, by their numbers (RFC 2132, 3397, 3442).
const SUBNET_MASK: u8 = 1;
const ROUTERS: u8 = 3;
const NAME_SERVERS: u8 = 6;
const DOMAIN_NAME: u8 = 15;
const MTU: u8 = 26;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const RENEW_AFTER: u8 = 58;
const REBIND_AFTER: u8 = 59;
const DOMAIN_SEARCH: u8 = 119;
const CLASSLESS_ROUTES: u8 = 121;
const CLASSLESS_ROUTES_OF_WINDOWS: u8 = 249;

/// What is asked for. RFC 3442 wants the classless routes before the routers; a server may leave out what is last.
const WANTED: &[u8] = &[
    SUBNET_MASK,
    CLASSLESS_ROUTES,
    CLASSLESS_ROUTES_OF_WINDOWS,
    ROUTERS,
    NAME_SERVERS,
    MTU,
    DOMAIN_SEARCH,
    DOMAIN_NAME,
    LEASE_TIME,
    RENEW_AFTER,
    REBIND_AFTER,
];

/// Least MTU that is believed: what any host must be able to receive (RFC 791).
const LEAST_MTU: u16 = 576;

/// The DHCP message for `send`, without headers; how many bytes of `buffer` it takes.
pub fn message(send: Send, mac: [u8; 6], transaction: u32, buffer: &mut [u8; MOST_BYTES]) -> Option<usize> {
    let mac = EthernetAddress(mac);
    let mut repr = DhcpRepr {
        message_type: DhcpMessageType::Request,
        transaction_id: transaction,
        secs: 0,
        client_hardware_address: mac,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: Some(mac),
        server_identifier: None,
        parameter_request_list: Some(WANTED),
        dns_servers: None,
        max_size: Some(576),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    match send {
        Send::Discover => repr.message_type = DhcpMessageType::Discover,
        Send::Request { address, server } => {
            repr.requested_ip = Some(address);
            repr.server_identifier = Some(server);
        }
        Send::Renew { address, .. } => {
            repr.client_ip = address;
            repr.broadcast = false;
        }
    }
    let length = repr.buffer_len();
    let mut packet = DhcpPacket::new_unchecked(buffer.get_mut(..length)?);
    repr.emit(&mut packet).ok()?;
    // Relays drop what is shorter than a BOOTP message (RFC 1542 2.1).
    let padded = length.max(LEAST_BYTES);
    buffer.get_mut(length..padded)?.fill(0);
    Some(padded)
}

/// The same with IPv4 and UDP headers, for the packet socket; how many bytes of `buffer` it takes.
pub fn packet(send: Send, mac: [u8; 6], transaction: u32, buffer: &mut [u8; MOST_BYTES]) -> Option<usize> {
    let mut body = [0; MOST_BYTES];
    let body = {
        let length = message(send, mac, transaction, &mut body)?;
        &body[..length]
    };
    let (source, destination) = match send {
        Send::Renew { address, .. } => (address, Ipv4Addr::BROADCAST),
        _ => (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
    };
    let udp = UdpRepr { src_port: CLIENT_PORT, dst_port: SERVER_PORT };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + body.len(),
        hop_limit: 64,
    };
    let length = ip.buffer_len() + ip.payload_len;
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(buffer.get_mut(..length)?);
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &source.into(),
        &destination.into(),
        body.len(),
        |payload| payload.copy_from_slice(body),
        &checksums,
    );
    Some(length)
}

/// The answer in an IPv4 packet; `None` for everything that is not one to us.
pub fn answer(bytes: &[u8], mac: [u8; 6], transaction: u32) -> Option<Answer> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if packet.next_header() != IpProtocol::Udp || packet.frag_offset() != 0 || packet.more_frags() {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    // A virtual link leaves the checksum to nobody: the kernel marks such packets, smoltcp can't see it. The port that
    // it comes from is nobody's promise either: an address translation on the way gives it another, and no client but
    // ours asked for 67. Transaction, hardware address and our port must be right all the same.
    if datagram.dst_port() != CLIENT_PORT {
        return None;
    }
    answer_to(datagram.payload(), packet.src_addr(), mac, transaction)
}

/// The answer in a message that came from `source`.
fn answer_to(bytes: &[u8], source: Ipv4Addr, mac: [u8; 6], transaction: u32) -> Option<Answer> {
    let packet = DhcpPacket::new_checked(bytes).ok()?;
    if packet.opcode() != DhcpOpCode::Reply
        || packet.transaction_id() != transaction
        || packet.client_hardware_address() != EthernetAddress(mac)
    {
        return None;
    }
    let options = Options::of(bytes)?;
    match DhcpMessageType::from(options.byte(MESSAGE_TYPE)?) {
        DhcpMessageType::Offer => lease(packet.your_ip(), source, options).map(Answer::Offer),
        DhcpMessageType::Ack => lease(packet.your_ip(), source, options).map(Answer::Ack),
        DhcpMessageType::Nak => Some(Answer::Nak),
        _ => None,
    }
}

/// What the options grant with `address`; `None` when no host can have it, or it lasts no time at all.
fn lease(address: Ipv4Addr, source: Ipv4Addr, options: Options<'_>) -> Option<Lease> {
    let mask = options.u32(SUBNET_MASK).unwrap_or(u32::from_be_bytes([255, 255, 255, 0]));
    if !is_ordinary(address) || mask.leading_ones() != mask.count_ones() {
        return None;
    }
    let list = |code| options.get(code).unwrap_or_default();
    // RFC 3442: where there are classless routes, the routers are ignored. Windows had another number for them first, of
    // which nobody said so.
    let mut routes = classless(&list(CLASSLESS_ROUTES));
    if routes.is_empty() {
        routes = classless(&list(CLASSLESS_ROUTES_OF_WINDOWS));
        if routes.iter().all(|route| route.prefix > 0) {
            routes.extend(addresses(&list(ROUTERS)).next().map(Route::default_by));
        }
    }
    let mut nameservers = heapless::Vec::new();
    for server in addresses(&list(NAME_SERVERS)) {
        if !nameservers.contains(&server) {
            let _ = nameservers.push(server);
        }
    }
    // Which of the two a server fills depends on what it is; the list says more.
    let mut domains = domains::encoded(&list(DOMAIN_SEARCH));
    if domains.is_empty() {
        domains = domains::plain(&list(DOMAIN_NAME));
    }
    Some(Lease {
        address,
        prefix: u8::try_from(mask.count_ones()).ok()?,
        routes,
        nameservers,
        domains,
        mtu: options.u16(MTU).filter(|mtu| *mtu >= LEAST_MTU),
        // Some write an IPv6 form of it, or nothing: then the one who answered is asked again.
        server: [options.address(SERVER), Some(source)]
            .into_iter()
            .flatten()
            .find(|one| is_ordinary(*one))?,
        seconds: Some(options.u32(LEASE_TIME).unwrap_or(UNSAID)).filter(|seconds| *seconds > 0)?,
        renew_after: options.u32(RENEW_AFTER).unwrap_or(0),
        rebind_after: options.u32(REBIND_AFTER).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    #[test]
    fn what_is_sent_is_a_packet_that_any_server_understands() {
        for send in [
            Send::Discover,
            Send::Request { address: Ipv4Addr::new(10, 0, 2, 15), server: Ipv4Addr::new(10, 0, 2, 2) },
            Send::Renew { address: Ipv4Addr::new(10, 0, 2, 15), server: None },
        ] {
            let mut buffer = [0; MOST_BYTES];
            let length = packet(send, MAC, 7, &mut buffer).unwrap();
            let packet = Ipv4Packet::new_checked(&buffer[..length]).unwrap();
            assert!(packet.verify_checksum());
            let udp = UdpPacket::new_checked(packet.payload()).unwrap();
            assert!(udp.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
            let message = DhcpPacket::new_checked(udp.payload()).unwrap();
            let repr = DhcpRepr::parse(&message).unwrap();
            assert_eq!(repr.transaction_id, 7);
            assert!(udp.payload().len() >= LEAST_BYTES);
            let wanted = repr.parameter_request_list.unwrap();
            let before = |one, other| {
                let place = |code| wanted.iter().position(|wanted| *wanted == code).unwrap();
                place(one) < place(other)
            };
            assert!(before(CLASSLESS_ROUTES, ROUTERS), "RFC 3442");
            assert_eq!(answer(&buffer[..length], MAC, 7), None, "a client's message is no answer");
        }
    }

    #[test]
    fn garbage_and_other_peoples_answers_are_not_ours() {
        let mut seed = 0x9e37_79b9_u32;
        for length in 0..MOST_BYTES {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            assert_eq!(answer(&bytes, MAC, 7), None);
            let _ = answer_to(&bytes, Ipv4Addr::new(10, 0, 2, 2), MAC, 7);
        }
    }
}
