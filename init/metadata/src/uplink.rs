//! A link borrowed for one question, and given back as it was found.
//!
//! Every Ethernet link is set up and asks for a lease; the first that gets one is used. Nothing is routed but the one
//! address that is to be asked. When it is dropped, the address is removed and every link that was set up is set down
//! again, which takes routes and IPv6 addresses with it: the `net` service starts from nothing, and its links' going up
//! has the kernel ask routers anew. Should this process die before that, the kernel still removes the address, whose
//! lifetime is that of the question and not of the lease.

use astromesh_link::dhcp::Dhcp;
use astromesh_link::lease::{Change, Lease};
use astromesh_link::links::{self, EthernetLink};
use astromesh_link::netlink::{GivenBy, Netlink};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// How often links are listed and looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Seconds after which the kernel takes the address away by itself: longer than all of this process may take.
const ADDRESS_LASTS: u32 = 120;

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// There is nothing to be leased for.
    #[error(
        "no Ethernet link came up: give the instance a network interface that this kernel has a driver for"
    )]
    FindLink,
    /// No server granted one.
    #[error("no DHCP server granted an address in time: the cloud's network must have DHCP")]
    ObtainLease,
    /// The kernel didn't take it.
    #[error("the leased address or the route to the metadata server could not be set: {0}")]
    ApplyLease(Errno),
}

struct Borrowed {
    link: EthernetLink,
    /// Once it has a carrier.
    dhcp: Option<Dhcp>,
}

/// The links.
pub struct Uplink {
    netlink: Netlink,
    borrowed: Vec<Borrowed>,
    leased: Option<(u32, Lease)>,
}

impl Uplink {
    /// Opens the way to the kernel, and touches nothing yet.
    pub fn open() -> Result<Self, Errno> {
        Ok(Self { netlink: Netlink::open()?, borrowed: Vec::new(), leased: None })
    }

    /// Leases an address from which `server` can be asked.
    pub fn lease(&mut self, server: Ipv4Addr, deadline: Instant) -> Result<(), UplinkError> {
        while Instant::now() < deadline {
            self.borrow();
            for index in 0..self.borrowed.len() {
                if let Some(lease) = self.turn(index, Instant::now()) {
                    return self.apply(index, lease, server).map_err(UplinkError::ApplyLease);
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let came_up = self.borrowed.iter().any(|borrowed| borrowed.dhcp.is_some());
        Err(if came_up { UplinkError::ObtainLease } else { UplinkError::FindLink })
    }

    /// Takes the links that are there and not taken yet.
    fn borrow(&mut self) {
        for link in links::list() {
            if self.borrowed.iter().any(|borrowed| borrowed.link.index == link.index) {
                continue;
            }
            match self.netlink.set_up(link.index) {
                Ok(()) => self.borrowed.push(Borrowed { link, dhcp: None }),
                Err(cause) => log::warn!("{} can't be set up: {cause}", link.name),
            }
        }
    }

    /// Goes on with one link, and returns its lease once there is one.
    fn turn(&mut self, index: usize, now: Instant) -> Option<Lease> {
        let Borrowed { link, dhcp } = &mut self.borrowed[index];
        if dhcp.is_none() && links::has_carrier(link) {
            *dhcp = Dhcp::start(link);
        }
        let dhcp = dhcp.as_mut()?;
        if let Err(error) = dhcp.act(link, now).1 {
            log::warn!("{}: DHCP can't be sent: {error}", link.name);
        }
        match dhcp.receive(link, now) {
            Some(Change::Granted(lease)) => Some(lease),
            _ => None,
        }
    }

    fn apply(&mut self, index: usize, lease: Lease, server: Ipv4Addr) -> Result<(), Errno> {
        let link = &self.borrowed[index].link;
        let address = IpAddr::V4(lease.address);
        self.netlink.add_address(link.index, address, lease.prefix, GivenBy::Lease(ADDRESS_LASTS))?;
        log::info!("{}: {}/{} from {}", link.name, lease.address, lease.prefix, lease.server);
        let (link, router) = (link.index, lease.gateway_to(server));
        self.leased = Some((link, lease));
        match router {
            Some(router) => self.netlink.set_host_route(link, server, router),
            // Then it is on the link, or can't be reached.
            None => Ok(()),
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if let Some((link, lease)) = &self.leased {
            if let Err(cause) = self.netlink.remove_address(*link, IpAddr::V4(lease.address), lease.prefix) {
                log::warn!("{} can't be removed again: {cause}", lease.address);
            }
        }
        for Borrowed { link, .. } in &self.borrowed {
            if let Err(cause) = self.netlink.set_down(link.index) {
                log::warn!("{} can't be set down again: {cause}", link.name);
            }
        }
    }
}
