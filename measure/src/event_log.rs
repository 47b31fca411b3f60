//! The firmware's event log: what it says was measured, record for record.
//!
//! TCG PC Client Platform Firmware Profile 1.06, section 10: one record in the old form that names the hashes, then records
//! with a digest for each of them. The kernel hands it out as `binary_bios_measurements`, little-endian and packed.
//!
//! **Reads** a log that another machine sent, and believes no length in it: every read is checked against what is left, and
//! the number of records is bounded. Records are borrowed, not copied.
//!
//! **Refuses** a log without SHA-256, with an unknown hash, or with a record that is cut off: what follows can't be found
//! then, and a verifier that goes on would compare half a log.

use crate::pcr::{Digest, REGISTERS};

/// Most bytes of a log. The kernel's own buffer for OVMF is 64 KiB; clouds with many boot options write somewhat more.
pub const MOST_BYTES: usize = 1024 * 1024;
/// Most records of a log. A boot writes about a hundred.
pub const MOST_EVENTS: usize = 4096;
/// Most hashes that a TPM has banks for.
const MOST_ALGORITHMS: u32 = 16;
/// What the first record begins with.
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// `TPM_ALG_SHA256` (TCG Algorithm Registry).
const SHA256: u16 = 0x000b;

/// `EV_NO_ACTION`: in the log, and in no register.
pub const NO_ACTION: u32 = 0x0000_0003;

/// A log can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// There is more of it than a boot writes.
    #[error(
        "the event log has {0} bytes, more than {MOST_BYTES}: no boot writes so much; read it from the node again"
    )]
    Long(usize),
    /// It ends within something.
    #[error("the event log ends within {what}, at byte {at}: it was cut off; read it from the node again")]
    Short {
        /// Where the part begins that isn't whole.
        at: usize,
        /// Which part.
        what: &'static str,
    },
    /// The first record isn't the one that names the hashes.
    #[error(
        "the event log doesn't begin with a Spec ID event: it is of a TPM 1.2, or no log; this node can't be verified by it"
    )]
    NoHeader,
    /// A length that doesn't fit.
    #[error("the event log's header names {0} hashes: it is damaged, or no log")]
    Algorithms(u32),
    /// SHA-256 isn't there.
    #[error("the event log has no SHA-256 digests: switch the firmware's SHA-256 bank on")]
    NoSha256,
    /// A record with a digest of a hash that the header doesn't name.
    #[error("the record at byte {at} has a digest of hash {algorithm:#06x}, which the header doesn't name")]
    UnknownAlgorithm {
        /// Where the record begins.
        at: usize,
        /// The hash.
        algorithm: u16,
    },
    /// A record with no SHA-256 digest, or with two.
    #[error("the record at byte {at} has {count} SHA-256 digests, not one")]
    Digests {
        /// Where the record begins.
        at: usize,
        /// How many.
        count: u32,
    },
    /// A register that a TPM doesn't have.
    #[error("the record at byte {at} is about register {register}, which no TPM has")]
    Register {
        /// Where the record begins.
        at: usize,
        /// The register.
        register: u32,
    },
    /// More records than a boot writes.
    #[error("the event log has more than {MOST_EVENTS} records: no boot writes so many")]
    Many,
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where it begins in the log, in bytes.
    pub at: usize,
    /// The register that it says was extended.
    pub register: u32,
    /// What it says it is (`EV_...`). It stands in no digest, so it decides nothing.
    pub kind: u32,
    /// What the register was extended with.
    pub digest: Digest,
    /// What it says was measured, for some kinds the very bytes.
    pub data: &'a [u8],
}

/// A log whose header was read; gives its records.
#[derive(Debug, Clone)]
pub struct EventLog<'a> {
    rest: Reader<'a>,
    algorithms: Algorithms,
    events: usize,
    failed: bool,
}

/// The hashes and how long a digest of each is, as the header names them.
#[derive(Debug, Clone, Copy)]
struct Algorithms {
    list: [(u16, u16); MOST_ALGORITHMS as usize],
    count: usize,
}

impl Algorithms {
    fn length(&self, algorithm: u16) -> Option<usize> {
        let known = &self.list[..self.count];
        known.iter().find(|(id, _)| *id == algorithm).map(|(_, length)| usize::from(*length))
    }
}

impl<'a> EventLog<'a> {
    /// Reads the header.
    pub fn open(bytes: &'a [u8]) -> Result<Self, LogError> {
        if bytes.len() > MOST_BYTES {
            return Err(LogError::Long(bytes.len()));
        }
        let mut reader = Reader { bytes, at: 0 };
        // The first record's form is TPM 1.2's: register, kind, a SHA-1 digest, length, data.
        let header =
            |error| if matches!(error, LogError::Short { at: 0, .. }) { LogError::NoHeader } else { error };
        let register = reader.u32("the header").map_err(header)?;
        let kind = reader.u32("the header")?;
        reader.take(20, "the header")?;
        let length = reader.length("the header")?;
        let data = reader.take(length, "the header")?;
        if (register, kind) != (0, NO_ACTION) || !data.starts_with(SIGNATURE) {
            return Err(LogError::NoHeader);
        }
        let algorithms = algorithms(data)?;
        Ok(Self { rest: reader, algorithms, events: 0, failed: false })
    }

    fn event(&mut self) -> Result<Event<'a>, LogError> {
        self.events += 1;
        if self.events > MOST_EVENTS {
            return Err(LogError::Many);
        }
        let at = self.rest.at;
        let register = self.rest.u32("a record")?;
        let kind = self.rest.u32("a record")?;
        // Not only for tidiness: a verifier keeps an array of registers.
        if register >= REGISTERS && !(kind == NO_ACTION && register == u32::MAX) {
            return Err(LogError::Register { at, register });
        }
        let count = self.rest.u32("a record's digests")?;
        if count > MOST_ALGORITHMS {
            return Err(LogError::Algorithms(count));
        }
        let (mut digest, mut found) = (None, 0);
        for _ in 0..count {
            let algorithm = self.rest.u16("a record's digests")?;
            let length = self.algorithms.length(algorithm);
            let length = length.ok_or(LogError::UnknownAlgorithm { at, algorithm })?;
            let bytes = self.rest.take(length, "a digest")?;
            if algorithm == SHA256 {
                found += 1;
                digest = bytes.try_into().ok().map(Digest::new);
            }
        }
        let digest = digest.filter(|_| found == 1).ok_or(LogError::Digests { at, count: found })?;
        let length = self.rest.length("a record's data")?;
        let data = self.rest.take(length, "a record's data")?;
        Ok(Event { at, register, kind, digest, data })
    }
}

impl<'a> Iterator for EventLog<'a> {
    type Item = Result<Event<'a>, LogError>;

    /// The next record; after an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let event = self.event();
        self.failed = event.is_err();
        Some(event)
    }
}

/// The hashes of `TCG_EfiSpecIDEvent`: signature, platform class, three bytes of version, size of a word, then the hashes.
fn algorithms(data: &[u8]) -> Result<Algorithms, LogError> {
    let mut reader = Reader { bytes: data, at: 0 };
    reader.take(SIGNATURE.len() + 4 + 4, "the header")?;
    let named = reader.u32("the header's hashes")?;
    if named == 0 || named > MOST_ALGORITHMS {
        return Err(LogError::Algorithms(named));
    }
    let mut known = Algorithms { list: [(0, 0); MOST_ALGORITHMS as usize], count: 0 };
    for slot in known.list.iter_mut().take(named as usize) {
        *slot = (reader.u16("the header's hashes")?, reader.u16("the header's hashes")?);
        known.count += 1;
    }
    if known.length(SHA256) == Some(Digest::LEN) { Ok(known) } else { Err(LogError::NoSha256) }
}

/// Bytes, and how far they were read.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], LogError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(LogError::Short { at: self.at, what })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LogError> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| LogError::Short { at, what })
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, LogError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, LogError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A length, which may be any number: what it is the length of is taken, or not, afterwards.
    fn length(&mut self, what: &'static str) -> Result<usize, LogError> {
        Ok(usize::try_from(self.u32(what)?).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `TPM_ALG_SHA1` and the length of its digests.
    const SHA1: (u16, u16) = (0x0004, 20);

    /// A log, put together.
    pub(crate) struct Made(pub(crate) Vec<u8>);

    impl Made {
        pub(crate) fn new() -> Self {
            Self::with(&[SHA1, (SHA256, 32)])
        }

        fn with(algorithms: &[(u16, u16)]) -> Self {
            let mut data = SIGNATURE.to_vec();
            data.extend([0, 0, 0, 0, 0, 2, 106, 2]);
            data.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
            for (id, length) in algorithms {
                data.extend(id.to_le_bytes());
                data.extend(length.to_le_bytes());
            }
            data.push(0);
            let mut bytes = Vec::new();
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(NO_ACTION.to_le_bytes());
            bytes.extend([0; 20]);
            bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            bytes.extend(data);
            Self(bytes)
        }

        pub(crate) fn event(mut self, register: u32, kind: u32, digest: Digest, data: &[u8]) -> Self {
            self.0.extend(register.to_le_bytes());
            self.0.extend(kind.to_le_bytes());
            self.0.extend(2_u32.to_le_bytes());
            self.0.extend(SHA1.0.to_le_bytes());
            self.0.extend([7; 20]);
            self.0.extend(SHA256.to_le_bytes());
            self.0.extend(digest.as_bytes());
            self.0.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            self.0.extend(data);
            self
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<Event<'_>>, LogError> {
        EventLog::open(bytes)?.collect()
    }

    #[test]
    fn records_are_read_with_their_sha256_whatever_other_banks_there_are() {
        let log = Made::new().event(4, 0x8000_0003, Digest::of(b"one"), b"data").event(
            11,
            13,
            Digest::of(b"two"),
            &[],
        );
        let events = read(&log.0).unwrap();
        assert_eq!(events.len(), 2);
        let seen = (events[0].register, events[0].kind, events[0].digest, events[0].data);
        assert_eq!(seen, (4, 0x8000_0003, Digest::of(b"one"), &b"data"[..]));
        assert_eq!(events[1].digest, Digest::of(b"two"));
        assert_eq!(read(&Made::new().0).unwrap(), []);
    }

    #[test]
    fn a_log_that_is_cut_anywhere_is_refused_or_is_the_records_before() {
        let one = Made::new().event(4, 13, Digest::of(b"one"), b"data").0;
        let (header, whole) = (Made::new().0.len(), one.len());
        for end in 0..whole {
            match read(&one[..end]) {
                Ok(events) => assert_eq!((end, events.len()), (header, 0)),
                Err(LogError::Short { .. } | LogError::NoHeader) => assert_ne!(end, header),
                Err(other) => panic!("{end}: {other}"),
            }
        }
    }

    #[test]
    fn what_is_no_log_of_a_tpm_2_is_called_so() {
        assert_eq!(read(b"").unwrap_err(), LogError::NoHeader);
        let mut other = Made::new().0;
        other[32] ^= 1;
        assert_eq!(read(&other).unwrap_err(), LogError::NoHeader);
        assert_eq!(read(&Made::with(&[SHA1]).0).unwrap_err(), LogError::NoSha256);
        // SHA-256 under a wrong length isn't SHA-256.
        assert_eq!(read(&Made::with(&[(SHA256, 20)]).0).unwrap_err(), LogError::NoSha256);
        assert_eq!(read(&Made::with(&[]).0).unwrap_err(), LogError::Algorithms(0));
        assert_eq!(read(&vec![0; MOST_BYTES + 1]).unwrap_err(), LogError::Long(MOST_BYTES + 1));
    }

    #[test]
    fn a_record_without_its_one_digest_or_of_no_register_is_refused_and_nothing_follows() {
        let at = Made::new().0.len();
        let good = |register| Made::new().event(register, 13, Digest::of(b"one"), b"");
        assert_eq!(read(&good(24).0).unwrap_err(), LogError::Register { at, register: 24 });
        assert!(read(&good(23).0).is_ok(), "the twin");
        // The second digest's hash, after register, kind, count and the first digest.
        let place = at + 12 + 2 + 20;
        let mut unknown = good(4).0;
        unknown[place..place + 2].copy_from_slice(&0x77_u16.to_le_bytes());
        assert_eq!(read(&unknown).unwrap_err(), LogError::UnknownAlgorithm { at, algorithm: 0x77 });
        let mut none = good(4).0;
        none[at + 8] = 1;
        let mut log = EventLog::open(&none).unwrap();
        assert_eq!(log.next(), Some(Err(LogError::Digests { at, count: 0 })));
        assert_eq!(log.next(), None);
    }

    #[test]
    fn records_are_counted() {
        let mut log = Made::new();
        for _ in 0..MOST_EVENTS {
            log = log.event(0, 13, Digest::of(b""), b"");
        }
        assert_eq!(read(&log.0).unwrap().len(), MOST_EVENTS);
        assert_eq!(read(&log.event(0, 13, Digest::of(b""), b"").0).unwrap_err(), LogError::Many);
    }
}
