//! The manifest of an artifact: which layers there are, and what they say of themselves.
//!
//! It is an OCI image manifest with an `artifactType` and the empty configuration, as the image specification's
//! guidance for artifacts has it ("Guidelines for Artifact Usage" in image-spec's `manifest.md`): a container runtime
//! that meets it finds neither a configuration nor a layer that it could unpack, and refuses.
//!
//! Reading is strict. A manifest is parsed only after its signature was checked, so a wrong one is a mistake of who
//! signed it; it still gets no way to name a file outside the folder, or to be larger than its bounds.

use crate::Digest;
use crate::layer::{FileName, Kind, TOTAL_LIMIT};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the artifact is.
pub const ARTIFACT_TYPE: &str = "application/vnd.astromesh.os.image.v1";
/// The media type of the manifest itself.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a configuration that isn't one.
pub const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of a configuration that isn't one.
pub const EMPTY: &[u8] = b"{}";
/// The most bytes a manifest may have. Seven layers and the annotations have about 2 KiB.
pub const MAX_MANIFEST: usize = 64 * 1024;

/// OCI's annotation for the version.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The kernel's version.
pub const KERNEL: &str = "os.astromesh.kernel";
/// The agent runtime's version.
pub const RUNTIME: &str = "os.astromesh.runtime";
/// The root hash in hex.
pub const ROOT_HASH: &str = "os.astromesh.root-hash";
/// The machine that it is for, as `uname -m` has it.
pub const ARCHITECTURE: &str = "os.astromesh.architecture";
/// When the release ends, in seconds since 1970: from then on no node installs it. Without it, it never does.
pub const EXPIRES: &str = "os.astromesh.expires";
/// OCI's annotation for the name of a layer's file; other clients name what they pull by it.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";

/// Bytes are not the manifest of an image of Astromesh OS.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Too long.
    #[error("it has more than {MAX_MANIFEST} bytes")]
    Bound,
    /// Not JSON of this form.
    #[error("it is not an OCI image manifest ({0})")]
    Parse(String),
    /// Something else than an image of ours.
    #[error("it is {0:?}, not {ARTIFACT_TYPE}: is the reference right?")]
    MatchType(String),
    /// A configuration: made for a container runtime.
    #[error("it has a configuration, as a container image has")]
    MatchConfig,
    /// A kind of layer that is not known.
    #[error(
        "it has a layer of the kind {0:?}, which this version doesn't know: use the astromeshctl of its release"
    )]
    KnowLayer(String),
    /// A name that can't be a file's.
    #[error("it names a layer {0:?}, which is not a plain file name")]
    NameLayer(String),
    /// Too large.
    #[error("its layers, or one of them, may not be this large: {0} bytes")]
    LimitSize(u64),
    /// No layer, or the same twice.
    #[error("it has {0}")]
    CountLayers(&'static str),
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it holds.
    pub kind: Kind,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The file it is kept in.
    pub name: FileName,
}

/// What an artifact is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// At least one, each of another kind and under another name.
    pub layers: Vec<Layer>,
    /// What the image says of itself.
    pub annotations: BTreeMap<String, String>,
}

/// A reference to bytes in the registry, as it stands in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Annotations, or `null`, as some clients write none.
fn or_none<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Descriptor {
    /// The empty configuration.
    pub(crate) fn empty() -> Self {
        Self {
            media_type: EMPTY_MEDIA_TYPE.to_owned(),
            digest: Digest::of(EMPTY),
            size: EMPTY.len() as u64,
            annotations: BTreeMap::new(),
        }
    }
}

/// The JSON of any image manifest, fields in the specification's order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads an image manifest of any artifact.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::Bound);
        }
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Parse(error.to_string()))?;
        if document.schema_version != 2 || document.media_type != MEDIA_TYPE {
            return Err(ManifestError::MatchType(document.media_type));
        }
        Ok(document)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text, numbers and maps with text as keys are always JSON")
    }
}

/// The layers of any image manifest that can be read: those with another algorithm's digest, or without what a layer has,
/// are somebody else's and passed over.
pub(crate) fn layers(bytes: &[u8]) -> Result<Vec<Descriptor>, ManifestError> {
    /// What is needed of it; a media type may be left out (image-spec, "Image Manifest Property Descriptions").
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Any {
        schema_version: u32,
        media_type: Option<String>,
        layers: Vec<Value>,
    }
    if bytes.len() > MAX_MANIFEST {
        return Err(ManifestError::Bound);
    }
    let any: Any = serde_json::from_slice(bytes).map_err(|error| ManifestError::Parse(error.to_string()))?;
    let media_type = any.media_type.unwrap_or_else(|| MEDIA_TYPE.to_owned());
    if any.schema_version != 2 || media_type != MEDIA_TYPE {
        return Err(ManifestError::MatchType(media_type));
    }
    Ok(any.layers.into_iter().filter_map(|layer| serde_json::from_value(layer).ok()).collect())
}

impl Manifest {
    /// Reads a manifest, refusing what is not an image of Astromesh OS.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let document = Document::parse(bytes)?;
        if document.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            let found = document.artifact_type.unwrap_or(document.config.media_type);
            return Err(ManifestError::MatchType(found));
        }
        if document.config != Descriptor::empty() {
            return Err(ManifestError::MatchConfig);
        }
        let layers = document.layers.iter().map(layer).collect::<Result<_, _>>()?;
        Self { layers, annotations: document.annotations }.check()
    }

    /// The manifest's bytes; the same content always has the same. Refuses what [`Manifest::parse`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let checked = self.clone().check()?;
        let descriptor = |layer: &Layer| Descriptor {
            media_type: layer.kind.media_type().to_owned(),
            digest: layer.digest,
            size: layer.size,
            annotations: BTreeMap::from([(TITLE.to_owned(), layer.name.to_string())]),
        };
        let bytes = Document {
            schema_version: 2,
            media_type: MEDIA_TYPE.to_owned(),
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            config: Descriptor::empty(),
            layers: checked.layers.iter().map(descriptor).collect(),
            annotations: checked.annotations,
        }
        .encode();
        if bytes.len() > MAX_MANIFEST { Err(ManifestError::Bound) } else { Ok(bytes) }
    }

    /// All layers together, in bytes.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    fn check(self) -> Result<Self, ManifestError> {
        if self.layers.is_empty() {
            return Err(ManifestError::CountLayers("no layer"));
        }
        let (mut kinds, mut names, mut total) = (BTreeSet::new(), BTreeSet::new(), 0_u64);
        for layer in &self.layers {
            total = total.saturating_add(layer.size);
            if layer.size > layer.kind.limit() || total > TOTAL_LIMIT {
                return Err(ManifestError::LimitSize(layer.size));
            }
            if !kinds.insert(layer.kind) {
                return Err(ManifestError::CountLayers("two layers of one kind"));
            }
            // Not even names that some file system takes for the same.
            if !names.insert(layer.name.as_str().to_ascii_lowercase()) {
                return Err(ManifestError::CountLayers("two layers of one name"));
            }
        }
        Ok(self)
    }
}

fn layer(descriptor: &Descriptor) -> Result<Layer, ManifestError> {
    let kind = Kind::from_media_type(&descriptor.media_type)
        .ok_or_else(|| ManifestError::KnowLayer(descriptor.media_type.clone()))?;
    let title = descriptor.annotations.get(TITLE).map_or("", String::as_str);
    let name = FileName::parse(title).ok_or_else(|| ManifestError::NameLayer(title.to_owned()))?;
    Ok(Layer { kind, digest: descriptor.digest, size: descriptor.size, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manifest() -> Manifest {
        let layer = |kind, name| Layer {
            kind,
            digest: Digest::of(b"x"),
            size: 1,
            name: FileName::parse(name).unwrap(),
        };
        Manifest {
            layers: vec![layer(Kind::Root, "root.erofs"), layer(Kind::Verity, "root.verity")],
            annotations: BTreeMap::from([(VERSION.to_owned(), "0.1.0".to_owned())]),
        }
    }

    /// The manifest with one value replaced.
    fn with(pointer: &str, value: Value) -> Result<Manifest, ManifestError> {
        let mut json: Value = serde_json::from_slice(&manifest().encode().unwrap()).unwrap();
        *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there")) = value;
        Manifest::parse(json.to_string().as_bytes())
    }

    #[test]
    fn what_is_encoded_is_what_is_parsed() {
        assert_eq!(Manifest::parse(&manifest().encode().unwrap()), Ok(manifest()));
    }

    #[test]
    fn the_same_content_has_the_same_bytes() {
        let digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let expected = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MEDIA_TYPE}\",\"artifactType\":\"{ARTIFACT_TYPE}\",\
             \"config\":{{\"mediaType\":\"{EMPTY_MEDIA_TYPE}\",\
             \"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2}},\
             \"layers\":[{{\"mediaType\":\"application/vnd.astromesh.os.root.v1+erofs\",\"digest\":\"{digest}\",\
             \"size\":1,\"annotations\":{{\"{TITLE}\":\"root.erofs\"}}}},\
             {{\"mediaType\":\"application/vnd.astromesh.os.verity.v1\",\"digest\":\"{digest}\",\
             \"size\":1,\"annotations\":{{\"{TITLE}\":\"root.verity\"}}}}],\
             \"annotations\":{{\"{VERSION}\":\"0.1.0\"}}}}"
        );
        assert_eq!(String::from_utf8(manifest().encode().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_container_image_or_another_artifact_is_refused() {
        let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(EMPTY).to_string(), "size": 2 });
        assert_eq!(with("/config", config), Err(ManifestError::MatchConfig));
        assert_eq!(with("/artifactType", json!("x")), Err(ManifestError::MatchType("x".to_owned())));
        assert!(matches!(with("/artifactType", Value::Null), Err(ManifestError::MatchType(_))));
        assert!(matches!(with("/mediaType", json!("x")), Err(ManifestError::MatchType(_))));
        assert!(matches!(with("/schemaVersion", json!(1)), Err(ManifestError::MatchType(_))));
        assert_eq!(with("/artifactType", json!(ARTIFACT_TYPE)), Ok(manifest()), "the twin");
    }

    #[test]
    fn a_layer_that_could_be_written_elsewhere_or_fill_a_disk_is_refused() {
        let title = "/layers/0/annotations/org.opencontainers.image.title";
        for name in ["../root.erofs", "/root.erofs", "", ".root"] {
            assert_eq!(with(title, json!(name)), Err(ManifestError::NameLayer(name.to_owned())));
        }
        assert_eq!(with("/layers/0/annotations", json!({})), Err(ManifestError::NameLayer(String::new())));
        let limit = Kind::Root.limit();
        assert_eq!(with("/layers/0/size", json!(limit + 1)), Err(ManifestError::LimitSize(limit + 1)));
        assert!(with("/layers/0/size", json!(limit)).is_ok(), "the twin");
        assert!(matches!(with("/layers/0/size", json!(-1)), Err(ManifestError::Parse(_))));
        assert!(matches!(with("/layers/0/digest", json!("sha256:00")), Err(ManifestError::Parse(_))));
    }

    #[test]
    fn layers_that_are_unknown_missing_or_there_twice_are_refused() {
        let unknown = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert_eq!(
            with("/layers/0/mediaType", json!(unknown)),
            Err(ManifestError::KnowLayer(unknown.into()))
        );
        assert!(matches!(with("/layers", json!([])), Err(ManifestError::CountLayers(_))));
        let title = "/layers/1/annotations/org.opencontainers.image.title";
        assert!(matches!(with(title, json!("ROOT.erofs")), Err(ManifestError::CountLayers(_))));
        let verity = Kind::Root.media_type();
        assert!(matches!(with("/layers/1/mediaType", json!(verity)), Err(ManifestError::CountLayers(_))));
    }

    #[test]
    fn what_together_is_too_large_is_refused() {
        let mut both = manifest();
        both.layers[0].size = Kind::Root.limit();
        both.layers[1].kind = Kind::Disk;
        both.layers[1].size = TOTAL_LIMIT - Kind::Root.limit();
        assert!(both.encode().is_ok(), "the twin");
        both.layers[1].size += 1;
        assert!(both.layers[1].size <= Kind::Disk.limit());
        assert!(matches!(both.encode(), Err(ManifestError::LimitSize(_))));
    }

    #[test]
    fn bytes_over_the_bound_are_refused_unread() {
        let mut bytes = manifest().encode().unwrap();
        bytes.resize(MAX_MANIFEST, b' ');
        assert!(Manifest::parse(&bytes).is_ok(), "the twin");
        bytes.push(b' ');
        assert_eq!(Manifest::parse(&bytes), Err(ManifestError::Bound));
    }
}
