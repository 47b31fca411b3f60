//! The `net` service: links up, addresses by DHCP or from the machine-config, routes, the resolver's files.
//!
//! One thread, one `poll`. IPv6 addresses come from router advertisements, which the kernel's own code reads; only the
//! name servers in them are for user space. What it may do stands in its row
//! ([`process::NET`]).

mod resolver;

use astromesh_link::dhcp::Dhcp;
use astromesh_link::lease::Change;
use astromesh_link::links::{self, EthernetLink};
use astromesh_link::netlink::{GivenBy, Netlink, RouterOptions};
use astromesh_node::inherited::Inherited;
use astromesh_node::{log_sink, process, service};
use astromesh_proto::ipc::{self, ToInit};
use astromesh_proto::machine_config::{Addressing, Cidr, Network};
use astromesh_settings::read_network;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often the links are listed again, for those that appear late.
const LIST_EVERY: Duration = Duration::from_secs(2);

/// One link under this service's care.
struct Managed {
    link: EthernetLink,
    /// DHCP, if that is how it is addressed.
    dhcp: Option<Dhcp>,
}

/// The service.
pub fn main(mut inherited: Inherited) -> i32 {
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::NET, kmsg);
    }
    let socket = match inherited.ipc() {
        Ok(socket) => socket,
        Err(error) => {
            log::error!("{error}");
            return 1;
        }
    };
    if let Err(error) = service::become_service(process::NET) {
        log::error!("{error}");
        return 1;
    }
    let (netlink, options) = match (Netlink::open(), RouterOptions::open()) {
        (Ok(netlink), Ok(options)) => (netlink, options),
        (Err(cause), _) | (_, Err(cause)) => {
            log::error!("rtnetlink can't be reached: {cause}; the kernel lacks networking");
            return 1;
        }
    };
    let mut net = Net {
        netlink,
        options,
        init: socket,
        network: read_network().unwrap_or_default(),
        managed: Vec::new(),
        advertised: heapless::Vec::new(),
        ready: false,
    };
    net.begin();
    loop {
        net.turn();
    }
}

struct Net {
    netlink: Netlink,
    options: RouterOptions,
    init: OwnedFd,
    network: Network,
    managed: Vec<Managed>,
    /// Name servers from router advertisements.
    advertised: heapless::Vec<Ipv6Addr, 3>,
    ready: bool,
}

impl Net {
    fn begin(&mut self) {
        if let Err(cause) = self.netlink.set_up(1) {
            log::warn!("lo can't be set up: {cause}");
        }
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if let Err(error) = resolver::write_hosts(&hostname, &self.network.hosts) {
            log::error!("/run/net/hosts: {error}");
        }
        self.write_nameservers();
    }

    /// One turn: what is due, what has come, then sleep until there is more.
    fn turn(&mut self) {
        let now = Instant::now();
        self.adopt();
        for index in 0..self.managed.len() {
            self.receive(index, now);
            self.act(index, now);
        }
        if let Some(servers) = self.options.next() {
            if servers != self.advertised {
                self.advertised = servers;
                self.write_nameservers();
            }
        }
        let due = self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()).map(Dhcp::wake_at);
        let until = due.fold(now + LIST_EVERY, Instant::min);
        self.wait(until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    }

    fn wait(&self, longest: Duration) {
        let mut fds = vec![PollFd::new(&self.options, PollFlags::IN)];
        for dhcp in self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()) {
            fds.push(PollFd::new(dhcp, PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    /// Takes new links into care.
    fn adopt(&mut self) {
        for link in links::list() {
            if self.managed.iter().any(|managed| managed.link.index == link.index) {
                continue;
            }
            let Some(addressing) = links::addressing(&link, &self.network).cloned() else { continue };
            if let Err(cause) = self.netlink.set_up(link.index) {
                log::warn!("{} can't be set up: {cause}", link.name);
                continue;
            }
            let dhcp = match addressing {
                Addressing::Dhcp => Dhcp::start(&link),
                Addressing::Static { addresses, gateway, gateway6 } => {
                    self.configure(&link, &addresses, gateway, gateway6);
                    None
                }
            };
            self.managed.push(Managed { link, dhcp });
        }
    }

    /// Gives a link what the machine-config says.
    fn configure(
        &mut self,
        link: &EthernetLink,
        addresses: &[Cidr],
        gateway: Option<Ipv4Addr>,
        gateway6: Option<Ipv6Addr>,
    ) {
        for cidr in addresses {
            match self.netlink.add_address(link.index, cidr.address, cidr.prefix, GivenBy::Config) {
                Ok(()) => log::info!("{}: {cidr}", link.name),
                Err(cause) => log::error!("{}: {cidr} can't be set: {cause}", link.name),
            }
        }
        for gateway in gateway.map(IpAddr::V4).into_iter().chain(gateway6.map(IpAddr::V6)) {
            if let Err(cause) = self.netlink.set_default_route(link.index, gateway, GivenBy::Config) {
                log::error!("{}: no default route by {gateway}: {cause}", link.name);
            }
        }
        self.report_ready();
    }

    /// Reads the answers that wait for a link.
    fn receive(&mut self, index: usize, now: Instant) {
        let Managed { link, dhcp: Some(dhcp) } = &mut self.managed[index] else { return };
        if let Some(change) = dhcp.receive(link, now) {
            self.apply(index, change);
        }
    }

    /// Sends what is due on a link.
    fn act(&mut self, index: usize, now: Instant) {
        let Managed { link, dhcp: Some(dhcp) } = &mut self.managed[index] else { return };
        let (change, sent) = dhcp.act(link, now);
        if let Err(error) = sent {
            log::warn!("{}: DHCP can't be sent: {error}", link.name);
        }
        if let Some(change) = change {
            self.apply(index, change);
        }
    }

    fn apply(&mut self, index: usize, change: Change) {
        let Managed { link, dhcp: Some(dhcp) } = &mut self.managed[index] else { return };
        match change {
            Change::Granted(lease) => {
                let origin = GivenBy::Lease(lease.seconds);
                let address = IpAddr::V4(lease.address);
                let mut result = self.netlink.add_address(link.index, address, lease.prefix, origin);
                if let (Ok(()), Some(router)) = (result, lease.router) {
                    result = self.netlink.set_default_route(link.index, IpAddr::V4(router), origin);
                }
                match result {
                    Ok(()) => log::info!(
                        "{}: {}/{} from {} for {} s",
                        link.name,
                        lease.address,
                        lease.prefix,
                        lease.server,
                        lease.seconds
                    ),
                    Err(cause) => log::error!("{}: the lease can't be applied: {cause}", link.name),
                }
                dhcp.lease = Some(lease);
                self.report_ready();
            }
            Change::Lost(lease) => {
                log::error!("{}: the lease of {} is lost", link.name, lease.address);
                let _ = self.netlink.remove_address(link.index, IpAddr::V4(lease.address), lease.prefix);
                dhcp.lease = None;
            }
        }
        self.write_nameservers();
    }

    /// Configured name servers; else those of the leases, then those that routers advertise.
    fn write_nameservers(&self) {
        let leases = self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()?.lease.as_ref());
        let servers: Vec<IpAddr> = if self.network.nameservers.is_empty() {
            let leased = leases.flat_map(|lease| lease.nameservers.iter().copied().map(IpAddr::V4));
            leased.chain(self.advertised.iter().copied().map(IpAddr::V6)).collect()
        } else {
            self.network.nameservers.clone()
        };
        if let Err(error) = resolver::write_nameservers(&servers) {
            log::error!("/run/net/resolv.conf: {error}");
        }
    }

    fn report_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            let mut buffer = [0; ipc::MAX_MESSAGE];
            if let Some(bytes) = ipc::encode(&ToInit::Ready, &mut buffer) {
                let _ = rustix::io::write(&self.init, bytes);
            }
        }
    }
}
