//! DHCP packets as bytes, by smoltcp's wire formats: pure functions, so that what a stranger on the link sends is
//! judged without a socket.

use crate::lease::{Answer, Lease, Send};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use std::net::Ipv4Addr;

/// Largest packet built or read, in bytes: the smallest any host must accept.
pub const MOST_BYTES: usize = 576;

/// The client's port.
pub const CLIENT_PORT: u16 = 68;
/// The server's port.
pub const SERVER_PORT: u16 = 67;

/// What is asked for: subnet mask, router, name servers, lease time, T1, T2.
const WANTED: &[u8] = &[1, 3, 6, 51, 58, 59];

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
    Some(length)
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
    // A virtual link leaves the checksum to nobody: the kernel marks such packets, smoltcp can't see it. The
    // transaction, the hardware address and the ports must be right all the same.
    if datagram.src_port() != SERVER_PORT || datagram.dst_port() != CLIENT_PORT {
        return None;
    }
    answer_to(datagram.payload(), mac, transaction)
}

fn answer_to(bytes: &[u8], mac: [u8; 6], transaction: u32) -> Option<Answer> {
    let packet = DhcpPacket::new_checked(bytes).ok()?;
    let repr = DhcpRepr::parse(&packet).ok()?;
    if repr.transaction_id != transaction || repr.client_hardware_address != EthernetAddress(mac) {
        return None;
    }
    match repr.message_type {
        DhcpMessageType::Offer => lease(&repr).map(Answer::Offer),
        DhcpMessageType::Ack => lease(&repr).map(Answer::Ack),
        DhcpMessageType::Nak => Some(Answer::Nak),
        _ => None,
    }
}

fn lease(repr: &DhcpRepr<'_>) -> Option<Lease> {
    let mask = u32::from(repr.subnet_mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0)));
    let ordinary = |address: Ipv4Addr| {
        !(address.is_unspecified()
            || address.is_broadcast()
            || address.is_multicast()
            || address.is_loopback())
    };
    if !ordinary(repr.your_ip) || mask.leading_ones() != mask.count_ones() {
        return None;
    }
    let mut nameservers = heapless::Vec::new();
    for server in repr.dns_servers.iter().flatten().filter(|server| ordinary(**server)) {
        let _ = nameservers.push(*server);
    }
    Some(Lease {
        address: repr.your_ip,
        prefix: u8::try_from(mask.count_ones()).ok()?,
        router: repr.router.filter(|router| ordinary(*router)),
        nameservers,
        server: repr.server_identifier?,
        seconds: repr.lease_duration?,
        renew_after: repr.renew_duration.unwrap_or(0),
        rebind_after: repr.rebind_duration.unwrap_or(0),
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
            let _ = answer_to(&bytes, MAC, 7);
        }
    }
}
