//! Name servers and search domains that routers advertise (RFC 8106): each with its lifetime, from every router of every
//! link, one beside the other.
//!
//! The kernel reads advertisements itself, and hands on only the options that are for user space, one message each. So
//! one option says nothing of the others: what is known is kept here until its own time is over.

use crate::domains;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// Most that is kept of one kind: beyond, what would end first makes room (RFC 8106 6.1).
pub const MOST: usize = 8;

const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
const AF_INET6: u8 = 10;

/// Something that is advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A name server. One in fe80::/10 is reached only by the link that it was heard on.
    Server(Ipv6Addr),
    /// A domain in which to look for names without dots.
    Domain(String),
}

/// One option of an advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Index of the link that it was heard on.
    pub link: u32,
    /// For how many seconds it holds; 0 takes it back.
    pub lifetime: u32,
    /// What it says.
    pub items: Vec<Item>,
}

/// Reads the body of an `RTM_NEWNDUSEROPT` message: `struct nduseroptmsg` and the option as it was on the wire.
pub fn advertisement(body: &[u8]) -> Option<Advertisement> {
    // family, pad, length of the option, index of the link, type, code, padding to 16 bytes
    let (head, option) = body.split_first_chunk::<16>()?;
    let link = u32::from_ne_bytes(*head[4..].first_chunk()?);
    // The option: type, length in units of eight bytes, two reserved, lifetime, then what it is about.
    let (&[kind, units, ..], lifetime) = (option.first_chunk::<4>()?, option.get(4..)?.first_chunk()?);
    let lifetime = u32::from_be_bytes(*lifetime);
    let value = option.get(8..usize::from(units) * 8)?;
    let items: Vec<Item> = match kind {
        RDNSS => {
            let (servers, _) = value.as_chunks::<16>();
            let servers = servers.iter().copied().map(Ipv6Addr::from);
            let usable = |server: &Ipv6Addr| {
                !(server.is_unspecified() || server.is_loopback() || server.is_multicast())
            };
            servers.filter(usable).take(MOST).map(Item::Server).collect()
        }
        DNSSL => domains::encoded(value).into_iter().map(Item::Domain).collect(),
        _ => return None,
    };
    (head[0] == AF_INET6 && !items.is_empty()).then_some(Advertisement { link, lifetime, items })
}

#[derive(Debug, Clone)]
struct Entry {
    link: u32,
    item: Item,
    /// `None` for one without an end.
    until: Option<Instant>,
}

/// All that is advertised now, in the order in which it was first heard.
#[derive(Debug, Default)]
pub struct Advertised(Vec<Entry>);

impl Advertised {
    /// Takes in one advertisement; whether anything came or went by it.
    pub fn hear(&mut self, heard: Advertisement, now: Instant) -> bool {
        let mut changed = false;
        let until = (heard.lifetime < u32::MAX).then(|| now + Duration::from_secs(heard.lifetime.into()));
        for item in heard.items {
            let known = self.0.iter().position(|entry| entry.link == heard.link && entry.item == item);
            match known {
                Some(at) if heard.lifetime == 0 => {
                    self.0.remove(at);
                    changed = true;
                }
                Some(at) => self.0[at].until = until,
                None if heard.lifetime == 0 => {}
                None => {
                    changed |= self.make_room(&item, until);
                    if self.of_kind(&item).count() < MOST {
                        self.0.push(Entry { link: heard.link, item, until });
                        changed = true;
                    }
                }
            }
        }
        changed
    }

    fn of_kind(&self, item: &Item) -> impl Iterator<Item = (usize, &Entry)> {
        let kind = std::mem::discriminant(item);
        self.0.iter().enumerate().filter(move |(_, entry)| std::mem::discriminant(&entry.item) == kind)
    }

    /// Where there is no room, removes what ends first, if that is before `until`.
    fn make_room(&mut self, item: &Item, until: Option<Instant>) -> bool {
        if self.of_kind(item).count() < MOST {
            return false;
        }
        let ends = |entry: &Entry| (entry.until.is_none(), entry.until);
        let first = self.of_kind(item).min_by_key(|(_, entry)| ends(entry));
        let first = first.filter(|(_, entry)| ends(entry) < (until.is_none(), until)).map(|(at, _)| at);
        first.map(|at| self.0.remove(at)).is_some()
    }

    /// Forgets what has ended; whether anything had.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.until.is_none_or(|until| until > now));
        self.0.len() < before
    }

    /// Forgets what was heard on a link that is gone; whether anything was.
    pub fn forget(&mut self, link: u32) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.link != link);
        self.0.len() < before
    }

    /// When [`Self::expire`] wants to be called.
    pub fn next_end(&self) -> Option<Instant> {
        self.0.iter().filter_map(|entry| entry.until).min()
    }

    /// What a link's routers advertise.
    pub fn on(&self, link: u32) -> impl Iterator<Item = &Item> {
        self.0.iter().filter(move |entry| entry.link == link).map(|entry| &entry.item)
    }
}
