//! A packet socket of one link, which is how a DHCP client talks before it has an address (packet(7)).
//!
//! A filter in the kernel passes only UDP to one port: without it each packet that the link receives would be copied for
//! this socket and wake its process, however much traffic is other programs'.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A `SOCK_DGRAM` packet socket: IPv4 packets without their Ethernet header.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    index: i32,
}

/// Most bytes of a packet that pass the filter: all of any.
const WHOLE: u32 = 0xffff;

// linux/bpf_common.h: operations of the packet filter, each with the operands of its name.
/// `BPF_LD | BPF_B | BPF_ABS`
const LOAD_BYTE: u16 = 0x30;
/// `BPF_LD | BPF_H | BPF_ABS`
const LOAD_HALF: u16 = 0x28;
/// `BPF_LDX | BPF_B | BPF_MSH`: the length of the IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
/// `BPF_LD | BPF_H | BPF_IND`: behind that header.
const LOAD_HALF_BEHIND: u16 = 0x48;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const IS: u16 = 0x15;
/// `BPF_JMP | BPF_JSET | BPF_K`
const HAS_BITS: u16 = 0x45;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// UDP of IPv4 to `port`, in one piece: a program for the kernel's packet filter
/// (Documentation/networking/filter.rst). Each row is operation, steps if true, steps if false, operand.
fn udp_to(port: u16) -> [libc::sock_filter; 9] {
    const UDP: u32 = 17;
    let row = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        row(LOAD_BYTE, 0, 0, 9),
        row(IS, 0, 6, UDP),
        // More fragments, or not the first of them.
        row(LOAD_HALF, 0, 0, 6),
        row(HAS_BITS, 4, 0, 0x3fff),
        row(LOAD_HEADER_LENGTH, 0, 0, 0),
        row(LOAD_HALF_BEHIND, 0, 0, 2),
        row(IS, 0, 1, port.into()),
        row(RETURN, 0, 0, WHOLE),
        row(RETURN, 0, 0, 0),
    ]
}

/// Has the kernel drop what a filter doesn't pass, before it gets to the socket.
fn attach(socket: BorrowedFd<'_>, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program and the rows it points to live through the call, with their own lengths; the kernel copies and
    // doesn't write them.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            LENGTH_OF_PROGRAM,
        )
    };
    if attached < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The length of [`libc::sock_fprog`] on a machine of 64 bits.
const LENGTH_OF_PROGRAM: libc::socklen_t = 16;

/// Ethertype of IPv4, in network byte order as packet(7) wants it.
const IPV4: u16 = 0x0800_u16.to_be();

impl PacketSocket {
    /// Opens a socket that sees the UDP packets of IPv4 to `port` on the link with this index, and no others.
    pub fn open(index: i32, port: u16) -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointer; the descriptor it returns is ours alone.
        let socket = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                // Nothing, until it has its filter and its link.
                0,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        attach(socket.as_fd(), &udp_to(port))?;
        let address = address(index);
        // SAFETY: `address` is a live sockaddr_ll and the length passed is its own.
        let bound =
            unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of_address()) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { socket, index }) }
    }

    /// Sends one IPv4 packet to every station of the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let address = address(self.index);
        // SAFETY: buffer and address are live for the call, with their own lengths.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                length_of_address(),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives one packet, if one waits.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(&self.socket, buffer).ok()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// [`libc::AF_PACKET`] in the width of an address's family.
const AF_PACKET: u16 = 17;

/// Everybody on the link `index`.
fn address(index: i32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: IPV4,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    }
}

const fn length_of_address() -> libc::socklen_t {
    // packet(7): 20 bytes.
    20
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// An IPv4 packet with `options` words of options, of this protocol, with these fragment bits, to `port`.
    fn packet(options: u8, protocol: u8, fragment: u16, port: u16) -> Vec<u8> {
        let header = 20 + usize::from(options) * 4;
        let mut packet = vec![0; header + 8 + 4];
        packet[0] = 0x45 + options;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[header + 2..header + 4].copy_from_slice(&port.to_be_bytes());
        packet
    }

    /// Which of the packets come through a filter. The kernel filters datagrams of any family; these need no link.
    fn passing(filter: Option<&[libc::sock_filter]>, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        if let Some(filter) = filter {
            attach(ours.as_fd(), filter).unwrap();
        }
        let mut passed = Vec::new();
        for packet in packets {
            // One that is dropped by the filter is an error for who sent it.
            let _ = theirs.send(packet);
            let mut buffer = [0; 128];
            if let Ok(length) = ours.recv(&mut buffer) {
                passed.push(buffer[..length].to_vec());
            }
        }
        passed
    }

    #[test]
    fn only_whole_udp_packets_to_the_port_get_to_the_process() {
        let wanted = [packet(0, 17, 0, 68), packet(3, 17, 0, 68), packet(0, 17, 0x4000, 68)];
        let others = [
            packet(0, 17, 0, 443),
            packet(0, 6, 0, 68),
            packet(0, 17, 0x2000, 68),
            packet(0, 17, 100, 68),
            packet(5, 17, 0, 67),
            vec![0x45; 12],
            vec![],
        ];
        let all: Vec<_> = wanted.iter().chain(&others).cloned().collect();
        assert_eq!(passing(Some(&udp_to(68)), &all), wanted);
        // Twin: without the filter all of them do.
        assert_eq!(passing(None, &all), all);
    }
}
