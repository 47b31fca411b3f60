//! The machine-config in the firmware's tables: SMBIOS type 11, "OEM Strings".
//!
//! A hypervisor can put strings there that only the guest's root reads; systemd calls them credentials, and this
//! OS uses the same names so that what launches a systemd guest launches this one. Source: DMTF DSP0134, 6.1.3
//! (strings) and 7.12 (type 11); systemd.system-credentials(7).
//!
//! The bytes come from the machine's owner, but through firmware that may cut or pad them: everything is checked.

use super::MAX_DOCUMENT;
use base64::{Engine, engine::general_purpose::STANDARD};

/// Structure type of OEM strings.
const OEM_STRINGS: u8 = 11;

/// The credential as plain text.
pub const PLAIN: &str = "io.systemd.credential:astromesh.machine_config=";

/// The credential in base64.
pub const BINARY: &str = "io.systemd.credential.binary:astromesh.machine_config=";

/// Why a structure can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SmbiosError {
    /// not type 11
    #[error("the SMBIOS structure is not of type 11")]
    CheckType,
    /// cut short
    #[error(
        "the SMBIOS structure is cut short; the firmware's table is broken, deliver the machine-config on a drive"
    )]
    ReadStrings,
    /// another number of strings than announced
    #[error("the SMBIOS structure announces {announced} strings and holds {found}")]
    CountStrings {
        /// What its header says.
        announced: u8,
        /// What there are.
        found: usize,
    },
    /// the credential is there twice
    #[error("the machine-config is there twice in the SMBIOS strings; give it once")]
    ChooseCredential,
    /// broken base64
    #[error("the machine-config in the SMBIOS strings is not base64 (standard alphabet, padded, one line)")]
    DecodeBase64,
    /// too large
    #[error(
        "the machine-config in the SMBIOS strings is over 1 MiB; deliver it on a drive labelled ASTROMESH"
    )]
    CheckSize,
}

/// Finds the machine-config in one raw type 11 structure, as `/sys/firmware/dmi/entries/11-*/raw` gives it: header,
/// strings, two NUL. `None` when none of its strings is one.
pub fn credential(entry: &[u8]) -> Result<Option<Vec<u8>>, SmbiosError> {
    let [OEM_STRINGS, length, _, _, announced, ..] = *entry else {
        return Err(if entry.first() == Some(&OEM_STRINGS) {
            SmbiosError::ReadStrings
        } else {
            SmbiosError::CheckType
        });
    };
    if length < 5 {
        return Err(SmbiosError::ReadStrings);
    }
    let mut rest = entry.get(usize::from(length)..).ok_or(SmbiosError::ReadStrings)?;
    let mut found = None;
    let mut count = 0;
    loop {
        let end = rest.iter().position(|byte| *byte == 0).ok_or(SmbiosError::ReadStrings)?;
        let (string, after) = (&rest[..end], &rest[end + 1..]);
        if string.is_empty() {
            // The second NUL; a structure without strings has two of them and nothing before.
            if count == 0 && after.first() != Some(&0) {
                return Err(SmbiosError::ReadStrings);
            }
            break;
        }
        count += 1;
        if let Some(value) = value(string)?
            && found.replace(value).is_some()
        {
            return Err(SmbiosError::ChooseCredential);
        }
        rest = after;
    }
    if count != usize::from(announced) {
        return Err(SmbiosError::CountStrings { announced, found: count });
    }
    Ok(found)
}

/// The credential's value if `string` is it.
fn value(string: &[u8]) -> Result<Option<Vec<u8>>, SmbiosError> {
    let bytes = if let Some(encoded) = string.strip_prefix(BINARY.as_bytes()) {
        if encoded.len() > MAX_DOCUMENT.div_ceil(3) * 4 {
            return Err(SmbiosError::CheckSize);
        }
        STANDARD.decode(encoded).map_err(|_| SmbiosError::DecodeBase64)?
    } else if let Some(plain) = string.strip_prefix(PLAIN.as_bytes()) {
        plain.to_vec()
    } else {
        return Ok(None);
    };
    if bytes.len() > MAX_DOCUMENT { Err(SmbiosError::CheckSize) } else { Ok(Some(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(strings: &[&[u8]]) -> Vec<u8> {
        let mut raw = vec![11, 5, 0, 0, u8::try_from(strings.len()).unwrap()];
        for string in strings {
            raw.extend_from_slice(string);
            raw.push(0);
        }
        if strings.is_empty() {
            raw.push(0);
        }
        raw.push(0);
        raw
    }

    fn binary(value: &[u8]) -> Vec<u8> {
        [BINARY.as_bytes(), STANDARD.encode(value).as_bytes()].concat()
    }

    #[test]
    fn the_credential_is_found_among_other_strings_in_both_encodings() {
        let plain = [PLAIN.as_bytes(), b"kind: x"].concat();
        for string in [plain, binary(b"kind: x")] {
            let raw = entry(&[b"vendor=x", &string, b"io.systemd.credential:other=y"]);
            assert_eq!(credential(&raw), Ok(Some(b"kind: x".to_vec())));
        }
    }

    #[test]
    fn a_structure_without_the_credential_is_none_and_not_an_error() {
        assert_eq!(credential(&entry(&[])), Ok(None));
        assert_eq!(credential(&entry(&[b"vendor=x"])), Ok(None));
    }

    #[test]
    fn a_credential_that_is_there_twice_is_an_error() {
        assert_eq!(credential(&entry(&[&binary(b"a"), &binary(b"b")])), Err(SmbiosError::ChooseCredential));
    }

    #[test]
    fn base64_is_strict() {
        for bad in ["YQ", "YQ=", "YQ==\n", " YQ==", "Y_==", "YR=="] {
            let string = [BINARY.as_bytes(), bad.as_bytes()].concat();
            assert_eq!(credential(&entry(&[&string])), Err(SmbiosError::DecodeBase64), "{bad:?}");
        }
    }

    #[test]
    fn a_document_over_the_bound_is_refused() {
        let exact = vec![b'#'; MAX_DOCUMENT];
        assert_eq!(credential(&entry(&[&binary(&exact)])), Ok(Some(exact.clone())));
        let over = vec![b'#'; MAX_DOCUMENT + 1];
        assert_eq!(credential(&entry(&[&binary(&over)])), Err(SmbiosError::CheckSize));
        let plain = [PLAIN.as_bytes(), &over].concat();
        assert_eq!(credential(&entry(&[&plain])), Err(SmbiosError::CheckSize));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let raw = entry(&[b"vendor=x", &binary(b"kind: x")]);
        for length in 0..raw.len() {
            assert!(credential(&raw[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_wrong_count_another_type_and_a_short_header_are_errors() {
        let mut raw = entry(&[b"vendor=x"]);
        raw[4] = 2;
        assert_eq!(credential(&raw), Err(SmbiosError::CountStrings { announced: 2, found: 1 }));
        raw[0] = 1;
        assert_eq!(credential(&raw), Err(SmbiosError::CheckType));
        assert_eq!(credential(&[11, 4, 0, 0, 0, 0, 0]), Err(SmbiosError::ReadStrings));
    }
}
