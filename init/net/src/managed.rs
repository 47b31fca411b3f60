//! One link under the service's care: what it is to have, what it was given, and what is still to be tried again.

use crate::wanted::{Fact, Place, Wanted};
use astromesh_link::dhcp::Dhcp;
use astromesh_link::links::{self, EthernetLink};
use astromesh_link::netlink::Netlink;
use astromesh_proto::machine_config::Addressing;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long until what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// One link.
pub struct Managed {
    /// Which.
    pub link: EthernetLink,
    /// Its place among the others.
    pub place: Place,
    /// How it is addressed.
    pub addressing: Addressing,
    /// DHCP, if that is how, and once it has its socket.
    pub dhcp: Option<Dhcp>,
    /// When what failed is tried again; `None` when all is done.
    pub again_at: Option<Instant>,
    wanted: Wanted,
    /// Its largest packet as it was found.
    found_mtu: Option<u16>,
}

impl Managed {
    /// Begins with a link that is up. DHCP and addresses come with the first [`Self::attempt`].
    pub fn new(link: EthernetLink, place: Place, addressing: Addressing, now: Instant) -> Self {
        let found_mtu = links::mtu(&link);
        let wanted = Wanted::default();
        Self { link, place, addressing, dhcp: None, again_at: Some(now), wanted, found_mtu }
    }

    /// Tries what is still to be done, if it is time; whether the link has all of its configuration by it.
    pub fn attempt(&mut self, netlink: &mut Netlink, now: Instant) -> bool {
        if self.again_at.is_none_or(|at| now < at) {
            return false;
        }
        match &self.addressing {
            Addressing::Dhcp if self.dhcp.is_none() => {
                self.dhcp = Dhcp::start(&self.link);
                self.again_at = self.dhcp.is_none().then_some(now + AGAIN_AFTER);
                false
            }
            Addressing::Dhcp => {
                let wanted = self.wanted.clone();
                self.give(netlink, wanted, now)
            }
            Addressing::Static { addresses, gateway, gateway6 } => {
                let wanted = Wanted::configured(addresses, *gateway, *gateway6, self.place);
                let said = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let done = self.give(netlink, wanted, now);
                if done {
                    log::info!("{}: {said}", self.link.name);
                }
                done
            }
        }
    }

    /// Makes the link have what is wanted, and nothing of what it had before; whether all of it could be done. If not, it
    /// is tried again.
    pub fn give(&mut self, netlink: &mut Netlink, wanted: Wanted, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let (index, wanted) = (self.link.index, &self.wanted);
        for fact in wanted.removed_since(&before) {
            if let Err(cause) = remove(netlink, index, fact, &before) {
                log::warn!("{}: {fact:?} can't be removed: {cause}", self.link.name);
            }
        }
        self.resize(netlink, before.mtu);
        let mut done = true;
        for fact in &self.wanted.facts {
            if let Err(cause) = add(netlink, index, fact, &self.wanted) {
                log::error!("{}: {fact:?} can't be set: {cause}", self.link.name);
                done = false;
            }
        }
        self.again_at = (!done).then_some(now + AGAIN_AFTER);
        done
    }

    /// Sets the largest packet: that of the lease, or the one that was found when no lease says any more.
    fn resize(&self, netlink: &mut Netlink, before: Option<u16>) {
        if self.wanted.mtu.is_none() && before.is_none() {
            return;
        }
        let Some(mtu) = self.wanted.mtu.or(self.found_mtu) else { return };
        // Some drivers reset the link for it, so only when it changes anything.
        if links::mtu(&self.link) == Some(mtu) {
            return;
        }
        match netlink.set_mtu(self.link.index, mtu) {
            Ok(()) => log::info!("{}: packets of at most {mtu} bytes", self.link.name),
            Err(cause) => log::warn!("{}: packets of {mtu} bytes can't be carried: {cause}", self.link.name),
        }
    }
}

fn add(netlink: &mut Netlink, index: u32, fact: &Fact, of: &Wanted) -> Result<(), Errno> {
    match fact {
        Fact::Address(cidr) => netlink.add_address(index, cidr.address, cidr.prefix, of.given_by),
        Fact::Route(route) => netlink.add_route(index, route, of.given_by),
        Fact::Rule(rule) => netlink.add_rule(rule),
    }
}

fn remove(netlink: &mut Netlink, index: u32, fact: &Fact, of: &Wanted) -> Result<(), Errno> {
    match fact {
        Fact::Address(cidr) => netlink.remove_address(index, cidr.address, cidr.prefix),
        Fact::Route(route) => netlink.remove_route(index, route, of.given_by),
        Fact::Rule(rule) => netlink.remove_rule(rule),
    }
}
