//! `image pull` and `image verify`: what an image is and who signed it.

use super::look::{Look, cell, json, table};
use astromesh_oci::{Digest, Kind, Reference, Verified};
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is shown of an image.
pub struct Image<'a> {
    /// Where it is.
    pub reference: &'a Reference,
    /// What it is.
    pub verified: &'a Verified,
    /// Where its files are now; none when it was not pulled.
    pub files: &'a [PathBuf],
}

/// For people: the image as a table, and its layers as another.
pub fn image(image: &Image<'_>, look: Look) -> String {
    let verified = image.verified;
    let mut whole = table(look, &["image", ""]);
    whole.set_header([cell("image"), cell(&image.reference.to_string())]);
    whole.add_row([cell("digest"), cell(&verified.digest().to_string())]);
    whole.add_row([cell("signed by"), cell(&verified.key().fingerprint().to_string())]);
    for (name, value) in &verified.manifest().annotations {
        whole.add_row([cell(name), cell(value)]);
    }
    let mut layers = table(look, &["layer", "bytes", "digest"]);
    for (at, layer) in verified.manifest().layers.iter().enumerate() {
        let name = image.files.get(at).map_or(layer.name.to_string(), |path| path.display().to_string());
        let size = Cell::new(layer.size).set_alignment(CellAlignment::Right);
        layers.add_row([cell(&name), size, cell(&layer.digest.to_string())]);
    }
    format!("{whole}\n{layers}\n")
}

/// For programs.
pub fn image_json(image: &Image<'_>) -> String {
    #[derive(Serialize)]
    struct Layer<'a> {
        name: &'a str,
        kind: Kind,
        size: u64,
        digest: Digest,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a Path>,
    }
    #[derive(Serialize)]
    struct Shown<'a> {
        image: String,
        digest: Digest,
        signed_by: Digest,
        annotations: &'a BTreeMap<String, String>,
        layers: Vec<Layer<'a>>,
    }
    let verified = image.verified;
    let layers = verified.manifest().layers.iter().enumerate().map(|(at, layer)| Layer {
        name: layer.name.as_str(),
        kind: layer.kind,
        size: layer.size,
        digest: layer.digest,
        file: image.files.get(at).map(PathBuf::as_path),
    });
    json(&Shown {
        image: image.reference.to_string(),
        digest: verified.digest(),
        signed_by: verified.key().fingerprint(),
        annotations: &verified.manifest().annotations,
        layers: layers.collect(),
    })
}
