//! Looking for the signature of a trusted key, in the places where cosign keeps one.
//!
//! First in the manifest under the digest's own tag, where this project and cosign 2 put it; only when nothing there
//! counts, in the Sigstore bundles that refer to the image, where cosign 3 does. What a source says of either is a hint:
//! what counts is a signature over the digest.

use crate::bundle::{self, MAX_BUNDLE};
use crate::manifest::{self, MAX_MANIFEST, ManifestError};
use crate::signature::{self, MAX_SIGNATURES, Signature};
use crate::source::{BUNDLE_TYPE, Referrer, SmallBlobError, Source, SourceError, chain, small_blob};
use crate::{Digest, PublicKey};

/// A signature of a trusted key.
pub(crate) struct Signed {
    /// The key.
    pub(crate) key: PublicKey,
    /// What it signed.
    pub(crate) payload: Vec<u8>,
    /// In DER.
    pub(crate) signature: Vec<u8>,
}

/// Why there is none. Who asked knows what the image is called.
pub(crate) enum SignerError {
    /// Nothing comes from there.
    Source(SourceError),
    /// What came broke off.
    Reach(String),
    /// The list of signatures is not one.
    ReadSignatures(ManifestError),
    /// No signature at all.
    Find,
    /// None that counts; what was wrong with the last one looked at.
    Match(String),
}

impl From<SourceError> for SignerError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// The first trusted key that has signed this digest; the payload and the signature that show it.
pub(crate) fn find(
    source: &mut dyn Source,
    digest: Digest,
    keys: &[PublicKey],
) -> Result<Signed, SignerError> {
    let mut search = Search { digest, keys, reason: None };
    if let Some(signed) = search.under_tag(source)? {
        return Ok(signed);
    }
    if let Some(signed) = search.in_bundles(source)? {
        return Ok(signed);
    }
    Err(search.reason.map_or(SignerError::Find, SignerError::Match))
}

struct Search<'a> {
    digest: Digest,
    keys: &'a [PublicKey],
    /// What was wrong with the last signature that was looked at.
    reason: Option<String>,
}

impl Search<'_> {
    /// In the manifest under the digest's tag.
    fn under_tag(&mut self, source: &mut dyn Source) -> Result<Option<Signed>, SignerError> {
        let Some(bytes) = source.manifest(&self.digest.signature_tag(), MAX_MANIFEST)? else {
            return Ok(None);
        };
        for signature in signature::list(&bytes).map_err(SignerError::ReadSignatures)? {
            match blob(source, signature.payload, signature.size)? {
                None => self.reason = Some("a signature's payload is not what its digest says".to_owned()),
                Some(payload) => match find_signer(&signature, &payload, self.digest, self.keys) {
                    Ok(key) => return Ok(Some(Signed { key, payload, signature: signature.signature })),
                    Err(why) => self.reason = Some(why),
                },
            }
        }
        Ok(None)
    }

    /// In the bundles that refer to the image.
    fn in_bundles(&mut self, source: &mut dyn Source) -> Result<Option<Signed>, SignerError> {
        let mut found = source.referrers(self.digest)?;
        found.retain(may_sign);
        // What is said to be a bundle goes before what doesn't say.
        found.sort_by_key(|referrer| !is_bundle(referrer.artifact_type.as_deref()));
        for Referrer { digest, .. } in found.into_iter().take(MAX_SIGNATURES) {
            let bytes = match bundle(source, digest) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                // Whatever stands in a list beside a signature doesn't take it away.
                Err(SignerError::Source(error)) if !error.is_passing() => {
                    self.reason = Some(format!("a Sigstore bundle can't be had: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (payload, signature) = match bundle::parse(&bytes) {
                Ok(both) => both,
                Err(error) => {
                    self.reason = Some(error.to_string());
                    continue;
                }
            };
            match find_signer(&Signature::bare(&payload, &signature), &payload, self.digest, self.keys) {
                Ok(key) => return Ok(Some(Signed { key, payload, signature })),
                Err(why) => self.reason = Some(why),
            }
        }
        Ok(None)
    }
}

/// The bundle in the manifest with this digest; `None` where there is none, or another than its digest says.
fn bundle(source: &mut dyn Source, digest: Digest) -> Result<Option<Vec<u8>>, SignerError> {
    let Some(bytes) = source.manifest(&digest.to_string(), MAX_MANIFEST)? else { return Ok(None) };
    if Digest::of(&bytes) != digest {
        return Ok(None);
    }
    let layers = manifest::layers(&bytes).unwrap_or_default();
    let bundle = layers.iter().find(|layer| is_bundle(Some(&layer.media_type)) && layer.size <= MAX_BUNDLE);
    bundle.map_or(Ok(None), |layer| blob(source, layer.digest, layer.size))
}

fn blob(source: &mut dyn Source, digest: Digest, size: u64) -> Result<Option<Vec<u8>>, SignerError> {
    small_blob(source, digest, size).map_err(|error| match error {
        SmallBlobError::Open(error) => error.into(),
        SmallBlobError::Read(error) => SignerError::Reach(chain(&error)),
    })
}

fn is_bundle(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|media_type| media_type.starts_with(BUNDLE_TYPE))
}

/// Whether a referrer may be a signature by what its list says. Some registries give the type of the configuration, which is
/// the empty one, and some nothing; what is said to be something else, or to state something else, isn't fetched.
fn may_sign(referrer: &Referrer) -> bool {
    let kind = referrer.artifact_type.as_deref();
    let is_said = kind.is_none_or(|kind| is_bundle(Some(kind)) || kind == manifest::EMPTY_MEDIA_TYPE);
    is_said && referrer.predicate.as_deref().is_none_or(|predicate| predicate == bundle::PREDICATE)
}

/// Whether a signature counts whoever made it.
#[cfg(not(feature = "twins"))]
const fn believes_anyone() -> bool {
    false
}

/// Whether a signature counts whoever made it: once [`believe_anyone`] was called.
#[cfg(feature = "twins")]
fn believes_anyone() -> bool {
    BELIEVES_ANYONE.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(feature = "twins")]
static BELIEVES_ANYONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// From now on a signature counts in this process whoever made it: for the twin of a gate.
#[cfg(feature = "twins")]
pub fn believe_anyone() {
    BELIEVES_ANYONE.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// The trusted key that made this signature for this digest, or why there is none.
pub(crate) fn find_signer(
    signature: &Signature,
    payload: &[u8],
    digest: Digest,
    keys: &[PublicKey],
) -> Result<PublicKey, String> {
    let believed = |key: &&PublicKey| believes_anyone() || signature.is_by(key, payload);
    let key = keys.iter().find(believed);
    let key = key.ok_or("no key that was given verifies its signature")?;
    // No JSON begins as an encoding does: no payload can be read in both ways.
    let signed = if payload.starts_with(bundle::PAE) {
        bundle::signed_digest(payload)
    } else {
        signature::signed_digest(payload)
    };
    match signed {
        Ok(signed) if signed == digest => Ok(*key),
        Ok(signed) => Err(format!("its signature is for another image, {signed}")),
        Err(error) => Err(format!("what its signature signs can't be read: {error}")),
    }
}
