//! The `net` service: links up, addresses by DHCP or from the machine-config, routes, the resolver's files.
//!
//! One thread, one `poll`. IPv6 addresses come from router advertisements, which the kernel's own code reads; only the
//! name servers and search domains in them are for user space. What it may do stands in its row ([`process::NET`]).
//!
//! Nothing is given up for good: what the kernel refuses is tried again, a link that comes late is taken into care when
//! the kernel says so, and one that is gone is let go.

mod managed;
mod resolver;
mod wanted;

use astromesh_link::advertised::{Advertised, Item};
use astromesh_link::dhcp::Dhcp;
use astromesh_link::lease::Change;
use astromesh_link::links;
use astromesh_link::netlink::Netlink;
use astromesh_link::notifications::{Notification, Notifications};
use astromesh_link::sysctls;
use astromesh_node::inherited::Inherited;
use astromesh_node::{log_sink, process, service};
use astromesh_proto::ipc::{self, ToInit};
use astromesh_proto::machine_config::{Addressing, Network};
use astromesh_settings::read_network;
use managed::Managed;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use wanted::{Place, Wanted};

/// How often the links are listed again although the kernel said nothing; after a link couldn't be set up, sooner.
const LIST_EVERY: Duration = Duration::from_secs(60);
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Most notifications read in one turn, so that a flood of them leaves time for the links.
const HEARD_AT_ONCE: usize = 64;

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
    match serve(socket, read_network().unwrap_or_default()) {
        Ok(never) => match never {},
        Err(cause) => {
            log::error!("rtnetlink can't be reached: {cause}; the kernel lacks networking");
            1
        }
    }
}

/// The service's work, for as long as it lives: the network is configured as is written, and `init` is told once it is.
pub fn serve(init: OwnedFd, network: Network) -> Result<Infallible, Errno> {
    let mut net = Net {
        netlink: Netlink::open()?,
        notifications: Notifications::open()?,
        init,
        network,
        managed: Vec::new(),
        list_at: Instant::now(),
        advertised: Advertised::default(),
        ready: false,
    };
    net.begin();
    loop {
        net.turn();
    }
}

struct Net {
    netlink: Netlink,
    notifications: Notifications,
    init: OwnedFd,
    network: Network,
    /// In the order of their metrics.
    managed: Vec<Managed>,
    /// When the links are listed again.
    list_at: Instant,
    /// Name servers and domains from router advertisements.
    advertised: Advertised,
    ready: bool,
}

impl Net {
    fn begin(&mut self) {
        if let Err(cause) = self.netlink.set_up(1) {
            log::warn!("lo can't be set up: {cause}");
        }
        for (path, value) in sysctls::FOR_ALL {
            write_sysctl(path, value);
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
        if now >= self.list_at {
            self.look(now);
        }
        for index in 0..self.managed.len() {
            if self.managed[index].attempt(&mut self.netlink, now) {
                self.report_ready();
            }
            self.receive(index, now);
            self.act(index, now);
        }
        self.hear(now);
        let dhcp = self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()).map(Dhcp::wake_at);
        let again = self.managed.iter().filter_map(|managed| managed.again_at);
        let due = dhcp.chain(again).chain(self.advertised.next_end());
        let until = due.fold(self.list_at, Instant::min);
        self.wait(until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    }

    fn wait(&self, longest: Duration) {
        let mut fds = vec![PollFd::new(&self.notifications, PollFlags::IN)];
        for dhcp in self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()) {
            fds.push(PollFd::new(dhcp, PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    /// Takes new links into care, and lets go of those that are there no more.
    fn look(&mut self, now: Instant) {
        self.list_at = now + LIST_EVERY;
        let listed = links::list();
        let is_there = |index| listed.iter().any(|link| link.index == index);
        let gone: Vec<_> = self.managed.extract_if(.., |managed| !is_there(managed.link.index)).collect();
        for managed in &gone {
            log::warn!("{} is gone", managed.link.name);
            self.advertised.forget(managed.link.index);
        }
        for link in listed {
            if self.managed.iter().any(|managed| managed.link.index == link.index) {
                continue;
            }
            let Some(addressing) = links::addressing(&link, &self.network).cloned() else { continue };
            let place = Place { index: link.index, metric: links::metric(&link, &self.network) };
            // Before it is up: then it asks the routers.
            for (path, value) in sysctls::of_link(&link.name, &addressing, place.metric) {
                write_sysctl(&path, &value);
            }
            if let Err(cause) = self.netlink.set_up(link.index) {
                log::warn!("{} can't be set up: {cause}", link.name);
                self.list_at = now + LIST_AGAIN_AFTER;
                continue;
            }
            self.managed.push(Managed::new(link, place, addressing, now));
        }
        self.managed.sort_by_key(|managed| managed.place.metric);
        if !gone.is_empty() {
            self.write_nameservers();
        }
    }

    /// Reads the answers that wait for a link.
    fn receive(&mut self, index: usize, now: Instant) {
        let Managed { link, dhcp: Some(dhcp), .. } = &mut self.managed[index] else { return };
        if let Some(change) = dhcp.receive(link, now) {
            self.apply(index, change, now);
        }
    }

    /// Sends what is due on a link.
    fn act(&mut self, index: usize, now: Instant) {
        let Managed { link, dhcp: Some(dhcp), .. } = &mut self.managed[index] else { return };
        let (change, sent) = dhcp.act(link, now);
        if let Err(error) = sent {
            log::warn!("{}: DHCP can't be sent: {error}", link.name);
        }
        if let Some(change) = change {
            self.apply(index, change, now);
        }
    }

    fn apply(&mut self, index: usize, change: Change, now: Instant) {
        let managed = &mut self.managed[index];
        match change {
            Change::Granted(lease) => {
                let wanted = Wanted::leased(&lease, managed.place);
                let name = managed.link.name.clone();
                if managed.give(&mut self.netlink, wanted, now) {
                    let (address, prefix, server, seconds) =
                        (lease.address, lease.prefix, lease.server, lease.seconds);
                    log::info!("{name}: {address}/{prefix} from {server} for {seconds} s");
                }
                if let Some(dhcp) = &mut managed.dhcp {
                    dhcp.lease = Some(lease);
                }
                self.report_ready();
            }
            Change::Lost(lease) => {
                log::error!("{}: the lease of {} is lost", managed.link.name, lease.address);
                managed.give(&mut self.netlink, Wanted::default(), now);
                if let Some(dhcp) = &mut managed.dhcp {
                    dhcp.lease = None;
                }
            }
        }
        self.write_nameservers();
    }

    /// Reads what the kernel says of its own accord, and forgets what has ended.
    fn hear(&mut self, now: Instant) {
        let mut changed = self.advertised.expire(now);
        for _ in 0..HEARD_AT_ONCE {
            match self.notifications.next() {
                Some(Notification::Links) => self.list_at = now,
                Some(Notification::Address { link }) => {
                    if self.asks_routers(link) {
                        self.report_ready();
                    }
                }
                Some(Notification::Advertised(advertisement)) => {
                    changed |=
                        self.asks_routers(advertisement.link) && self.advertised.hear(advertisement, now);
                }
                None => break,
            }
        }
        if changed {
            self.write_nameservers();
        }
    }

    fn asks_routers(&self, link: u32) -> bool {
        self.managed.iter().any(|one| one.link.index == link && one.addressing == Addressing::Dhcp)
    }

    /// Configured name servers; else those of the leases, then those that routers advertise, by the order of the links.
    /// The domains come from where the name servers come from.
    fn write_nameservers(&self) {
        let mut servers: Vec<_> = self.network.nameservers.iter().map(ToString::to_string).collect();
        let mut domains: Vec<String> = Vec::new();
        if servers.is_empty() {
            for lease in self.managed.iter().filter_map(|managed| managed.dhcp.as_ref()?.lease.as_ref()) {
                servers.extend(lease.nameservers.iter().map(ToString::to_string));
                domains.extend(lease.domains.iter().cloned());
            }
            for managed in &self.managed {
                for item in self.advertised.on(managed.link.index) {
                    match item {
                        Item::Server(server) => servers.push(resolver::scoped(*server, &managed.link.name)),
                        Item::Domain(domain) => domains.push(domain.clone()),
                    }
                }
            }
        }
        for list in [&mut servers, &mut domains] {
            let mut known = std::collections::BTreeSet::new();
            list.retain(|one| known.insert(one.clone()));
        }
        if let Err(error) = resolver::write_nameservers(&servers, &domains) {
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

fn write_sysctl(path: &str, value: &str) {
    if let Err(error) = sysctls::write(path, value) {
        log::warn!("{path} can't be set to {value}: {error}");
    }
}
