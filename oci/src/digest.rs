//! A digest as a registry writes it: `sha256:` and 64 lower-case hex digits.
//!
//! SHA-256 is the only algorithm taken. The OCI specification allows others, but what is signed must mean one thing,
//! and cosign's tag for a signature is made of this form.

use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// SHA-256 of a manifest or a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_ring(digest(&SHA256, bytes))
    }

    /// Of a file, and its length in bytes.
    pub fn of_file(file: &mut File) -> io::Result<(Self, u64)> {
        Self::of_reader(file)
    }

    /// Of all that a reader gives, and its length in bytes.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut context = Context::new(&SHA256);
        let length = hash_into(&mut context, reader)?;
        Ok((Self::finish(context), length))
    }

    /// Of all that a context was given.
    pub(crate) fn finish(context: Context) -> Self {
        Self::from_ring(context.finish())
    }

    fn from_ring(value: ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        // The same length: SHA-256.
        bytes.copy_from_slice(value.as_ref());
        Self(bytes)
    }

    /// Reads `sha256:` and 64 lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?.as_bytes();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The 64 hex digits alone.
    pub fn hex(&self) -> String {
        self.to_string()["sha256:".len()..].to_owned()
    }

    /// The tag under which cosign keeps the signatures of a manifest with this digest, in the same repository.
    pub fn signature_tag(&self) -> String {
        format!("sha256-{}.sig", self.hex())
    }

    /// The tag under which clients keep the list of what refers to this digest, where a registry keeps none (distribution
    /// specification, "Referrers tag schema").
    pub fn referrers_tag(&self) -> String {
        format!("sha256-{}", self.hex())
    }
}

/// Feeds a reader's rest to a context, and returns its length.
pub(crate) fn hash_into(context: &mut Context, file: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            read => {
                context.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a digest is sha256: and 64 lower-case hex digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY), Some(Digest::of(b"")));
        assert_eq!(format!("sha256:{}", Digest::of(b"").hex()), EMPTY);
    }

    #[test]
    fn another_algorithm_length_or_spelling_is_refused() {
        let hex = &EMPTY["sha256:".len()..];
        let wrong = [
            String::new(),
            hex.to_owned(),
            format!("sha512:{hex}"),
            format!("sha256:{hex}0"),
            EMPTY[..EMPTY.len() - 1].to_owned(),
            EMPTY.to_uppercase(),
            EMPTY.replace('e', "E"),
            EMPTY.replace('e', "g"),
            format!("sha256:{}", "é".repeat(32)),
        ];
        for text in wrong {
            assert_eq!(Digest::parse(&text), None, "{text}");
        }
    }
}
