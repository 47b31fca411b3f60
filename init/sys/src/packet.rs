//! A packet socket of one link, which is how a DHCP client talks before it has an address (packet(7)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A `SOCK_DGRAM` packet socket: IPv4 packets without their Ethernet header.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    index: i32,
}

/// Ethertype of IPv4, in network byte order as packet(7) wants it.
const IPV4: u16 = 0x0800_u16.to_be();

impl PacketSocket {
    /// Opens a socket that sees the IPv4 packets of the link with this index, and no others.
    pub fn open(index: i32) -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointer; the descriptor it returns is ours alone.
        let socket = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                IPV4.into(),
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
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

impl std::os::fd::AsFd for PacketSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
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
