//! DHCP on one link: the client's state machine, its socket and its packets together.

use crate::lease::{Change, Client, Lease, Send};
use crate::links::EthernetLink;
use crate::wire;
use astromesh_sys::packet::PacketSocket;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// A client with its socket.
pub struct Dhcp {
    client: Client,
    socket: PacketSocket,
    transaction: u32,
    /// What the caller did with the last change: kept by it, for it.
    pub lease: Option<Lease>,
}

impl Dhcp {
    /// A client that will look for a server at once; `None`, said in the log, when it can have no socket.
    pub fn start(link: &EthernetLink) -> Option<Self> {
        let index = i32::try_from(link.index).ok()?;
        let socket = PacketSocket::open(index, wire::CLIENT_PORT)
            .inspect_err(|error| log::error!("{}: DHCP has no socket: {error}", link.name))
            .ok()?;
        let mut transaction = [0; 4];
        // Unpredictable, so that somebody who can't see the question can't answer it.
        rustix::rand::getrandom(&mut transaction, rustix::rand::GetRandomFlags::empty()).ok()?;
        Some(Self {
            client: Client::new(Instant::now()),
            socket,
            transaction: u32::from_ne_bytes(transaction),
            lease: None,
        })
    }

    /// When [`Self::act`] wants to be called again.
    pub fn wake_at(&self) -> Instant {
        self.client.wake_at()
    }

    /// Reads one answer that waits, and those that aren't ours before it; `None` when there is no change.
    pub fn receive(&mut self, link: &EthernetLink, now: Instant) -> Option<Change> {
        let mut buffer = [0; 2048];
        // Bounded, so that a flood on one link leaves time for the others.
        for _ in 0..32 {
            let length = self.socket.receive(&mut buffer)?;
            let answer = wire::answer(&buffer[..length], link.mac, self.transaction);
            let change = answer.and_then(|answer| self.client.receive(answer, now));
            if change.is_some() {
                return change;
            }
        }
        None
    }

    /// Sends what is due. What changes with the time, and whether it could be sent.
    pub fn act(&mut self, link: &EthernetLink, now: Instant) -> (Option<Change>, io::Result<()>) {
        let (change, send) = self.client.poll(now);
        (change, send.map_or(Ok(()), |send| self.transmit(link.mac, send)))
    }

    fn transmit(&self, mac: [u8; 6], send: Send) -> io::Result<()> {
        let mut buffer = [0; wire::MOST_BYTES];
        if let Send::Renew { address, server: Some(server) } = send {
            let length = wire::message(send, mac, self.transaction, &mut buffer).unwrap_or(0);
            // The answer is read from the packet socket, like all others.
            let socket = UdpSocket::bind((address, wire::CLIENT_PORT))?;
            socket.send_to(&buffer[..length], (server, wire::SERVER_PORT))?;
            return Ok(());
        }
        let length = wire::packet(send, mac, self.transaction, &mut buffer).unwrap_or(0);
        self.socket.broadcast(&buffer[..length])
    }
}

impl AsFd for Dhcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
