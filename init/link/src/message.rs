//! Messages of rtnetlink(7) as bytes: written by [`Message`], and the kernel's verdict on them read.

use rustix::io::Errno;
use std::net::IpAddr;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const REQUEST_AND_ACK: u16 = 0x1 | 0x4;

/// The kernel's verdict in an answer: of which message, and what.
pub fn verdict(answer: &[u8]) -> Option<(u32, Result<(), Errno>)> {
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != NLMSG_ERROR {
        return None;
    }
    let code = word(16)?.cast_signed();
    let verdict = if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code.wrapping_neg())) };
    Some((word(8)?, verdict))
}

/// A message being written: a header of 16 bytes, then whatever is appended.
pub struct Message(heapless::Vec<u8, 256>);

impl Message {
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self(heapless::Vec::new());
        message
            .u32(0)
            .bytes(&kind.to_ne_bytes())
            .bytes(&(REQUEST_AND_ACK | flags).to_ne_bytes())
            .u32(0)
            .u32(0);
        message
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // The largest message, a route by IPv6 with everything, takes 124 bytes.
        let _ = self.0.extend_from_slice(bytes);
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // Each of ours is a multiple of four bytes, so no padding is needed.
        debug_assert_eq!(value.len() % 4, 0);
        let length = u16::try_from(value.len() + 4).unwrap_or(4);
        self.bytes(&length.to_ne_bytes()).bytes(&kind.to_ne_bytes()).bytes(value)
    }

    pub fn attribute_address(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    pub fn finish(mut self, sequence: u32) -> heapless::Vec<u8, 256> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_verdict_is_read() {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[8..12].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(verdict(&answer), Some((9, Ok(()))));
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Some((9, Err(Errno::PERM))));
        assert_eq!(verdict(&answer[..10]), None);
    }
}
