//! What shows that a trusted key signed an image: the three byte strings that the check needs.
//!
//! The process that speaks with the network checks a signature first, because it asks for no layer before. The process
//! that may write to partitions doesn't believe it: it is handed these bytes and comes to its own conclusion
//! ([`crate::Verified::from_evidence`]), without a network and with its own keys.

use crate::manifest::MAX_MANIFEST;
use crate::signature::{self, MAX_PAYLOAD, MAX_SIGNATURE};
use crate::{Digest, KeyError, SigningKey};
use serde::{Deserialize, Serialize};

/// The longest form of evidence: its three parts, and up to three bytes for the length of each.
const MAX_EVIDENCE: usize = MAX_MANIFEST + MAX_PAYLOAD + MAX_SIGNATURE + 9;

/// A manifest, and a signature over its digest. Shows nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub(crate) manifest: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// In DER.
    pub(crate) signature: Vec<u8>,
}

impl Evidence {
    /// Of a manifest's bytes, for `repository` (registry and name): what a push leaves in a registry.
    pub fn sign(manifest: &[u8], repository: &str, key: &SigningKey) -> Result<Self, KeyError> {
        let payload = signature::payload(repository, Digest::of(manifest));
        let signature = key.sign(&payload)?;
        Ok(Self { manifest: manifest.to_vec(), payload, signature })
    }

    /// As bytes, for a file or a pipe (postcard).
    pub fn encode(&self) -> Vec<u8> {
        // Can't fail: byte strings always have a postcard form.
        postcard::to_extend(self, Vec::new()).unwrap_or_default()
    }

    /// From bytes; `None` for what isn't exactly one, or is out of bounds.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_EVIDENCE {
            return None;
        }
        let (evidence, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        (rest.is_empty() && evidence.is_bounded()).then_some(evidence)
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.manifest.len() <= MAX_MANIFEST
            && self.payload.len() <= MAX_PAYLOAD
            && self.signature.len() <= MAX_SIGNATURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Layer, Manifest};
    use crate::{Digest, FileName, Kind, PublicKey, SigningKey, Verified, VerifyError, signature};
    use std::collections::BTreeMap;

    fn pair() -> (SigningKey, PublicKey) {
        let (pem, public) = crate::keys::generate().unwrap();
        (SigningKey::from_pem(pem.as_bytes()).unwrap(), public)
    }

    fn manifest(content: &[u8]) -> Vec<u8> {
        let name = FileName::parse("root.erofs").unwrap();
        let layer = Layer { kind: Kind::Root, digest: Digest::of(content), size: 1, name };
        Manifest { layers: vec![layer], annotations: BTreeMap::new() }.encode().unwrap()
    }

    fn signed(key: &SigningKey, manifest: Vec<u8>) -> Evidence {
        let payload = signature::payload("registry.example/os", Digest::of(&manifest));
        let signature = key.sign(&payload).unwrap();
        Evidence { manifest, payload, signature }
    }

    #[test]
    fn what_is_handed_over_is_checked_again() {
        let ((key, public), (stranger, other)) = (pair(), pair());
        let good = signed(&key, manifest(b"a"));
        let again = Evidence::decode(&good.encode()).unwrap();
        let verified = Verified::from_evidence(&again, &[other, public]).unwrap();
        assert_eq!((verified.key(), verified.digest()), (public, Digest::of(&good.manifest)), "the twin");
        assert_eq!(verified.evidence(), good);

        assert!(matches!(Verified::from_evidence(&good, &[]), Err(VerifyError::Trust)));
        let refused = |evidence: &Evidence| {
            let error = Verified::from_evidence(evidence, &[public]).unwrap_err();
            assert!(matches!(error, VerifyError::MatchSignature { .. }), "{error}");
        };
        refused(&signed(&stranger, manifest(b"a")));
        refused(&Evidence { manifest: manifest(b"b"), ..good.clone() });
        refused(&Evidence { payload: signed(&key, manifest(b"b")).payload, ..good.clone() });
        refused(&Evidence { signature: Vec::new(), ..good.clone() });
        let mut flipped = good.clone();
        flipped.signature[10] ^= 1;
        refused(&flipped);
    }

    #[test]
    fn what_is_signed_but_no_image_is_refused() {
        let (key, public) = pair();
        let error = Verified::from_evidence(&signed(&key, b"{}".to_vec()), &[public]).unwrap_err();
        assert!(matches!(error, VerifyError::ReadManifest { .. }), "{error}");
        let large = signed(&key, vec![b' '; MAX_MANIFEST + 1]);
        let error = Verified::from_evidence(&large, &[public]).unwrap_err();
        assert!(matches!(error, VerifyError::ReadManifest { .. }), "{error}");
    }

    #[test]
    fn bytes_that_are_not_exactly_one_in_bounds_are_refused() {
        let (key, _) = pair();
        let good = signed(&key, manifest(b"a"));
        let bytes = good.encode();
        assert_eq!(Evidence::decode(&bytes).as_ref(), Some(&good), "the twin");
        for end in 0..bytes.len() {
            assert_eq!(Evidence::decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(Evidence::decode(&[&bytes[..], &[0]].concat()), None);
        let long = Evidence { signature: vec![0; MAX_SIGNATURE + 1], ..good.clone() };
        assert_eq!(Evidence::decode(&long.encode()), None);
        let most = Evidence {
            manifest: vec![0; MAX_MANIFEST],
            payload: vec![0; MAX_PAYLOAD],
            signature: vec![0; MAX_SIGNATURE],
        };
        assert_eq!(Evidence::decode(&most.encode()), Some(most), "the bound is not below its parts");
    }
}
