//! Search domains as the network hands them out: DHCP's option 119, with the pointers of DNS (RFC 3397), its option 15,
//! and option 31 of router advertisements, without pointers (RFC 8106).
//!
//! They are written to the resolver's file, so a name is taken only if it can't end a word or a line there.

/// Most domains taken from one answer.
pub const MOST: usize = 6;
/// Longest domain, in bytes (RFC 1035).
const LONGEST: usize = 253;

/// The domains of a list in the form of DNS; one that is broken ends it.
pub fn encoded(bytes: &[u8]) -> Vec<String> {
    let mut domains = Vec::new();
    let mut at = 0;
    while at < bytes.len() && domains.len() < MOST {
        // An advertisement's list is padded with zeros.
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        let Some((domain, next)) = name(bytes, at) else { break };
        at = next;
        add(&mut domains, &domain);
    }
    domains
}

/// The domains of option 15: one, or several with spaces between them as some servers send, which may end in zeros.
pub fn plain(bytes: &[u8]) -> Vec<String> {
    let mut domains = Vec::new();
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    for word in text.split([' ', '\0']).take(MOST) {
        add(&mut domains, word);
    }
    domains
}

fn add(domains: &mut Vec<String>, domain: &str) {
    let domain = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    if is_domain(&domain) && !domains.contains(&domain) {
        domains.push(domain);
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= LONGEST && text.split('.').all(is_label)
}

/// The name at `start`, and where the next one begins. Pointers lead backwards only, so they end.
fn name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels = String::new();
    let (mut at, mut bound, mut next) = (start, start, None);
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some((labels, next.unwrap_or(at + 1))),
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length))?;
                if !labels.is_empty() {
                    labels.push('.');
                }
                labels.push_str(std::str::from_utf8(label).ok()?);
                if labels.len() > LONGEST {
                    return None;
                }
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                let to = (usize::from(length & 0x3f) << 8) | usize::from(*bytes.get(at + 1)?);
                if to >= bound {
                    return None;
                }
                next = next.or(Some(at + 2));
                (at, bound) = (to, to);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_stands_for_the_rest_of_a_name() {
        // The example of RFC 3397: eng.apple.com. and marketing.apple.com.
        let bytes = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(encoded(bytes), ["eng.apple.com", "marketing.apple.com"]);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_or_round_in_circles_ends_the_list() {
        for bytes in [&b"\xc0\x00"[..], b"\x01a\xc0\x00\x01b\x00", b"\x01a\xc0\x09", b"\x40a", b"\x05abc"] {
            assert_eq!(encoded(bytes), Vec::<String>::new(), "{bytes:?}");
        }
        assert_eq!(encoded(b"\x01a\x00\x01b\xc0\x03"), ["a"]);
    }

    #[test]
    fn a_name_that_could_end_a_line_is_none() {
        for bytes in [&b"lan\nnameserver"[..], b"lan\tx", b"-lan", b"a..b", b"*", b"\xff"] {
            assert_eq!(plain(bytes), Vec::<String>::new(), "{bytes:?}");
        }
        assert_eq!(encoded(b"\x05a\nb c\x00\x02ok\x00"), ["ok"]);
        assert_eq!(plain(b"Corp.Local.\0"), ["corp.local"]);
        assert_eq!(plain(b"one.test two.test"), ["one.test", "two.test"]);
    }
}
