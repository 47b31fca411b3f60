//! PEM (RFC 7468): what certificates and keys are written in.
//!
//! Text before, between and after the blocks is ignored, as the RFC has it: `openssl pkcs12` writes "Bag Attributes" there,
//! `openssl x509 -text` the whole certificate. Not ignored is a line that was meant to begin or end a block and doesn't,
//! since a certificate would then go missing without a word. Inside the blocks reading is strict.
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
    /// a line that is nearly the beginning or the end of one
    #[error("a line with BEGIN or END that neither begins nor ends a block: check its dashes")]
    ReadBoundary,
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

/// Decodes all blocks of `text`, which must all have `label`. What stands around them is ignored.
pub fn decode(text: &str, label: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if line != begin {
            if line.starts_with("-----BEGIN ") && line.ends_with("-----") {
                return Err(PemError::MatchLabel { label });
            }
            if is_nearly_boundary(line) {
                return Err(PemError::ReadBoundary);
            }
            continue;
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

/// Whether a line outside of blocks was meant to begin or to end one. A line of dashes alone, or a sentence, was not.
fn is_nearly_boundary(line: &str) -> bool {
    let inner = line.trim_start_matches(|character: char| character == '-' || character.is_whitespace());
    let begins =
        |word: &str| inner.get(..word.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(word));
    (line.starts_with('-') || line.ends_with('-')) && (begins("BEGIN ") || begins("END "))
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

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn text_around_the_blocks_is_ignored() {
        let bags =
            "Bag Attributes\n    localKeyID: 01 02\n    friendlyName: node \u{e9}\nsubject=CN = node\n";
        let shown = "---\nCertificate chain\n 0 s:CN = node\n   i:CN = ca\nThe END - of a sentence\n";
        for (text, count) in [
            (format!("{bags}{BLOCK}"), 1),
            (format!("{bags}{BLOCK}{bags}{BLOCK}{bags}"), 2),
            (format!("{shown}{BLOCK}---\n{shown}"), 1),
            (format!("# a comment\n\n{BLOCK}\n# another\n"), 1),
            (BLOCK.replace('\n', "\r\n"), 1),
        ] {
            assert_eq!(decode(&text, CERTIFICATE).map(|blocks| blocks.len()), Ok(count), "{text}");
        }
    }

    #[test]
    fn a_block_whose_boundary_is_misspelt_is_not_taken_for_text() {
        for wrong in [
            "----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "-----Begin certificate-----\nMAA=\n",
            "-----BEGIN CERTIFICATE\nMAA=\n",
            "- ----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
        ] {
            for text in [format!("{BLOCK}{wrong}"), format!("{wrong}{BLOCK}")] {
                assert_eq!(decode(&text, CERTIFICATE), Err(PemError::ReadBoundary), "{text}");
            }
        }
        let other = BLOCK.replace("CERTIFICATE", "PRIVATE KEY");
        let mixed = format!("{BLOCK}text\n{other}");
        assert_eq!(decode(&mixed, CERTIFICATE), Err(PemError::MatchLabel { label: CERTIFICATE }));
        assert_eq!(decode("Bag Attributes\n", CERTIFICATE), Err(PemError::FindBlock { label: CERTIFICATE }));
    }
}
