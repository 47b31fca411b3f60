//! The salt: up to 256 bytes hashed before each block, so that one precomputed table of blocks doesn't serve for
//! every image. It is no secret. An empty salt is allowed and written `-`, as `veritysetup` and the kernel do.

use core::{fmt, str::FromStr};

use crate::hex;

/// A salt of at most [`Salt::MAX`] bytes, kept inline: PID 1 does not allocate for it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Salt(heapless::Vec<u8, { Salt::MAX }>);

impl Salt {
    /// The room that the superblock has.
    pub const MAX: usize = 256;

    /// A salt of these bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, SaltError> {
        heapless::Vec::from_slice(bytes).map(Self).map_err(|_| SaltError::TooLong)
    }

    /// How many bytes it has, as the superblock says it.
    pub(crate) fn size(&self) -> u16 {
        u16::try_from(self.0.len()).expect("a salt has at most 256 bytes")
    }

    /// Its bytes; none for an empty salt.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { hex::Hex(&self.0).fmt(f) }
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({self})")
    }
}

impl FromStr for Salt {
    type Err = SaltError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::default());
        }
        let mut bytes = heapless::Vec::new();
        bytes.resize(text.len() / 2, 0).map_err(|_| SaltError::TooLong)?;
        if bytes.is_empty() {
            return Err(SaltError::NotHex);
        }
        hex::decode(text, &mut bytes).ok_or(SaltError::NotHex)?;
        Ok(Self(bytes))
    }
}

/// Bytes or text that can't be a salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaltError {
    /// Longer than the superblock's field.
    #[error("salt refused: longer than {max} bytes; give a shorter one", max = Salt::MAX)]
    TooLong,
    /// Neither `-` nor an even number of hexadecimal digits.
    #[error("salt refused: expected pairs of hexadecimal digits, or - for none")]
    NotHex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_survives_the_way_through_text() {
        for bytes in [&[][..], &[0], &[0xaa, 0xbb], &[7; Salt::MAX]] {
            let salt = Salt::new(bytes).unwrap();
            assert_eq!(salt.to_string().parse::<Salt>().unwrap(), salt);
        }
    }

    #[test]
    fn text_that_is_no_salt_is_refused() {
        assert_eq!("".parse::<Salt>(), Err(SaltError::NotHex));
        assert_eq!("a".parse::<Salt>(), Err(SaltError::NotHex));
        assert_eq!("abc".parse::<Salt>(), Err(SaltError::NotHex));
        assert_eq!("zz".parse::<Salt>(), Err(SaltError::NotHex));
        assert_eq!("00".repeat(Salt::MAX + 1).parse::<Salt>(), Err(SaltError::TooLong));
        assert_eq!(Salt::new(&[0; Salt::MAX + 1]), Err(SaltError::TooLong));
    }
}
