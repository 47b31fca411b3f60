//! What the kernel says of its own accord: that links changed, that there is an IPv6 address, and what routers advertise
//! besides addresses (rtnetlink(7)).

use crate::advertised::{Advertisement, advertisement};
use crate::netlink;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

// linux/rtnetlink.h, linux/if_addr.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNDUSEROPT: u16 = 68;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_TENTATIVE: u8 = 0x40;
const AF_INET6: u8 = 10;
/// `RTNLGRP_LINK` (1), `RTNLGRP_IPV6_IFADDR` (9) and `RTNLGRP_ND_USEROPT` (20) as bits.
const GROUPS: u32 = 0x1 | 0x100 | 0x8_0000;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Links came, went or changed: what is there is to be looked at again.
    Links,
    /// A link has an IPv6 address that others can reach, and that nobody else has.
    Address {
        /// Index of the link.
        link: u32,
    },
    /// A router advertised something.
    Advertised(Advertisement),
}

/// The socket they come from.
#[derive(Debug)]
pub struct Notifications(OwnedFd);

impl Notifications {
    /// Listens.
    pub fn open() -> Result<Self, Errno> {
        netlink::open(GROUPS, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(Self)
    }

    /// The next one that means something, if one waits.
    pub fn next(&self) -> Option<Notification> {
        let mut bytes = [0; 8192];
        loop {
            match rustix::net::recv(&self.0, &mut bytes, RecvFlags::empty()) {
                Ok((_, length)) => {
                    if let Some(notification) = notification(&bytes[..length]) {
                        return Some(notification);
                    }
                }
                // The kernel had more to say than there was room for: what was lost may have been a link.
                Err(Errno::NOBUFS) => return Some(Notification::Links),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a message of the kernel says.
pub fn notification(message: &[u8]) -> Option<Notification> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let body = message.get(16..)?;
    match kind {
        RTM_NEWLINK | RTM_DELLINK => Some(Notification::Links),
        RTM_NEWADDR => {
            // struct ifaddrmsg: family, prefixlen, flags, scope, index
            let &[AF_INET6, _, flags, RT_SCOPE_UNIVERSE, a, b, c, d] = body.first_chunk::<8>()? else {
                return None;
            };
            let usable = flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE) == 0;
            usable.then_some(Notification::Address { link: u32::from_ne_bytes([a, b, c, d]) })
        }
        RTM_NEWNDUSEROPT => advertisement(body).map(Notification::Advertised),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 16];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn an_ipv6_address_counts_once_it_is_reachable_and_nobody_elses() {
        let address = |flags, scope| {
            let mut body = vec![AF_INET6, 64, flags, scope];
            body.extend(3_u32.to_ne_bytes());
            notification(&message(RTM_NEWADDR, &body))
        };
        assert_eq!(address(0, 0), Some(Notification::Address { link: 3 }));
        assert_eq!(address(IFA_F_TENTATIVE, 0), None);
        assert_eq!(address(IFA_F_DADFAILED, 0), None);
        // RT_SCOPE_LINK: fe80::/10.
        assert_eq!(address(0, 253), None);
    }

    #[test]
    fn a_link_that_comes_or_goes_is_said_and_what_is_cut_off_is_nothing() {
        for kind in [RTM_NEWLINK, RTM_DELLINK] {
            assert_eq!(notification(&message(kind, &[0; 16])), Some(Notification::Links));
        }
        assert_eq!(notification(&message(RTM_NEWADDR, &[AF_INET6, 64, 0, 0])), None);
        assert_eq!(notification(&[0; 5]), None);
    }
}
