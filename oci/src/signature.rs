//! Signatures as cosign keeps them, so that who doesn't trust our client can use another.
//!
//! A signature is over a small JSON document, the *simple signing* payload (containers/image,
//! `docs/containers-signature.5.md`), which names the digest of the signed manifest. Payloads are the layers of a second
//! manifest in the same repository under the tag `sha256-HEX.sig` (cosign, `specs/SIGNATURE_SPEC.md`), and each
//! signature stands in an annotation of its layer. Several may stand there: another key may have signed the same image.
//!
//! Since version 3, cosign writes Sigstore bundles instead ([`crate::bundle`]); what a signature is over is then another
//! document.
//!
//! The order matters: a payload is parsed only after a key that is trusted has verified it.

use crate::manifest::{self, Descriptor, Document, MEDIA_TYPE, ManifestError};
use crate::{Digest, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The media type of a payload.
pub const PAYLOAD_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds the signature, in base64.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What the payload says it is: cosign says this of everything it signs, container image or not.
const TYPE: &str = "cosign container image signature";
/// The most bytes a payload may have. Ours has about 250; other signers add annotations of their own.
pub const MAX_PAYLOAD: usize = 16 * 1024;
/// The most signatures looked at: enough for every key that an image could reasonably be signed with.
pub const MAX_SIGNATURES: usize = 16;
/// An ECDSA P-256 signature in DER has at most 72 bytes.
pub(crate) const MAX_SIGNATURE: usize = 72;

/// A payload that a trusted key has signed doesn't say what it should.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    /// Too long.
    #[error("it has more than {MAX_PAYLOAD} bytes")]
    Bound,
    /// Not JSON of this form.
    #[error("it is not a simple signing payload ({0})")]
    Parse(String),
    /// Signed for another purpose.
    #[error("it is {0:?}, not {TYPE:?}")]
    MatchType(String),
    /// A signed statement of another kind.
    #[error("it states {0:?} about the image, and doesn't sign it: sign it with `cosign sign`")]
    MatchPredicate(String),
    /// A statement about several things, or none.
    #[error("it is a statement about {0} things, not about one image")]
    CountSubjects(usize),
}

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(skip_deserializing)]
    optional: Option<()>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    /// Where the signer pushed it. Not compared with anything: a mirror serves the same image elsewhere.
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// The bytes to sign for the manifest with this digest in `repository` (registry and name).
pub fn payload(repository: &str, digest: Digest) -> Vec<u8> {
    let payload = Payload {
        critical: Critical {
            identity: Identity { reference: repository.to_owned() },
            image: Image { digest },
            kind: TYPE.to_owned(),
        },
        optional: None,
    };
    // Can't fail: text and a null are always JSON.
    serde_json::to_vec(&payload).unwrap_or_default()
}

/// The digest of the manifest that a payload is about.
pub fn signed_digest(payload: &[u8]) -> Result<Digest, PayloadError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(PayloadError::Bound);
    }
    let Payload { critical, .. } =
        serde_json::from_slice(payload).map_err(|error| PayloadError::Parse(error.to_string()))?;
    if critical.kind == TYPE {
        Ok(critical.image.digest)
    } else {
        Err(PayloadError::MatchType(critical.kind))
    }
}

/// One signature and where its payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Digest of the payload.
    pub payload: Digest,
    /// The payload's length in bytes, at most [`MAX_PAYLOAD`].
    pub size: u64,
    /// In DER.
    pub signature: Vec<u8>,
    /// What else its signer noted beside it. Not looked at, and kept when another signature is added.
    pub notes: BTreeMap<String, String>,
}

impl Signature {
    /// A signature that is at hand, over a payload that is.
    pub(crate) fn bare(payload: &[u8], signature: &[u8]) -> Self {
        let (size, notes) = (payload.len() as u64, BTreeMap::new());
        Self { payload: Digest::of(payload), size, signature: signature.to_vec(), notes }
    }

    /// Whether it is this key's over these bytes.
    pub fn is_by(&self, key: &PublicKey, payload: &[u8]) -> bool {
        key.verifies(payload, &self.signature)
    }
}

/// The signatures that a signature manifest lists. What isn't one, or is out of bounds, is passed over: others may stand
/// there with which this client can do something.
pub fn list(bytes: &[u8]) -> Result<Vec<Signature>, ManifestError> {
    Ok(manifest::layers(bytes)?.iter().filter_map(signature).take(MAX_SIGNATURES).collect())
}

fn signature(layer: &Descriptor) -> Option<Signature> {
    if layer.media_type != PAYLOAD_MEDIA_TYPE || layer.size > MAX_PAYLOAD as u64 {
        return None;
    }
    let mut notes = layer.annotations.clone();
    let signature = STANDARD.decode(notes.remove(ANNOTATION)?).ok()?;
    let taken = Signature { payload: layer.digest, size: layer.size, signature, notes };
    (taken.signature.len() <= MAX_SIGNATURE).then_some(taken)
}

/// The bytes of a signature manifest. Its configuration is the empty one too: it is no container image either.
pub fn encode(signatures: &[Signature]) -> Vec<u8> {
    let layer = |signature: &Signature| {
        let mut annotations = signature.notes.clone();
        annotations.insert(ANNOTATION.to_owned(), STANDARD.encode(&signature.signature));
        let media_type = PAYLOAD_MEDIA_TYPE.to_owned();
        Descriptor { media_type, digest: signature.payload, size: signature.size, annotations }
    };
    Document {
        schema_version: 2,
        media_type: MEDIA_TYPE.to_owned(),
        artifact_type: Some(PAYLOAD_MEDIA_TYPE.to_owned()),
        config: Descriptor::empty(),
        layers: signatures.iter().map(layer).collect(),
        annotations: BTreeMap::new(),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Signature {
        let notes = BTreeMap::from([("dev.sigstore.cosign/bundle".to_owned(), "{}".to_owned())]);
        Signature { payload: Digest::of(b"p"), size: 1, signature: vec![0x30, 0, 1], notes }
    }

    #[test]
    fn a_payload_is_what_cosign_writes() {
        let digest = Digest::of(b"");
        let text = String::from_utf8(payload("registry.example/os", digest)).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"registry.example/os\"}},\
                 \"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\
                 \"type\":\"cosign container image signature\"}},\"optional\":null}}"
            )
        );
        assert_eq!(signed_digest(text.as_bytes()), Ok(digest));
        let more = text.replace("null", "{\"creator\":\"x\",\"timestamp\":1}");
        assert_eq!(signed_digest(more.as_bytes()), Ok(digest), "what other signers add");
    }

    #[test]
    fn a_payload_of_another_type_or_form_is_refused() {
        let good = String::from_utf8(payload("r", Digest::of(b""))).unwrap();
        let other = good.replace(TYPE, "atomic container signature");
        assert!(matches!(signed_digest(other.as_bytes()), Err(PayloadError::MatchType(_))));
        for bad in ["", "{}", "[]", &good[1..], &good.replace("sha256:e", "sha256:x")] {
            assert!(matches!(signed_digest(bad.as_bytes()), Err(PayloadError::Parse(_))), "{bad}");
        }
        let mut padded = good.clone().into_bytes();
        padded.resize(MAX_PAYLOAD, b' ');
        assert!(signed_digest(&padded).is_ok(), "the twin");
        padded.push(b' ');
        assert_eq!(signed_digest(&padded), Err(PayloadError::Bound));
    }

    #[test]
    fn what_is_encoded_is_what_is_listed() {
        let two = [example(), Signature { signature: vec![7; MAX_SIGNATURE], ..example() }];
        assert_eq!(list(&encode(&two)).unwrap(), two);
    }

    #[test]
    fn what_is_no_signature_is_passed_over() {
        let wrong = [
            Signature { size: MAX_PAYLOAD as u64 + 1, ..example() },
            Signature { signature: vec![7; MAX_SIGNATURE + 1], ..example() },
        ];
        assert_eq!(list(&encode(&wrong)).unwrap(), []);
        let text = String::from_utf8(encode(&[example()])).unwrap();
        let other =
            text.replace("\"mediaType\":\"application/vnd.dev", "\"mediaType\":\"application/vnd.other");
        assert_eq!(list(other.as_bytes()).unwrap(), []);
        assert_eq!(list(text.replace("MAAB", "!").as_bytes()).unwrap(), []);
        assert_eq!(list(text.as_bytes()).unwrap(), [example()], "the twin");
        assert_eq!(list(&encode(&vec![example(); MAX_SIGNATURES + 1])).unwrap().len(), MAX_SIGNATURES);
        // Another client's layers, and manifest, beside or around ours.
        let beside = text.replace(
            "\"layers\":[",
            "\"layers\":[null,{\"mediaType\":\"x\",\"digest\":\"sha512:00\",\"size\":1},",
        );
        assert_eq!(list(beside.as_bytes()).unwrap(), [example()]);
        let bare = text.replace(&format!("\"mediaType\":\"{MEDIA_TYPE}\","), "");
        assert_eq!(
            list(
                bare.replace("\"schemaVersion\":2,", "\"schemaVersion\":2,\"annotations\":null,").as_bytes()
            )
            .unwrap(),
            [example()]
        );
    }
}
