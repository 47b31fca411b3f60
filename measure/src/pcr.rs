//! A platform configuration register: a number that can only be extended.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// How many registers a TPM for PCs has (TCG PC Client Platform TPM Profile, 4.6).
pub const REGISTERS: u32 = 24;

/// What was measured, as its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Bytes of a digest.
    pub const LEN: usize = 32;

    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with these bytes.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One register, from its reset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(Digest);

impl Register {
    /// As it is after a reset: zero, for every register that a boot measures into.
    pub const RESET: Self = Self(Digest::new([0; Digest::LEN]));

    /// Register 0 where the TPM was started from another locality (TCG PC Client Platform Firmware Profile, 10.4.5.3): all
    /// zero but the last byte.
    pub const fn reset_at(locality: u8) -> Self {
        let mut bytes = [0; Digest::LEN];
        bytes[Digest::LEN - 1] = locality;
        Self(Digest::new(bytes))
    }

    /// Takes a measurement in: the SHA-256 of what it held and of `digest` (TPM 2.0 Library, part 1, 17.2).
    pub fn extend(&mut self, digest: Digest) {
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        hash.update(digest.as_bytes());
        self.0 = Digest::new(hash.finalize().into());
    }

    /// What it holds.
    pub const fn value(self) -> Digest {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extending_is_a_hash_over_what_was_there_and_order_matters() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let mut register = Register::RESET;
        register.extend(one);
        // By hand, with another tool: (head -c32 /dev/zero; printf one | sha256sum | xxd -r -p) | sha256sum
        assert_eq!(
            register.value().to_string(),
            "c7e3347570821fed43690c2125ce36b1fb0ca7787ba0f219b8e75ee0fc7b4644"
        );
        let mut other = Register::RESET;
        other.extend(two);
        other.extend(one);
        register.extend(two);
        assert_ne!(register, other);
    }

    #[test]
    fn a_locality_is_the_last_byte() {
        let bytes = *Register::reset_at(3).value().as_bytes();
        assert_eq!((bytes[31], bytes[..31].iter().all(|byte| *byte == 0)), (3, true));
        assert_eq!(Register::reset_at(0), Register::RESET);
    }
}
