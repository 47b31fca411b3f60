//! PEM (RFC 7468, strict form): what certificates and keys are written in.
//!
//! Only the envelope is checked here: labels, base64, and that the bytes are exactly one DER SEQUENCE. What the
//! certificate says is verified by rustls where it is used; an X.509 parser doesn't belong in a config reader.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";

/// Label of a PKCS#8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";

/// Label of a public key (RFC 7468, section 13).
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Why text is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// no block
    #[error("no `-----BEGIN {label}-----` block")]
    FindBlock {
        /// The label that was asked for.
        label: &'static str,
    },
    /// a block of another kind
    #[error("a block that is not `-----BEGIN {label}-----`")]
    MatchLabel {
        /// The label that was asked for.
        label: &'static str,
    },
    /// a block that doesn't end
    #[error("block {block} without its `-----END-----` line")]
    FindEnd {
        /// Number of the block, from 1.
        block: usize,
    },
    /// broken base64
    #[error("block {block} whose base64 is broken")]
    DecodeBase64 {
        /// Number of the block, from 1.
        block: usize,
    },
    /// not DER
    #[error("block {block} that is cut short or is not DER")]
    CheckDer {
        /// Number of the block, from 1.
        block: usize,
    },
}

/// Decodes all blocks of `text`, which must all have `label`; between them only blank lines may stand.
pub fn decode(text: &str, label: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if line != begin {
            let other = line.starts_with("-----BEGIN ");
            return Err(if other { PemError::MatchLabel { label } } else { PemError::FindBlock { label } });
        }
        let block = blocks.len() + 1;
        let mut body = String::new();
        loop {
            match lines.next() {
                None => return Err(PemError::FindEnd { block }),
                Some(line) if line == end => break,
                Some(line) => body.push_str(line),
            }
        }
        let der = STANDARD.decode(&body).map_err(|_| PemError::DecodeBase64 { block })?;
        if !is_one_sequence(&der) {
            return Err(PemError::CheckDer { block });
        }
        blocks.push(der);
    }
    if blocks.is_empty() { Err(PemError::FindBlock { label }) } else { Ok(blocks) }
}

/// Whether `der` is one SEQUENCE whose length, in its shortest form, is all that follows (X.690, 8.1.3 and 10.1).
fn is_one_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, length @ 0..=0x7f, rest @ ..] | [0x30, 0x81, length @ 0x80..=0xff, rest @ ..] => {
            rest.len() == usize::from(*length)
        }
        [0x30, 0x82, high @ 1..=0xff, low, rest @ ..] => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        [0x30, 0x83, a @ 1..=0xff, b, c, rest @ ..] => {
            rest.len() == u32::from_be_bytes([0, *a, *b, *c]) as usize
        }
        _ => false,
    }
}
