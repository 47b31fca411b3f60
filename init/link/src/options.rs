//! The options of a DHCP message, read as servers really write them: an option may come in parts, which are joined
//! (RFC 3396), and the fields for names may hold options too (option 52, RFC 2132 9.3).
//!
//! smoltcp's view of a message knows neither, and demands exact lengths; of lists it takes a fixed number. Here every
//! option is bytes, and who asks for a number takes as many as that needs: dhclient reads so, and servers rely on it.

use std::net::Ipv4Addr;

/// Where the options begin: behind the fixed fields and the magic number.
const OPTIONS: usize = 240;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;

/// The options of one message.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// In the order in which RFC 3396 joins them: the options, the field for the file, that for the server's name.
    areas: [&'a [u8]; 3],
}

impl<'a> Options<'a> {
    /// The options of a whole message; `None` when it has none.
    pub fn of(message: &'a [u8]) -> Option<Self> {
        let (fixed, options) = message.split_at_checked(OPTIONS)?;
        if fixed[OPTIONS - 4..] != MAGIC {
            return None;
        }
        let overload = parts(options).find(|(code, _)| *code == OVERLOAD);
        let overload = overload.and_then(|(_, value)| value.first().copied()).unwrap_or(0);
        let field = |bit: u8, field| if overload & bit != 0 { &fixed[field] } else { &[][..] };
        Some(Self { areas: [options, field(1, FILE), field(2, SNAME)] })
    }

    /// An option's bytes, joined; `None` when it isn't there.
    pub fn get(&self, code: u8) -> Option<Vec<u8>> {
        let mut values =
            self.areas.iter().flat_map(|area| parts(area)).filter(|(one, _)| *one == code).peekable();
        values.peek()?;
        Some(values.flat_map(|(_, value)| value.iter().copied()).collect())
    }

    /// The first byte of an option.
    pub fn byte(&self, code: u8) -> Option<u8> {
        self.get(code)?.first().copied()
    }

    /// The first two bytes of an option, as a number.
    pub fn u16(&self, code: u8) -> Option<u16> {
        self.get(code)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// The first four bytes of an option, as a number.
    pub fn u32(&self, code: u8) -> Option<u32> {
        self.get(code)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// The first four bytes of an option, as an address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.u32(code).map(Ipv4Addr::from_bits)
    }
}

/// The options in one area, up to its end or the first that is cut off.
fn parts(mut area: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (&code, rest) = area.split_first()?;
            match code {
                PAD => area = rest,
                END => return None,
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(length.into())?;
                    area = rest;
                    return Some((code, value));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[OPTIONS - 4..].copy_from_slice(&MAGIC);
        message.extend(options);
        message
    }

    #[test]
    fn parts_are_joined_over_all_areas_in_order() {
        let mut message = message(&[OVERLOAD, 1, 3, 3, 2, 10, 0, PAD, 3, 1, 0, END, 3, 1, 99]);
        message[FILE][..4].copy_from_slice(&[3, 1, 1, END]);
        message[SNAME][..5].copy_from_slice(&[3, 2, 7, 8, END]);
        let options = Options::of(&message).unwrap();
        assert_eq!(options.get(3).unwrap(), [10, 0, 0, 1, 7, 8]);
        assert_eq!(options.address(3), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(options.get(4), None);
    }

    #[test]
    fn names_are_no_options_unless_the_message_says_so() {
        let mut message = message(&[3, 1, 1, END]);
        message[FILE][..4].copy_from_slice(&[3, 1, 1, END]);
        message[SNAME][..4].copy_from_slice(&[3, 1, 1, END]);
        assert_eq!(Options::of(&message).unwrap().get(3).unwrap(), [1]);
    }

    #[test]
    fn a_message_that_is_cut_off_keeps_what_is_whole() {
        let whole = message(&[1, 1, 7, 3, 4, 10, 0, 0, 1]);
        assert!(Options::of(&whole[..OPTIONS - 1]).is_none());
        for length in OPTIONS + 3..whole.len() {
            let options = Options::of(&whole[..length]).unwrap();
            assert_eq!((options.byte(1), options.get(3)), (Some(7), None));
        }
    }
}
