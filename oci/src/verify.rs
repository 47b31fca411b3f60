//! From a reference to a manifest that a trusted key has signed: the only way to a [`Verified`].
//!
//! In this order, each step with what the one before has shown to be right: the manifest's bytes and their digest, the
//! signatures under that digest's tag, a payload that a trusted key verifies and that names the digest, and only then
//! what the manifest says.

use crate::manifest::{Layer, MAX_MANIFEST, Manifest, ManifestError};
use crate::registry::{Access, Registry, RegistryError, block_on};
use crate::signature::{self, Signature};
use crate::{Digest, Options, PublicKey, Reference};

/// An image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Nothing to compare with.
    #[error("no public key was given: without one, no image is taken")]
    Trust,
    /// No such image.
    #[error("{0} is not there: check repository and tag")]
    FindImage(String),
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
        "{reference} ({digest}) is not signed: push it with `cargo xtask push`, or sign it with cosign; nothing was written"
    )]
    FindSignature {
        /// What was asked for.
        reference: String,
        /// Its digest.
        digest: Digest,
    },
    /// No signature that counts.
    #[error(
        "{reference} ({digest}) is not signed by a key that is trusted: {reason}; nothing was written. Is --key the public \
         key of who made this image?"
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

/// A manifest that a trusted key has signed.
#[derive(Debug, Clone)]
pub struct Verified {
    digest: Digest,
    manifest: Manifest,
    key: PublicKey,
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

    pub(crate) fn layers(&self) -> impl Iterator<Item = SignedLayer<'_>> {
        self.manifest.layers.iter().map(SignedLayer)
    }
}

impl<'a> SignedLayer<'a> {
    pub(crate) fn get(self) -> &'a Layer {
        self.0
    }
}

/// Checks that the image at `reference` is signed by one of `keys`. Fetches no layer and writes nothing.
pub fn verify(reference: &Reference, keys: &[PublicKey], options: &Options) -> Result<Verified, VerifyError> {
    block_on(async {
        let registry = Registry::open(reference, options, Access::Pull).await?;
        ask(&registry, reference, keys).await
    })
}

pub(crate) async fn ask(
    registry: &Registry,
    reference: &Reference,
    keys: &[PublicKey],
) -> Result<Verified, VerifyError> {
    if keys.is_empty() {
        return Err(VerifyError::Trust);
    }
    let asked = reference.digest().map(|digest| digest.to_string());
    // A reference without a digest has a tag: it doesn't parse otherwise.
    let name = asked.as_deref().or(reference.tag()).unwrap_or_default();
    let bytes = registry.manifest(name, MAX_MANIFEST).await?;
    let bytes = bytes.ok_or_else(|| VerifyError::FindImage(reference.to_string()))?;
    let digest = Digest::of(&bytes);
    if reference.digest().is_some_and(|asked| asked != digest) {
        return Err(VerifyError::MatchDigest { reference: reference.to_string(), found: digest });
    }
    let key = signer(registry, reference, digest, keys).await?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|source| VerifyError::ReadManifest { reference: reference.to_string(), source })?;
    Ok(Verified { digest, manifest, key })
}

/// The first trusted key that has signed this digest.
async fn signer(
    registry: &Registry,
    reference: &Reference,
    digest: Digest,
    keys: &[PublicKey],
) -> Result<PublicKey, VerifyError> {
    let reference = reference.to_string();
    let Some(bytes) = registry.manifest(&digest.signature_tag(), MAX_MANIFEST).await? else {
        return Err(VerifyError::FindSignature { reference, digest });
    };
    let signatures = signature::list(&bytes)
        .map_err(|source| VerifyError::ReadSignatures { reference: reference.clone(), source })?;
    let mut reason = None;
    for signature in &signatures {
        match registry.small_blob(signature.payload, signature.size).await? {
            None => reason = Some("a signature's payload is not what its digest says".to_owned()),
            Some(payload) => match judge(signature, &payload, digest, keys) {
                Ok(key) => return Ok(key),
                Err(why) => reason = Some(why),
            },
        }
    }
    match reason {
        None => Err(VerifyError::FindSignature { reference, digest }),
        Some(reason) => Err(VerifyError::MatchSignature { reference, digest, reason }),
    }
}

/// The trusted key that made this signature for this digest, or why there is none.
fn judge(
    signature: &Signature,
    payload: &[u8],
    digest: Digest,
    keys: &[PublicKey],
) -> Result<PublicKey, String> {
    let key = keys.iter().find(|key| signature.is_by(key, payload));
    let key = key.ok_or("no key that was given verifies its signature")?;
    match signature::signed_digest(payload) {
        Ok(signed) if signed == digest => Ok(*key),
        Ok(signed) => Err(format!("its signature is for another image, {signed}")),
        Err(error) => Err(format!("what its signature signs can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

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
        let judged = |signature, keys: &[_]| judge(&signature, &payload, digest, keys);
        assert_eq!(judged(signed(&key, &payload), &[other, public]), Ok(public), "the twin");
        assert!(judged(signed(&stranger, &payload), &[public]).is_err());
        assert!(judged(signed(&key, b"another payload"), &[public]).is_err());
        assert!(judged(signed(&key, &payload), &[]).is_err());
    }

    #[test]
    fn a_signature_for_another_image_or_of_another_type_does_not_count() {
        let (key, public) = pair();
        let (digest, other) = (Digest::of(b"manifest"), Digest::of(b"older manifest"));
        let verdict = |payload: &[u8]| judge(&signed(&key, payload), payload, digest, &[public]);
        assert!(verdict(&signature::payload("r", other)).unwrap_err().contains("another image"));
        assert!(verdict(b"{}").unwrap_err().contains("can't be read"));
        assert_eq!(verdict(&signature::payload("r", digest)), Ok(public), "the twin");
    }
}
