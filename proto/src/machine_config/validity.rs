//! When a certificate begins to be valid: the one thing that the node asks of it before TLS does, because a clock that is
//! behind that moment is wrong, and would lock every operator out.
//!
//! A pure function over DER, down one path: Certificate, its first field, that one's validity, its first time (RFC 5280,
//! sections 4.1 and 4.1.2.5; X.690). It judges nothing: what else the certificate says, and whether it is one, is for
//! rustls. The kept parsers of X.509 read all of it, for a hundred times the code.

use super::pem;

/// Begin of validity of the first certificate in PEM text, in seconds since 1970. `None` when it can't be found.
pub fn not_before(text: &str) -> Option<u64> {
    let blocks = pem::decode(text, pem::CERTIFICATE).ok()?;
    not_before_der(blocks.first()?)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// `[0]`, constructed: the version, which may be left out.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The same of a certificate in DER.
pub fn not_before_der(der: &[u8]) -> Option<u64> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (body, _) = expect(SEQUENCE, certificate)?;
    let rest = expect(VERSION, body).map_or(body, |(_, rest)| rest);
    let (_, rest) = expect(INTEGER, rest)?; // The serial number.
    let (_, rest) = expect(SEQUENCE, rest)?; // The algorithm.
    let (_, rest) = expect(SEQUENCE, rest)?; // The issuer.
    let (validity, _) = expect(SEQUENCE, rest)?;
    match element(validity)? {
        (UTC_TIME, text, _) => {
            let (year, rest) = number(text, 2)?;
            // Two digits: 1950 to 2049.
            seconds(year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        (GENERALIZED_TIME, text, _) => number(text, 4).and_then(|(year, rest)| seconds(year, rest)),
        _ => None,
    }
}

/// The content of the first element, if it has this tag, and what follows.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The first element: its tag, its content, what follows. Tags of one byte and lengths of at most three.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `MMDDHHMMSSZ` of a year. Before 1970 it is 0.
fn seconds(year: u64, text: &[u8]) -> Option<u64> {
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !valid || second > 60 || text != b"Z" {
        return None;
    }
    // Days of a civil date as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(days.checked_sub(719_468).map_or(0, |days| days * 86_400 + hour * 3600 + minute * 60 + second))
}

/// A number of so many digits, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let plain = number.iter().all(u8::is_ascii_digit);
    plain
        .then(|| number.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
        .map(|sum| (sum, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date::utc;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut der = match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => vec![tag, short],
            Ok(long) => vec![tag, 0x81, long],
            Err(_) => {
                vec![tag, 0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]
            }
        };
        der.extend_from_slice(content);
        der
    }

    /// The beginning of a certificate with this time in it, as RFC 5280 lays it out.
    fn certificate(tag: u8, time: &[u8], version: bool) -> Vec<u8> {
        let mut body = if version { wrap(VERSION, &wrap(INTEGER, &[2])) } else { Vec::new() };
        body.extend(wrap(INTEGER, &[0x55; 20]));
        body.extend(wrap(SEQUENCE, &[0x06, 1, 1]));
        body.extend(wrap(SEQUENCE, &[0x31; 150]));
        let both = [wrap(tag, time), wrap(UTC_TIME, b"361122101112Z")].concat();
        body.extend(wrap(SEQUENCE, &both));
        body.extend(wrap(SEQUENCE, &[0; 300]));
        wrap(SEQUENCE, &[wrap(SEQUENCE, &body), wrap(SEQUENCE, &[]), vec![0x03, 1, 0]].concat())
    }

    #[test]
    fn the_begin_of_validity_is_found_in_both_forms_of_time() {
        for (tag, time, date) in [
            (UTC_TIME, &b"261124075900Z"[..], "2026-11-24 07:59"),
            (UTC_TIME, b"700101000000Z", "1970-01-01 00:00"),
            (UTC_TIME, b"500101000000Z", "1970-01-01 00:00"),
            (GENERALIZED_TIME, b"20000229235959Z", "2000-02-29 23:59"),
            (GENERALIZED_TIME, b"20991231235959Z", "2099-12-31 23:59"),
        ] {
            for version in [true, false] {
                let found = not_before_der(&certificate(tag, time, version)).unwrap();
                assert_eq!(utc(found), date);
            }
        }
        assert_eq!(not_before_der(&certificate(UTC_TIME, b"261124075900Z", true)), Some(1_795_507_140));
    }

    #[test]
    fn what_is_no_certificate_has_no_begin_and_does_no_harm() {
        let whole = certificate(GENERALIZED_TIME, b"20261124075900Z", true);
        for length in 0..whole.len() {
            assert_eq!(not_before_der(&whole[..length]), None);
        }
        for at in 0..40 {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = not_before_der(&broken);
            }
        }
        for time in [&b"20261124075900"[..], b"20261324075900Z", b"2026112407590Z", b"0000010100000Z", b""] {
            assert_eq!(not_before_der(&certificate(GENERALIZED_TIME, time, true)), None);
        }
        assert_eq!(not_before("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), None);
    }
}
