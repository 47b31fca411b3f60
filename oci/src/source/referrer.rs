//! What refers to an image in its repository: manifests that say so in their `subject` (image-spec 1.1), such as signatures.
//!
//! A registry lists them at `referrers/DIGEST`, an older one under a tag that clients keep (distribution specification,
//! "Listing referrers" and "Referrers tag schema"); a layout has them in its index. Such a list shows nothing: what stands
//! in it is a hint of what may be looked at.

use crate::Digest;
use serde::Deserialize;
use serde_json::Value;

/// The media type of a list.
pub(crate) const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// An image may have many: an SBOM, provenance and scans for each day, some hundred bytes each.
pub(crate) const MAX_INDEX: usize = 1024 * 1024;
/// What the type of every Sigstore bundle begins with, whatever its version.
pub(crate) const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation by which cosign says what a bundle is about.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// A manifest that refers to an image, as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Of the manifest.
    pub digest: Digest,
    /// What the list says that it is; cosign 2 and some registries name the type of its empty configuration.
    pub artifact_type: Option<String>,
    /// What the list says that its bundle is about.
    pub predicate: Option<String>,
}

impl Referrer {
    /// Reads an entry of an index; `None` for one that isn't of a manifest by SHA-256.
    pub(crate) fn parse(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let predicate =
            entry.get("annotations").and_then(|notes| notes.get(PREDICATE)).and_then(Value::as_str);
        Some(Self {
            digest: Digest::parse(text("digest")?)?,
            artifact_type: text("artifactType").map(str::to_owned),
            predicate: predicate.map(str::to_owned),
        })
    }
}

/// The entries of a list. What can't be read is passed over.
pub(crate) fn list(bytes: &[u8]) -> Vec<Referrer> {
    #[derive(Deserialize)]
    struct List {
        manifests: Vec<Value>,
    }
    let list: Option<List> = serde_json::from_slice(bytes).ok();
    list.map(|list| list.manifests.iter().filter_map(Referrer::parse).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_entry_of_ours_is_passed_over() {
        let digest = Digest::of(b"x");
        let list =
            |entries: &str| list(format!("{{\"schemaVersion\":2,\"manifests\":[{entries}]}}").as_bytes());
        let bundle = format!("{BUNDLE_TYPE}.v0.3+json");
        let entries = format!(
            "{{\"digest\":\"sha512:00\"}},null,{{}},7,{{\"digest\":\"{digest}\",\"annotations\":null}},\
             {{\"digest\":\"{digest}\",\"artifactType\":\"{bundle}\",\"annotations\":{{\"{PREDICATE}\":\"p\"}}}}"
        );
        let plain = Referrer { digest, artifact_type: None, predicate: None };
        let full = Referrer { digest, artifact_type: Some(bundle), predicate: Some("p".to_owned()) };
        assert_eq!(list(&entries), [plain, full]);
        for wrong in [&b""[..], b"[]", b"{}", b"\x1f\x8b", b"{\"manifests\":null}"] {
            assert_eq!(super::list(wrong), []);
        }
    }
}
