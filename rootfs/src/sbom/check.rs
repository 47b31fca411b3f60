//! Whether a document accounts for a tree: read from its bytes again, as somebody else would.
//!
//! This is not the validator of the format (that is one that others wrote, see `cargo xtask test`); it holds the promise
//! that no validator can: that each file of the image stands in the document once, with the sums that it has, and belongs
//! to one package.

use super::root::PREFIX;
use crate::origins::Sums;
use crate::tree;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The document.
    #[error("the bill of materials is not the JSON of an SPDX document ({0}): run `cargo xtask build`")]
    ParseDocument(#[from] serde_json::Error),
    /// The tree.
    #[error("the staged tree can't be read ({0}): run `cargo xtask build`")]
    ReadTree(#[from] std::io::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    packages: Vec<Package>,
    files: Vec<File>,
    relationships: Vec<Relationship>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(rename = "fileName")]
    name: String,
    checksums: Vec<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    #[serde(rename = "relationshipType")]
    kind: String,
    related_spdx_element: String,
}

/// What keeps `document` from accounting for the tree `stage`; empty when each file maps to exactly one entry, and each
/// entry to a file.
pub fn faults(document: &str, stage: &Path) -> Result<Vec<String>, CheckError> {
    let document: Document = serde_json::from_str(document)?;
    let mut entries: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in &document.files {
        if let Some(path) = file.name.strip_prefix(PREFIX) {
            entries.entry(path).or_default().push(file);
        }
    }
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for relationship in &document.relationships {
        let by_package = document.packages.iter().any(|package| package.id == relationship.spdx_element_id);
        if relationship.kind == "CONTAINS" && by_package {
            *owners.entry(&relationship.related_spdx_element).or_default() += 1;
        }
    }
    let mut faults = Vec::new();
    for found in tree::walk(stage)?.iter().filter(|found| !found.metadata.is_dir()) {
        let path = found.path.to_string_lossy();
        let entry = match entries.remove(&*path).as_deref() {
            Some([entry]) => *entry,
            Some(several) => {
                faults.push(format!("{path}: {} entries", several.len()));
                continue;
            }
            None => {
                faults.push(format!("{path}: no entry"));
                continue;
            }
        };
        let owners = owners.get(entry.id.as_str()).copied().unwrap_or_default();
        if owners != 1 {
            faults.push(format!("{path}: belongs to {owners} packages"));
        }
        let sums = Sums::of_path(&stage.join(&found.path))?;
        for (algorithm, sum) in [("SHA1", &sums.sha1), ("SHA256", &sums.sha256)] {
            let stated: Vec<_> = entry.checksums.iter().filter(|one| one.algorithm == algorithm).collect();
            if !matches!(stated[..], [one] if one.checksum_value == *sum) {
                faults.push(format!("{path}: its {algorithm} is not the entry's"));
            }
        }
    }
    faults.extend(entries.keys().map(|path| format!("{path}: not in the image")));
    Ok(faults)
}
