//! Signatures as cosign writes them since version 3: a Sigstore bundle that refers to the image.
//!
//! The bundle is the JSON form of a protobuf message (sigstore/protobuf-specs, `sigstore_bundle.proto`) and the one layer
//! of a manifest whose `subject` is the image (cosign, `specs/BUNDLE_SPEC.md`). In it stands a DSSE envelope
//! (secure-systems-lab/dsse, `protocol.md`) with an in-toto statement about the image's digest. What the signature is
//! over is the envelope's *pre-authentication encoding*, and that is what is kept here as the signed payload: whoever
//! checks it again needs nothing of the bundle around it.
//!
//! Only the key that the node trusts counts. Certificates, transparency logs and time stamps in a bundle are not looked
//! at: an operator of closed machines has the public key and needs nobody else.
//!
//! An attestation (an SBOM, provenance) is the same kind of bundle, made with the same key. It says something about an
//! image, and doesn't say that the image is to be run: only cosign's own statement of a signature counts as one.

use crate::Digest;
use crate::signature::{MAX_PAYLOAD, MAX_SIGNATURE, PayloadError};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;

/// The most bytes a bundle may have. One by a key has about 700; those with certificates and a log's proofs some 10,000.
pub(crate) const MAX_BUNDLE: u64 = 64 * 1024;
/// What a pre-authentication encoding begins with.
pub(crate) const PAE: &[u8] = b"DSSEv1 ";
/// The payload of an in-toto envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What an in-toto statement says it is; cosign writes the first, its version 2 the second.
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// What cosign states of an image that it signs.
pub(crate) const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Protobuf's JSON takes base64 of both alphabets, padded or not.
const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ALPHABETS: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT),
    GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT),
];

/// A bundle can't be made anything of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// Not JSON of this form.
    #[error("its Sigstore bundle can't be read ({0})")]
    Parse(String),
    /// The form for files.
    #[error(
        "its Sigstore bundle signs bytes and no statement about an image: sign it with `cosign sign` (its flags \
         --new-bundle-format=false --use-signing-config=false make the older form)"
    )]
    FindEnvelope,
    /// Too long.
    #[error("its Sigstore bundle holds a statement of more than {MAX_PAYLOAD} bytes")]
    Bound,
    /// No signature that could be one.
    #[error("its Sigstore bundle holds no ECDSA P-256 signature: sign it with `cosign sign --key`")]
    FindSignature,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
struct Signed {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    /// Digests by the name of their algorithm; a signer may give several.
    digest: Value,
}

/// What was signed, and the signature over it in DER. Neither is checked here.
pub fn parse(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BundleError> {
    let bundle: Bundle =
        serde_json::from_slice(bytes).map_err(|error| BundleError::Parse(error.to_string()))?;
    let envelope = bundle.dsse_envelope.ok_or(BundleError::FindEnvelope)?;
    let body =
        decode(&envelope.payload).ok_or_else(|| BundleError::Parse("its payload is no base64".to_owned()))?;
    let payload = encode(&envelope.payload_type, &body);
    if payload.len() > MAX_PAYLOAD {
        return Err(BundleError::Bound);
    }
    // Sigstore's bundles have exactly one (`sigstore_bundle.proto`, `dsse_envelope`).
    let [signed] = envelope.signatures.as_slice() else { return Err(BundleError::FindSignature) };
    let signature = decode(&signed.sig).filter(|signature| signature.len() <= MAX_SIGNATURE);
    Ok((payload, signature.ok_or(BundleError::FindSignature)?))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    ALPHABETS.iter().find_map(|engine| engine.decode(text).ok())
}

/// The pre-authentication encoding: type and body, each with its length before it.
fn encode(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{} {kind} {} ", kind.len(), body.len());
    [PAE, head.as_bytes(), body].concat()
}

/// The digest of the manifest that a signed encoding is about.
pub fn signed_digest(payload: &[u8]) -> Result<Digest, PayloadError> {
    let wrong = |why: &str| PayloadError::Parse(why.to_owned());
    // The encoding of the one type that is read is compared as bytes: it can't be read in two ways.
    let head = encode(PAYLOAD_TYPE, b"");
    let head = &head[..head.len() - b"0 ".len()];
    let rest = payload.strip_prefix(head).ok_or_else(|| wrong("it is no in-toto statement"))?;
    let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(|| wrong("it has no length"))?;
    let body = &rest[space + 1..];
    if encode(PAYLOAD_TYPE, body) != payload {
        return Err(wrong("its length is another"));
    }
    let statement: Statement =
        serde_json::from_slice(body).map_err(|error| PayloadError::Parse(error.to_string()))?;
    if !STATEMENTS.contains(&statement.kind.as_str()) {
        return Err(PayloadError::MatchType(statement.kind));
    }
    if statement.predicate_type != PREDICATE {
        return Err(PayloadError::MatchPredicate(statement.predicate_type));
    }
    let [subject] = statement.subject.as_slice() else {
        return Err(PayloadError::CountSubjects(statement.subject.len()));
    };
    let hex = subject.digest.get("sha256").and_then(Value::as_str);
    hex.and_then(|hex| Digest::parse(&format!("sha256:{hex}")))
        .ok_or_else(|| wrong("its subject has no SHA-256"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublicKey;

    /// Bundles that cosign wrote over a throw-away image in a registry on loopback, the key of each, and the image's digest:
    /// version 2.5.0 by `attest --new-bundle-format --tlog-upload=false --type https://sigstore.dev/cosign/sign/v1` with the
    /// predicate `{}`, version 3.1.1 by `sign --tlog-upload=false --use-signing-config=false`.
    const REAL: [(&str, &str, &str); 2] = [
        (
            include_str!("../tests/data/cosign-2-bundle.json"),
            include_str!("../tests/data/cosign-2.pub"),
            "sha256:209c416eb7527dc9191a11a1c5f6aa7a426aa01719599d7495213c84bb0ab7b5",
        ),
        (
            include_str!("../tests/data/cosign-3-bundle.json"),
            include_str!("../tests/data/cosign-3.pub"),
            "sha256:426cabaa14d4429a6980aad7ffd2fb2c44cde113c19ddef49abf72705547b58d",
        ),
    ];

    fn statement(kind: &str, predicate: &str, subject: &str) -> Vec<u8> {
        let body = format!(
            "{{\"_type\":\"{kind}\",\"predicateType\":\"{predicate}\",\"subject\":{subject},\"predicate\":{{}}}}"
        );
        encode(PAYLOAD_TYPE, body.as_bytes())
    }

    #[test]
    fn a_bundle_that_cosign_wrote_is_read_and_its_keys_signature_holds() {
        for (bundle, key, digest) in REAL {
            let (payload, signature) = parse(bundle.as_bytes()).unwrap();
            let key = PublicKey::from_pem(key.as_bytes()).unwrap();
            assert!(key.verifies(&payload, &signature));
            assert_eq!(signed_digest(&payload), Ok(Digest::parse(digest).unwrap()));
            // The twin: another byte of the statement, and it doesn't hold.
            let mut other = payload.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(!key.verifies(&other, &signature));
        }
    }

    #[test]
    fn only_the_statement_of_a_signature_over_one_image_counts() {
        let digest = Digest::of(b"image");
        let one =
            format!("[{{\"name\":\"os\",\"digest\":{{\"sha512\":\"00\",\"sha256\":\"{}\"}}}}]", digest.hex());
        for kind in STATEMENTS {
            assert_eq!(signed_digest(&statement(kind, PREDICATE, &one)), Ok(digest), "the twin");
        }
        for predicate in ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom", ""] {
            let found = signed_digest(&statement(STATEMENTS[0], predicate, &one));
            assert_eq!(found, Err(PayloadError::MatchPredicate(predicate.to_owned())));
        }
        let found = signed_digest(&statement("https://in-toto.io/Link/v1", PREDICATE, &one));
        assert!(matches!(found, Err(PayloadError::MatchType(_))));
        let two = one.replace("}}]", &format!("}}}},{}", &one[1..]));
        for (subject, count) in [("[]", 0), (two.as_str(), 2)] {
            let found = signed_digest(&statement(STATEMENTS[0], PREDICATE, subject));
            assert_eq!(found, Err(PayloadError::CountSubjects(count)), "{subject}");
        }
        for subject in
            ["[{\"digest\":{}}]", "[{\"digest\":{\"sha256\":\"00\"}}]", "[{\"digest\":null}]", "[{}]", "{}"]
        {
            let found = signed_digest(&statement(STATEMENTS[0], PREDICATE, subject));
            assert!(matches!(found, Err(PayloadError::Parse(_))), "{subject}");
        }
    }

    #[test]
    fn an_encoding_that_could_be_read_in_two_ways_is_none() {
        let good = statement(
            STATEMENTS[0],
            PREDICATE,
            &format!("[{{\"digest\":{{\"sha256\":\"{}\"}}}}]", Digest::of(b"x").hex()),
        );
        assert!(signed_digest(&good).is_ok(), "the twin");
        let text = String::from_utf8(good).unwrap();
        for wrong in [
            text.replace("DSSEv1 28", "DSSEv1 028"),
            text.replace("DSSEv1 28", "DSSEv1 27"),
            text.replace("DSSEv1 ", "DSSEv2 "),
            text.replace("in-toto+json", "in-tote+json"),
            text.replace("json 2", "json 02"),
            format!("{text} "),
            text[..text.len() - 1].to_owned(),
            "DSSEv1 ".to_owned(),
            "DSSEv1 28 application/vnd.in-toto+json ".to_owned(),
        ] {
            assert!(signed_digest(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bundles_of_another_form_are_named() {
        let (real, ..) = REAL[0];
        let with = |from: &str, to: &str| parse(real.replacen(from, to, 1).as_bytes());
        assert!(with("", "").is_ok(), "the twin");
        assert_eq!(with("dsseEnvelope", "messageSignature"), Err(BundleError::FindEnvelope));
        assert_eq!(with("{\"sig\":", "{\"sig\":\"\"},{\"sig\":"), Err(BundleError::FindSignature));
        assert_eq!(with("\"sig\":\"", "\"sig\":\"!"), Err(BundleError::FindSignature));
        assert!(matches!(with("\"payload\":\"", "\"payload\":\"!"), Err(BundleError::Parse(_))));
        assert!(matches!(with("payloadType", "other"), Err(BundleError::Parse(_))));
        for wrong in [&b""[..], b"{", b"[]", b"\x1f\x8b"] {
            assert!(matches!(parse(wrong), Err(BundleError::Parse(_))));
        }
        let long = "A".repeat(MAX_PAYLOAD * 2);
        assert_eq!(with("\"payload\":\"", &format!("\"payload\":\"{long}")), Err(BundleError::Bound));
        // The same bytes in the other alphabet and without padding.
        let bare = real.replace("In19XSwicHJlZGljYXRlIjp7fX0=", "In19XSwicHJlZGljYXRlIjp7fX0");
        assert_ne!(bare, real);
        assert_eq!(parse(bare.as_bytes()), parse(real.as_bytes()));
    }
}
