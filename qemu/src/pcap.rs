//! What crossed a network card, from the file that QEMU's filter-dump wrote.
//!
//! It exists so that "no answer came" is a statement about frames, not about a program that gave up waiting.
//! The file format is two fixed headers, read here by hand; the packets are read by smoltcp. It refuses to
//! judge a truncated file as silence: a cut record ends the list, a wrong magic is an error.
//!
//! Format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>, as QEMU's `net/dump.c` writes it.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why a capture can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file can't be opened.
    #[error("cannot read the capture {path}: {source}. Give the card Nic::capture, and read after the start")]
    ReadCapture {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Not such a file.
    #[error("{path} is not a pcap of Ethernet frames. Is it the file given to Nic::capture?")]
    ParseHeader {
        /// The file.
        path: PathBuf,
    },
}

/// One IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// What it carries.
    pub content: Content,
}

/// The upper protocol, as far as a test asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A TCP segment.
    Tcp {
        /// Sender's port.
        source_port: u16,
        /// Receiver's port.
        destination_port: u16,
        /// The flag SYN.
        syn: bool,
        /// The flag ACK.
        ack: bool,
        /// The flag RST.
        rst: bool,
        /// Bytes of data.
        length: usize,
    },
    /// A UDP datagram.
    Udp {
        /// Sender's port.
        source_port: u16,
        /// Receiver's port.
        destination_port: u16,
        /// Bytes of data.
        length: usize,
    },
    /// Another protocol, by its number (1 and 58 are ICMP), or a packet too short for what it claims.
    Other(u8),
}

impl Packet {
    /// A TCP segment that only refuses. QEMU makes it itself when a closed network drops a connection, so it
    /// is no sign that anything was reached.
    pub fn is_refusal(&self) -> bool {
        matches!(self.content, Content::Tcp { rst: true, length: 0, .. })
    }
}

/// What the guest exchanged with one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Packets to the address.
    pub sent: Vec<Packet>,
    /// Packets from the address, refusals excepted.
    pub answers: Vec<Packet>,
    /// Refusals that bear the address as their sender.
    pub refusals: Vec<Packet>,
}

/// All IP packets of a capture, in order. Frames that are not IP (ARP) are left out.
pub fn packets(path: &Path) -> Result<Vec<Packet>, PcapError> {
    let file = std::fs::read(path).map_err(|source| PcapError::ReadCapture { path: path.into(), source })?;
    let frames = frames(&file).ok_or_else(|| PcapError::ParseHeader { path: path.into() })?;
    Ok(frames.into_iter().filter_map(parse_frame).collect())
}

/// What the guest exchanged with `address`.
///
/// The proof that nothing came back is: `sent` is not empty, and `answers` is.
pub fn conversation(path: &Path, address: IpAddr) -> Result<Conversation, PcapError> {
    let mut found = Conversation::default();
    for packet in packets(path)? {
        if packet.destination == address {
            found.sent.push(packet);
        } else if packet.source == address {
            if packet.is_refusal() { found.refusals.push(packet) } else { found.answers.push(packet) }
        }
    }
    Ok(found)
}

/// `None` if the header is not that of a pcap of Ethernet frames in this host's byte order.
fn frames(file: &[u8]) -> Option<Vec<&[u8]>> {
    let word = |at: usize| Some(u32::from_ne_bytes(file.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != 0xa1b2_c3d4 || word(20)? != 1 {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = 24;
    // Each record: seconds, microseconds, captured length, original length, the frame.
    while let Some(length) = word(at + 8) {
        let Some(frame) = file.get(at + 16..at + 16 + length as usize) else { break };
        frames.push(frame);
        at += 16 + length as usize;
    }
    Some(frames)
}

fn parse_frame(frame: &[u8]) -> Option<Packet> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, IpProtocol, &[u8]) =
        match frame.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                let (from, to) = (packet.src_addr(), packet.dst_addr());
                (from.into(), to.into(), packet.next_header(), packet.payload())
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
                let (from, to) = (packet.src_addr(), packet.dst_addr());
                (from.into(), to.into(), packet.next_header(), packet.payload())
            }
            _ => return None,
        };
    let content = match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload).ok().map(|tcp| Content::Tcp {
            source_port: tcp.src_port(),
            destination_port: tcp.dst_port(),
            syn: tcp.syn(),
            ack: tcp.ack(),
            rst: tcp.rst(),
            length: tcp.payload().len(),
        }),
        IpProtocol::Udp => UdpPacket::new_checked(payload).ok().map(|udp| Content::Udp {
            source_port: udp.src_port(),
            destination_port: udp.dst_port(),
            length: udp.payload().len(),
        }),
        _ => None,
    };
    Some(Packet { source, destination, content: content.unwrap_or(Content::Other(protocol.into())) })
}
