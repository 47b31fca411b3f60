//! The promise: a guest reaches what its test opened, and nothing else. Judged by the frames on its card and
//! by the sockets that the kernel says QEMU holds, not by the guest.
#![allow(clippy::unwrap_used, reason = "a test file: its helpers may panic as its tests do")]

#[expect(dead_code, reason = "this file stops no guest")]
mod boot_sector;

use astromesh_qemu::pcap::{Content, conversation};
use astromesh_qemu::sockets::{InetSocket, Samples};
use astromesh_qemu::{Disk, Nic, NicModel, SocketSampler, Vm, relay_path};
use boot_sector::Program;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscRepr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(2);
/// For what must not happen: many times what the router takes to answer (it is inside QEMU).
const GRACE: Duration = Duration::from_secs(2);

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// TEST-NET-2: belongs to nobody, so that even a broken harness reaches nobody.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

const GUEST_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const ROUTER_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);

fn frame(protocol: EthernetProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 14 + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr { src_addr: GUEST_MAC, dst_addr: ROUTER_MAC, ethertype: protocol }.emit(&mut frame);
    fill(frame.payload_mut());
    bytes
}

/// Tells the router where the guest is, so that an answer could be delivered.
fn arp() -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: GUEST_MAC,
        source_protocol_addr: GUEST,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: Ipv4Addr::new(10, 0, 2, 2),
    };
    frame(EthernetProtocol::Arp, repr.buffer_len(), |payload| {
        repr.emit(&mut ArpPacket::new_unchecked(payload));
    })
}

fn ipv4(to: Ipv4Addr, next_header: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let repr = Ipv4Repr { src_addr: GUEST, dst_addr: to, next_header, payload_len: length, hop_limit: 64 };
    frame(EthernetProtocol::Ipv4, repr.buffer_len() + length, |payload| {
        let mut packet = Ipv4Packet::new_unchecked(payload);
        repr.emit(&mut packet, &ChecksumCapabilities::default());
        fill(packet.payload_mut());
    })
}

fn syn(to: Ipv4Addr, port: u16) -> Vec<u8> {
    segment(to, port, TcpControl::Syn, 1, None)
}

fn segment(to: Ipv4Addr, port: u16, control: TcpControl, number: i32, acknowledges: Option<i32>) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40000,
        dst_port: port,
        control,
        seq_number: TcpSeqNumber(number),
        ack_number: acknowledges.map(TcpSeqNumber),
        window_len: 4096,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    ipv4(to, IpProtocol::Tcp, repr.buffer_len(), |payload| {
        let checksums = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(payload), &GUEST.into(), &to.into(), &checksums);
    })
}

fn datagram(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let repr = UdpRepr { src_port: 40001, dst_port: port };
    ipv4(to, IpProtocol::Udp, repr.header_len() + 2, |payload| {
        let (packet, checksums) = (&mut UdpPacket::new_unchecked(payload), ChecksumCapabilities::default());
        repr.emit(packet, &GUEST.into(), &to.into(), 2, |data| data.fill(0), &checksums);
    })
}

struct Guest {
    vm: Vm,
    sampler: SocketSampler,
    capture: PathBuf,
    _dir: TempDir,
}

/// Boots a guest that sends these frames, and says on its console when it has.
fn guest(frames: &[Vec<u8>], open: impl FnOnce(Nic) -> Nic) -> Guest {
    boot(
        frames.iter().fold(Program::new().start_nic().send(&arp()), |program, frame| program.send(frame)),
        open,
    )
}

fn boot(program: Program, open: impl FnOnce(Nic) -> Nic) -> Guest {
    let dir = tempfile::tempdir().unwrap();
    let (disk, capture) = (dir.path().join("disk.raw"), dir.path().join("capture.pcap"));
    program.print("sent").halt().write(&disk);
    let nic = open(Nic::new(relay_path().unwrap()).model(NicModel::Ne2kIsa).capture(&capture));
    let vm = Vm::builder().memory_mib(64).disk(Disk::new(disk).boot()).nic(nic).start().unwrap();
    let sampler = SocketSampler::start(vm.pid());
    vm.serial().expect("sent", LIMIT).unwrap();
    Guest { vm, sampler, capture, _dir: dir }
}

fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Lets the sampler look a few times more, and judges all it saw.
fn assert_inside(sampler: SocketSampler) -> Samples {
    let looks = sampler.seen().looks;
    assert!(wait_until(|| sampler.seen().looks > looks + 10), "the sampler stopped looking");
    let samples = sampler.stop();
    assert_eq!(samples.packet, 0, "{samples:?}");
    assert!(samples.outside().is_empty(), "{:?}", samples.outside());
    samples
}

fn assert_unanswered(frame: Vec<u8>, to: Ipv4Addr) {
    let guest = guest(&[frame.clone(), frame], |nic| nic);
    std::thread::sleep(GRACE);
    let seen = conversation(&guest.capture, to.into()).unwrap();
    assert_eq!(seen.sent.len(), 2, "the guest did send: {seen:?}");
    assert!(seen.answers.is_empty(), "{seen:?}");
    let samples = assert_inside(guest.sampler);
    assert!(samples.sockets.is_empty(), "a closed machine needs no inet socket at all: {samples:?}");
    drop(guest.vm);
}

#[test]
fn a_connection_to_the_outside_gets_no_answer_and_opens_no_socket() {
    assert_unanswered(syn(OUTSIDE, 80), OUTSIDE);
}

#[test]
fn a_connection_to_the_metadata_address_gets_no_answer_and_opens_no_socket() {
    assert_unanswered(syn(METADATA, 80), METADATA);
}

#[test]
fn a_datagram_to_the_outside_gets_no_answer_and_opens_no_socket() {
    assert_unanswered(datagram(OUTSIDE, 53), OUTSIDE);
}

#[test]
fn a_question_to_the_routers_own_resolver_is_not_passed_on() {
    let resolver = Ipv4Addr::new(10, 0, 2, 3);
    assert_unanswered(datagram(resolver, 53), resolver);
}

#[test]
fn a_connection_to_a_host_port_that_was_not_opened_gets_no_answer() {
    // The router's address stands for the host's loopback: a listener there must not be reached.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let router = Ipv4Addr::new(10, 0, 2, 2);
    assert_unanswered(syn(router, listener.local_addr().unwrap().port()), router);
    assert!(listener.accept().is_err());
}

/// The closed network speaks IPv6 as well: a guest that asks for a router gets one, inside QEMU.
#[test]
fn the_router_advertises_itself_in_ipv6() {
    let (from, to) =
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x15), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
    let ask = Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr: None });
    let (src_addr, dst_addr, payload_len) = (from, to, ask.buffer_len());
    let next_header = IpProtocol::Icmpv6;
    let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 255 };
    let solicitation = frame(EthernetProtocol::Ipv6, header.buffer_len() + payload_len, |payload| {
        let mut packet = Ipv6Packet::new_unchecked(payload);
        header.emit(&mut packet);
        let mut message = Icmpv6Packet::new_unchecked(packet.payload_mut());
        ask.emit(&from, &to, &mut message, &ChecksumCapabilities::default());
    });
    let guest = guest(&[solicitation], |nic| nic);
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    assert!(wait_until(|| {
        let seen = conversation(&guest.capture, router.into()).unwrap();
        seen.answers.iter().any(|packet| packet.content == Content::Other(IpProtocol::Icmpv6.into()))
    }));
    assert!(assert_inside(guest.sampler).sockets.is_empty());
}

/// The twin of the tests above: the same guest, the same looks, one opening. Now an answer is seen on the
/// card, the target is reached, and the sampler sees the socket. So they are able to see.
#[test]
fn a_connection_that_was_opened_is_answered_and_seen() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let port = target.local_addr().unwrap().port();
    // QEMU runs the relay only once the guest has acknowledged, so this guest finishes the handshake.
    let ack = segment(INSIDE, 443, TcpControl::None, 2, Some(0));
    let program = Program::new().start_nic().send(&arp()).send(&syn(INSIDE, 443)).acknowledge(&ack);
    let guest = boot(program, |nic| nic.reach_loopback("10.0.2.100:443".parse().unwrap(), port));
    let mut accepted = None;
    assert!(
        wait_until(|| {
            accepted = target.accept().ok();
            accepted.is_some()
        }),
        "the relay reaches the target"
    );
    assert_eq!(relays_to(port), 1, "twin of the last assertion below");
    assert!(wait_until(|| {
        let seen = conversation(&guest.capture, INSIDE.into()).unwrap();
        seen.answers.iter().any(|p| matches!(p.content, Content::Tcp { syn: true, ack: true, .. }))
    }));
    assert!(wait_until(|| guest.sampler.seen().sockets.keys().any(InetSocket::is_connected)));
    assert_inside(guest.sampler);
    // The machine goes, the target closes as any server does then: no relay is left behind.
    drop(guest.vm);
    drop(accepted);
    assert!(wait_until(|| relays_to(port) == 0));
}

/// How many relays to this port run on the host, by their command lines.
fn relays_to(port: u16) -> usize {
    let wanted = format!("astromesh-relay\0127.0.0.1:{port}\0");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command = |process: std::fs::DirEntry| std::fs::read_to_string(process.path().join("cmdline")).ok();
    processes.filter_map(command).filter(|command| command.ends_with(&wanted)).count()
}

#[test]
fn a_forwarded_port_is_on_loopback_and_private_to_its_machine() {
    let guests = [guest(&[], |nic| nic.forward(8000).forward(9000)), guest(&[], |nic| nic.forward(8000))];
    let addresses: Vec<_> = guests.iter().map(|g| g.vm.host_address(8000).unwrap()).collect();
    assert_ne!(addresses[0], addresses[1]);
    assert_ne!(addresses[0], guests[0].vm.host_address(9000).unwrap());
    assert!(guests[1].vm.host_address(9000).unwrap_err().to_string().contains("Nic::forward(9000)"));
    for (guest, address) in guests.into_iter().zip(addresses) {
        assert!(address.ip().is_loopback());
        // The guest's sector can't answer, but its router hands it the connection.
        let _client = TcpStream::connect_timeout(&address, LIMIT).unwrap();
        assert!(wait_until(|| {
            let seen = guest.sampler.seen();
            seen.sockets.keys().any(|s| s.local == address && s.is_connected())
        }));
        let samples = assert_inside(guest.sampler);
        assert!(
            samples.sockets.keys().any(|s| s.local == address && !s.is_connected()),
            "it listens: {samples:?}"
        );
    }
}
