//! The service against servers that others wrote, dnsmasq and radvd, and against a real kernel: in a network of the test's
//! own, where links are pairs of which the servers have one end and the service the other. Nothing in it leads anywhere.
//!
//! A test starts itself again inside of namespaces of its own (`unshare`), as root of them, and there says what the kernel
//! is to have in force, as `ip` tells it.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_net::serve;
use astromesh_proto::ipc::{self, ToInit};
use astromesh_proto::machine_config::{Addressing, Cidr, Interface, Link, Network};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set inside of the namespaces.
const INSIDE: &str = "ASTROMESH_INSIDE_ITS_OWN_NETWORK";
/// A server answers within a second or two; this is for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Runs a test inside of namespaces of its own, with a network that has nothing but `lo`.
fn in_its_own_network(test: &str, inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        // Theirs, not the host's: `/sys/class/net` lists the links of the namespace in which it was mounted.
        run("mount -t tmpfs run /run && mkdir /run/net && mount -t sysfs sysfs /sys && ip link set lo up");
        return inside();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = unshare.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Runs commands of the shell, which must succeed; what they write.
fn run(commands: &str) -> String {
    let output = Command::new("sh").args(["-euc", commands]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lays links `eth0` up to a number of them; the other end of `eth0` is `r0`, in the router's namespace.
fn lay(links: usize) {
    run("ip netns add router && ip -n router link set lo up");
    // Servers may speak at once: nobody else is there to have their addresses.
    run("ip netns exec router sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
         echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'");
    for link in 0..links {
        run(&format!("ip link add eth{link} type veth peer name r{link} netns router"));
        run(&format!("ip -n router link set r{link} up"));
    }
}

/// Ended when it is dropped; what is left ends with the namespace.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn in_router(program: &str, arguments: &[&str]) -> Server {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "router", program]).args(arguments);
    Server(command.stdin(Stdio::null()).spawn().unwrap())
}

fn dnsmasq(link: &str, options: &[&str]) -> Server {
    let interface = format!("--interface={link}");
    let leases = format!("--dhcp-leasefile=/run/{link}.leases");
    let fixed = [
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--log-facility=-",
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--port=0",
        "--bind-interfaces",
        "--except-interface=lo",
        "--no-ping",
        "--dhcp-authoritative",
        &interface,
        &leases,
    ];
    in_router("dnsmasq", &[&fixed[..], options].concat())
}

fn radvd(config: &str) -> Server {
    std::fs::write("/run/radvd.conf", config).unwrap();
    let fixed =
        ["--nodaemon", "--logmethod", "stderr", "--config", "/run/radvd.conf", "--pidfile", "/run/radvd.pid"];
    in_router("radvd", &fixed)
}

/// Starts the service; the end of its socket that PID 1 has.
fn start(network: Network) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    std::thread::spawn(move || serve(theirs, network).map(|never| match never {}));
    ours
}

fn says_ready(socket: &OwnedFd) -> bool {
    let mut buffer = [0; ipc::MAX_MESSAGE];
    let read = rustix::io::read(socket, &mut buffer).unwrap_or(0);
    ipc::decode::<ToInit>(&buffer[..read]) == Some(ToInit::Ready)
}

/// Waits until something holds; `what` says what, with what is there instead.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(
            Instant::now() < until,
            "{what}:\n{}",
            run("ip addr; ip rule; ip route show table all; cat /run/net/*")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has(command: &str, wanted: &str) {
    soon(&format!("`{command}` has {wanted:?}"), || run(command).contains(wanted));
}

fn by_dhcp(name: &str) -> Interface {
    Interface { link: Link::Name(name.to_owned()), addressing: Addressing::Dhcp }
}

/// The first address of a link in this family.
fn address(link: &str, family: u8) -> String {
    let said = run(&format!("ip -{family} -o addr show dev {link} scope global"));
    let mut words = said.split_whitespace().skip_while(|word| !word.starts_with("inet")).skip(1);
    words.next().unwrap_or_default().split('/').next().unwrap().to_owned()
}

#[test]
fn each_link_has_what_its_servers_mean_and_answers_for_itself() {
    in_its_own_network("each_link_has_what_its_servers_mean_and_answers_for_itself", || {
        lay(4);
        run("ip -n router addr add 10.10.0.1/24 dev r0 && ip -n router addr add 10.20.0.1/24 dev r1
             ip -n router addr add fd00:2::1/64 dev r2 && ip -n router addr add fd00:3::1/64 dev r3
             ip -n router addr add 172.31.1.1/32 dev r3 && ip -n router route add 203.0.113.7/32 dev r3");
        // Two routers and a small packet size; a network of one host with its router on the link, and option 3 to be
        // ignored.
        let _first = dnsmasq(
            "r0",
            &[
                "--dhcp-range=10.10.0.50,10.10.0.60,255.255.255.0,120s",
                "--dhcp-option=3,10.10.0.1,10.10.0.2",
                "--dhcp-option=6,10.10.0.53",
                "--dhcp-option=26,1400",
                "--dhcp-option=119,one.test,two.test",
            ],
        );
        let _second = dnsmasq(
            "r1",
            &[
                "--dhcp-range=10.20.0.50,10.20.0.60,255.255.255.0,120s",
                "--dhcp-option=1,255.255.255.255",
                "--dhcp-option=3,10.20.0.9",
                "--dhcp-option=6",
                "--dhcp-option=121,10.20.0.1/32,0.0.0.0,0.0.0.0/0,10.20.0.1",
            ],
        );
        let interval = "AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;";
        let _third = radvd(&format!(
            "interface r2 {{ {interval} prefix fd00:2::/64 {{}}; RDNSS fe80::1 {{ AdvRDNSSLifetime 600; }};
               RDNSS fd00:2::53 {{ AdvRDNSSLifetime 300; }}; DNSSL three.test {{}}; }};
             interface r3 {{ {interval} prefix fd00:3::/64 {{}}; RDNSS fd00:3::53 {{}}; }};"
        ));
        let fixed = Addressing::Static {
            addresses: vec![Cidr { address: "203.0.113.7".parse().unwrap(), prefix: 32 }],
            gateway: Some("172.31.1.1".parse().unwrap()),
            gateway6: None,
        };
        let fixed = Interface { link: Link::Name("eth3".to_owned()), addressing: fixed };
        let interfaces = vec![by_dhcp("eth1"), by_dhcp("eth0"), by_dhcp("eth2"), fixed];
        let init = start(Network { interfaces, ..Network::default() });

        has("ip -4 -o addr show dev eth0", "/24 ");
        has("cat /sys/class/net/eth0/mtu", "1400");
        has("ip -4 -o addr show dev eth1", "/32 ");
        has("ip -6 -o addr show dev eth2 scope global", "fd00:2:");
        soon("it is ready", || says_ready(&init));

        // The first that is written has the default route; each address is answered by its own link.
        has("ip route get 192.0.2.1", "via 10.20.0.1 dev eth1");
        let (first, second) = (address("eth0", 4), address("eth1", 4));
        has(&format!("ip route get 192.0.2.1 from {first}"), "via 10.10.0.1 dev eth0");
        has(&format!("ip route get 192.0.2.1 from {second}"), "via 10.20.0.1 dev eth1");
        has("ip route get 192.0.2.1 from 203.0.113.7", "via 172.31.1.1 dev eth3");
        has("ip -6 route get 2001:db8::1", "dev eth2");
        // Neighbours are reached on the link, not by its router.
        has(&format!("ip route get 10.10.0.77 from {first}"), "10.10.0.77 from");
        assert!(!run(&format!("ip route get 10.10.0.77 from {first}")).contains("via"));

        let resolver = "nameserver 10.10.0.53\nnameserver fe80::1%eth2\nnameserver fd00:2::53\n\
                        search one.test two.test three.test\n";
        has("cat /run/net/resolv.conf", resolver);

        // Routers of the link with an address of its own have advertised several times by now, and are not believed. Twin:
        // the same router is, by the link that asks.
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(address("eth3", 6), "");
        assert!(address("eth2", 6).starts_with("fd00:2:"));
        has("ip -6 route show default dev eth2", "metric 102");

        // A link that goes takes along what came by it; one that comes is taken into care when it does.
        run("ip link del eth0");
        has("cat /run/net/resolv.conf", "timeout:3 attempts:2\nnameserver fe80::1%eth2\n");
        run("ip link add eth0 type veth peer name r9 netns router && ip -n router link set r9 up");
        has("ip -o link show dev eth0", ",UP");
    });
}

#[test]
fn a_network_with_ipv6_alone_counts_as_configured() {
    in_its_own_network("a_network_with_ipv6_alone_counts_as_configured", || {
        lay(1);
        run("ip -n router addr add fd00:1::1/64 dev r0");
        let init = start(Network { interfaces: vec![by_dhcp("eth0")], ..Network::default() });
        // Twin: without a router nothing is.
        std::thread::sleep(Duration::from_secs(3));
        assert!(!says_ready(&init));
        let _router = radvd(
            "interface r0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix fd00:1::/64 {};
               RDNSS fd00:1::53 {}; };",
        );
        soon("it is ready", || says_ready(&init));
        assert!(address("eth0", 6).starts_with("fd00:1:"));
        has("cat /run/net/resolv.conf", "nameserver fd00:1::53\n");
    });
}
