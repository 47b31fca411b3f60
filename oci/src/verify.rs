//! From a reference to a manifest that a trusted key has signed: the only way to a [`Verified`].
//!
//! In this order, each step with what the one before has shown to be right: the manifest's bytes and their digest, the
//! signatures under that digest's tag or in bundles that refer to it, a payload that a trusted key verifies and that names the digest, and only then
//! what the manifest says.

use crate::evidence::Evidence;
use crate::manifest::{Layer, MAX_MANIFEST, Manifest, ManifestError};
use crate::signature::Signature;
use crate::signer::{self, SignerError, find_signer};
use crate::source::{LayoutError, RegistryError, Source, SourceError};
use crate::{Digest, Kind, PublicKey};

/// An image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory can't be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Nothing to compare with.
    #[error("no public key was given: without one, no image is taken")]
    Trust,
    /// No such image.
    #[error("{0} is not there: check the name and the tag")]
    FindImage(String),
    /// Packed on the way.
    #[error(
        "{0} comes packed by gzip, which was not asked for: turn that off in the registry or the proxy before it, or write \
         the layout anew; nothing was written"
    )]
    UnpackManifest(String),
    /// Other bytes than asked for.
    #[error(
        "{reference} has the digest {found}: the registry does not serve what was asked for; nothing was written"
    )]
    MatchDigest {
        /// What was asked for.
        reference: String,
        /// What came.
        found: Digest,
    },
    /// No signature at all.
    #[error(
        "{reference} ({digest}) is not signed: push it with `cargo xtask push`, or sign it with `cosign sign --key`; \
         nothing was written"
    )]
    FindSignature {
        /// What was asked for.
        reference: String,
        /// Its digest.
        digest: Digest,
    },
    /// No signature that counts.
    #[error(
        "{reference} ({digest}) is not signed by a key that is trusted: {reason}; nothing was written. Is the key \
         that was given (--key) the public key of who made this image?"
    )]
    MatchSignature {
        /// What was asked for.
        reference: String,
        /// Its digest.
        digest: Digest,
        /// What was wrong with the last signature looked at.
        reason: String,
    },
    /// The list of signatures is not one.
    #[error(
        "the signatures of {reference} can't be read ({source}): the registry holds something else under their tag"
    )]
    ReadSignatures {
        /// What was asked for.
        reference: String,
        /// Why.
        source: ManifestError,
    },
    /// Signed, but not an image of ours.
    #[error("{reference} is signed, but no image of Astromesh OS that this version reads: {source}")]
    ReadManifest {
        /// What was asked for.
        reference: String,
        /// Why.
        source: ManifestError,
    },
}

impl From<SourceError> for VerifyError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Registry(error) => Self::Registry(error),
            SourceError::Layout(error) => Self::Layout(error),
        }
    }
}

impl VerifyError {
    /// Why no signature of the image at this place counts.
    fn of(error: SignerError, place: &str, digest: Digest) -> Self {
        let reference = place.to_owned();
        match error {
            SignerError::Source(error) => error.into(),
            SignerError::Reach(cause) => RegistryError::Reach { registry: reference, cause }.into(),
            SignerError::ReadSignatures(source) => Self::ReadSignatures { reference, source },
            SignerError::Find => Self::FindSignature { reference, digest },
            SignerError::Match(reason) => Self::MatchSignature { reference, digest, reason },
        }
    }
}

/// A manifest that a trusted key has signed.
#[derive(Debug, Clone)]
pub struct Verified {
    digest: Digest,
    manifest: Manifest,
    key: PublicKey,
    evidence: Evidence,
}

/// A layer of a [`Verified`] manifest: what may be fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignedLayer<'a>(&'a Layer);

impl Verified {
    /// Digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key that signed it.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// What shows it: enough for another process to come to the same conclusion without a network.
    pub fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    /// Checks again what another process has checked. Nothing of that check is believed.
    pub fn from_evidence(evidence: &Evidence, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        if keys.is_empty() {
            return Err(VerifyError::Trust);
        }
        let digest = Digest::of(&evidence.manifest);
        let place = || "the image that was handed over".to_owned();
        if !evidence.is_bounded() {
            let source = ManifestError::Bound;
            return Err(VerifyError::ReadManifest { reference: place(), source });
        }
        let signature = Signature::bare(&evidence.payload, &evidence.signature);
        let key = find_signer(&signature, &evidence.payload, digest, keys)
            .map_err(|reason| VerifyError::MatchSignature { reference: place(), digest, reason })?;
        let manifest = Manifest::parse(&evidence.manifest)
            .map_err(|source| VerifyError::ReadManifest { reference: place(), source })?;
        Ok(Self { digest, manifest, key, evidence: evidence.clone() })
    }

    pub(crate) fn layer(&self, kind: Kind) -> Option<SignedLayer<'_>> {
        self.manifest.layers.iter().find(|layer| layer.kind == kind).map(SignedLayer)
    }
}

impl<'a> SignedLayer<'a> {
    pub(crate) fn get(self) -> &'a Layer {
        self.0
    }
}

/// Checks that the image `name` (a tag, or a digest in the form `sha256:HEX`) of `source` is signed by one of `keys`.
/// Fetches no layer and writes nothing.
pub fn verify_with(source: &mut dyn Source, name: &str, keys: &[PublicKey]) -> Result<Verified, VerifyError> {
    if keys.is_empty() {
        return Err(VerifyError::Trust);
    }
    let place = source.place(name);
    let bytes = source.manifest(name, MAX_MANIFEST)?;
    let bytes = bytes.ok_or_else(|| VerifyError::FindImage(place.clone()))?;
    if bytes.starts_with(b"\x1f\x8b") {
        return Err(VerifyError::UnpackManifest(place));
    }
    let digest = Digest::of(&bytes);
    if Digest::parse(name).is_some_and(|asked| asked != digest) {
        return Err(VerifyError::MatchDigest { reference: place, found: digest });
    }
    let found = signer::find(source, digest, keys);
    let signer::Signed { key, payload, signature } =
        found.map_err(|error| VerifyError::of(error, &place, digest))?;
    let manifest =
        Manifest::parse(&bytes).map_err(|source| VerifyError::ReadManifest { reference: place, source })?;
    Ok(Verified { digest, manifest, key, evidence: Evidence { manifest: bytes, payload, signature } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningKey, signature};

    fn pair() -> (SigningKey, PublicKey) {
        let (pem, public) = crate::keys::generate().unwrap();
        (SigningKey::from_pem(pem.as_bytes()).unwrap(), public)
    }

    fn signed(key: &SigningKey, payload: &[u8]) -> Signature {
        let signature = key.sign(payload).unwrap();
        let notes = std::collections::BTreeMap::new();
        Signature { payload: Digest::of(payload), size: payload.len() as u64, signature, notes }
    }

    #[test]
    fn only_a_trusted_keys_signature_over_this_digest_counts() {
        let (key, public) = pair();
        let (stranger, other) = pair();
        let digest = Digest::of(b"manifest");
        let payload = signature::payload("registry.example/os", digest);
        let signer = |signature, keys: &[_]| find_signer(&signature, &payload, digest, keys);
        assert_eq!(signer(signed(&key, &payload), &[other, public]), Ok(public), "the twin");
        assert!(signer(signed(&stranger, &payload), &[public]).is_err());
        assert!(signer(signed(&key, b"another payload"), &[public]).is_err());
        assert!(signer(signed(&key, &payload), &[]).is_err());
    }

    #[test]
    fn a_signature_for_another_image_or_of_another_type_does_not_count() {
        let (key, public) = pair();
        let (digest, other) = (Digest::of(b"manifest"), Digest::of(b"older manifest"));
        let verdict = |payload: &[u8]| find_signer(&signed(&key, payload), payload, digest, &[public]);
        assert!(verdict(&signature::payload("r", other)).unwrap_err().contains("another image"));
        assert!(verdict(b"{}").unwrap_err().contains("can't be read"));
        assert_eq!(verdict(&signature::payload("r", digest)), Ok(public), "the twin");
    }
}
