//! An image into a registry: layers, then the manifest by its digest, then the signature, and the tag last.
//!
//! In this order because of who looks in the meantime: whoever follows the tag finds the old image or the new one with its
//! signature, never an image without one. The manifest holds no time and no name of a machine, so pushing the same files
//! twice gives the same digest and sends no layer again.

use crate::keys::KeyError;
use crate::layer::{FileName, Kind};
use crate::manifest::{EMPTY, Layer, MAX_MANIFEST, Manifest, ManifestError};
use crate::signature::{self, MAX_SIGNATURES, Signature};
use crate::source::{
    RegistryError, RegistrySource, SmallBlobError, Source as _, SourceError, chain, small_blob,
};
use crate::upload::{Upload, block_on};
use crate::{Digest, Options, PublicKey, Reference, SigningKey};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How often a layer's upload is begun.
const ATTEMPTS: u32 = 3;

/// An image was not pushed. The tag is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No tag.
    #[error("{0} names a digest: an image is pushed to a tag, and its digest follows from its content")]
    FindTag(String),
    /// A layer's file can't be read.
    #[error("can't read {path} ({source}): run `cargo xtask build` first")]
    ReadLayer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No manifest.
    #[error("these files make no image: {0}")]
    MakeManifest(#[from] ManifestError),
    /// No signature.
    #[error(transparent)]
    Sign(#[from] KeyError),
}

/// What is to be pushed.
#[derive(Debug, Clone, Default)]
pub struct Artifact {
    /// Each layer's kind, the name of its file where it is pulled, and where it is now.
    pub layers: Vec<(Kind, FileName, PathBuf)>,
    /// What the image says of itself.
    pub annotations: BTreeMap<String, String>,
}

/// What was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
}

/// Pushes `artifact` to the tag `reference`, signed with `key`. `note` is told of each step.
pub fn push(
    reference: &Reference,
    artifact: &Artifact,
    key: &SigningKey,
    options: &Options,
    note: &mut dyn FnMut(&str),
) -> Result<Pushed, PushError> {
    let tag = reference.tag().ok_or_else(|| PushError::FindTag(reference.to_string()))?;
    let manifest = describe(artifact)?;
    let bytes = manifest.encode()?;
    let digest = Digest::of(&bytes);
    block_on(async {
        let registry = Upload::open(reference, options).await?;
        registry.put_bytes(EMPTY).await?;
        for (layer, (_, _, path)) in manifest.layers.iter().zip(&artifact.layers) {
            if registry.has_blob(layer.digest).await? {
                note(&format!("{} is there already", layer.name));
                continue;
            }
            note(&format!("pushing {}, {} bytes", layer.name, layer.size));
            let mut attempt = 1;
            while let Err(error) = registry.put_file(open(path)?, layer.digest, layer.size).await {
                if attempt == ATTEMPTS || matches!(error, RegistryError::Authenticate { .. }) {
                    return Err(error.into());
                }
                note(&format!("{}: {error}; once more", layer.name));
                tokio::time::sleep(options.pause * attempt).await;
                attempt += 1;
            }
        }
        registry.put_manifest(&digest.to_string(), bytes.clone()).await?;
        sign(&registry, reference, options, digest, key).await?;
        registry.put_manifest(tag, bytes).await?;
        Ok(Pushed { digest, manifest })
    })
}

/// The manifest of an artifact's files as they are now.
fn describe(artifact: &Artifact) -> Result<Manifest, PushError> {
    let describe = |(kind, name, path): &(Kind, FileName, PathBuf)| {
        let read = Digest::of_file(&mut open(path)?);
        let (digest, size) = read.map_err(|source| PushError::ReadLayer { path: path.clone(), source })?;
        Ok(Layer { kind: *kind, digest, size, name: name.clone() })
    };
    let layers = artifact.layers.iter().map(describe).collect::<Result<_, PushError>>()?;
    Ok(Manifest { layers, annotations: artifact.annotations.clone() })
}

fn open(path: &Path) -> Result<File, PushError> {
    File::open(path).map_err(|source| PushError::ReadLayer { path: path.to_owned(), source })
}

/// Adds a signature to those that are there.
async fn sign(
    registry: &Upload,
    reference: &Reference,
    options: &Options,
    digest: Digest,
    key: &SigningKey,
) -> Result<(), PushError> {
    let repository = format!("{}/{}", reference.registry(), reference.repository());
    let payload = signature::payload(&repository, digest);
    let ours = Signature {
        payload: registry.put_bytes(&payload).await?,
        size: payload.len() as u64,
        signature: key.sign(&payload)?,
        notes: BTreeMap::new(),
    };
    let kept = keep(reference, options, digest, &key.public_key())?;
    let all: Vec<_> = std::iter::once(ours).chain(kept).take(MAX_SIGNATURES).collect();
    Ok(registry.put_manifest(&digest.signature_tag(), signature::encode(&all)).await?)
}

/// The signatures that are there and aren't this key's own from an earlier push.
fn keep(
    reference: &Reference,
    options: &Options,
    digest: Digest,
    key: &PublicKey,
) -> Result<Vec<Signature>, PushError> {
    let mut source = RegistrySource::open(reference, options.source(reference))?;
    let before = source.manifest(&digest.signature_tag(), MAX_MANIFEST)?.unwrap_or_default();
    let mut kept = Vec::new();
    // What stands there and isn't a list of signatures would make every pull fail: it is replaced.
    for signature in signature::list(&before).unwrap_or_default() {
        match small_blob(&mut source, signature.payload, signature.size) {
            Ok(Some(payload)) if !signature.is_by(key, &payload) => kept.push(signature),
            Ok(_) => {}
            Err(SmallBlobError::Open(error)) => return Err(error.into()),
            Err(SmallBlobError::Read(error)) => {
                let registry = reference.registry().to_owned();
                return Err(RegistryError::Reach { registry, cause: chain(&error) }.into());
            }
        }
    }
    Ok(kept)
}

impl From<SourceError> for PushError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Registry(error) => Self::Registry(error),
            // Comes from no registry.
            SourceError::Layout(error) => Self::Registry(RegistryError::Prepare(error.to_string())),
        }
    }
}
