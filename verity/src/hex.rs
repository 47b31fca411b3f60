//! Hexadecimal text, strict: what the kernel's `hex2bin` takes and nothing more (no prefix, no blanks, no odd digit).
//!
//! Written here because it is 30 lines, must not allocate, and both callers want their own error.

use core::fmt;

/// Shows bytes as lower-case digits, two for each byte.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Fills `out` from exactly twice as many digits, of either case. `None` if the length or any digit is wrong.
pub(crate) fn decode(text: &str, out: &mut [u8]) -> Option<()> {
    let text = text.as_bytes();
    if text.len() != out.len().checked_mul(2)? {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}
