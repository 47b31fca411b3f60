//! The parts of the root: Debian packages, wheels, and what is generated here.

use super::licence::Licence;
use super::part::{File, IMAGE, Part, Place, SbomError, purl};
use crate::lock::{DebianLock, Purpose};
use crate::manifest::{Item, Manifest};
use crate::origins::{Origin, Origins};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where the root's files are in the document: `./root/usr/bin/python3.13`.
pub const PREFIX: &str = "./root/";

/// The parts of the staged tree `stage`, from the records that lie beside it. Their first is the image itself.
pub fn parts(stage: &Path, lock: &DebianLock) -> Result<Vec<Part>, SbomError> {
    let origins: Origins = read(&Origins::path_of(stage))?;
    let manifest: Manifest = read(&stage.with_file_name("manifest.json"))?;
    let mut files = files(origins);
    let mut take = |origin: Origin| files.remove(&origin).unwrap_or_default();

    let mut parts = vec![Part {
        id: IMAGE.to_owned(),
        name: "Astromesh OS".to_owned(),
        version: Some(manifest.version.clone()),
        purl: None,
        sha256: None,
        licence: Licence::Expression("MIT OR Apache-2.0".to_owned()),
        supplier: None,
        comment: Some(
            "The files of this package are those that the project writes itself: launcher, configuration, links. \
             Files of other packages are trimmed, stripped and compiled; their sums are those of what is in the image."
                .to_owned(),
        ),
        place: Place::Image,
        files: take(Origin::Ours),
    }];
    for item in &manifest.packages {
        let pinned = lock.of(Purpose::Root).find(|package| package.name == item.name);
        let arch = pinned.map_or("amd64", |package| package.arch.as_str());
        parts.push(Part {
            purl: Some(purl("deb/debian", &item.name, &item.version, &format!("arch={arch}&distro=trixie"))),
            supplier: Some("Organization: Debian".to_owned()),
            files: take(Origin::Debian(item.name.clone())),
            ..part("debian", item, stage)
        });
    }
    for item in &manifest.wheels {
        parts.push(Part {
            purl: Some(purl("pypi", &item.name, &item.version, "")),
            files: take(Origin::Wheel(item.name.clone())),
            ..part("wheel", item, stage)
        });
    }
    match files.into_iter().find_map(|(origin, files)| Some((origin, files.into_iter().next()?))) {
        Some((origin, file)) => {
            Err(SbomError::FindPackage { file: file.name, origin: format!("{origin:?}") })
        }
        None => Ok(parts),
    }
}

fn part(kind: &str, item: &Item, stage: &Path) -> Part {
    let text = fs::read(stage.with_file_name("licences").join(kind).join(&item.name)).ok();
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Part {
        id: format!("{kind}-{}", item.name),
        name: item.name.clone(),
        version: Some(item.version.clone()),
        purl: None,
        sha256: Some(item.sha256.clone()),
        licence: Licence::stated(&item.licences, text.as_deref()),
        supplier: None,
        comment: Some(format!("The package states: {}.", item.licences.join("; "))),
        place: Place::Contained,
        files: Vec::new(),
    }
}

fn files(origins: Origins) -> BTreeMap<Origin, Vec<File>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, entry) in origins.0 {
        let comment = entry.link.map(|target| {
            format!("A symbolic link to {}; the sums are those of this target's text.", target.display())
        });
        let file = File { name: format!("{PREFIX}{}", path.display()), sums: entry.sums, comment };
        files.entry(entry.origin).or_default().push(file);
    }
    files
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, SbomError> {
    let fail = |cause: String| SbomError::ReadRecord { path: path.to_owned(), cause };
    let bytes = fs::read(path).map_err(|error| fail(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))
}
