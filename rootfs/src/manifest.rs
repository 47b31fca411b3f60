//! What is in the image, for whoever must answer for it: each package and wheel with its version, sum and licence.
//!
//! A licence is copied from where its package states it and never guessed: the `License:` fields of a machine-readable
//! Debian copyright file (DEP-5), or a wheel's `License-Expression`, `License` or licence classifiers. Where neither
//! says it in a form that can be read, the entry says so and names the file.

use crate::closure::Sources;
use crate::components::Components;
use crate::tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The whole manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the image.
    pub version: String,
    /// Debian packages in the root.
    pub packages: Vec<Item>,
    /// Wheels in the root.
    pub wheels: Vec<Item>,
    /// What each component weighs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
}

/// One package or wheel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// Its name in its archive.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// SHA-256 of the file it came in.
    pub sha256: String,
    /// The licences that it states, sorted.
    pub licences: Vec<String>,
}

/// Said where a package's copyright file is prose.
const PROSE: &str = "see the package's copyright file";

impl Manifest {
    /// Reads the licences from the untrimmed `stage`.
    pub(crate) fn read(stage: &Path, sources: &Sources<'_>, version: &str) -> io::Result<Self> {
        let mut packages = Vec::new();
        for package in sources.debian.of(crate::lock::Purpose::Root) {
            // Some packages' documentation directory is a link to that of a package they depend on.
            let file = stage.join("usr/share/doc").join(&package.name).join("copyright");
            let licences = fs::read(file).map(|text| debian_licences(&String::from_utf8_lossy(&text)));
            packages.push(Item {
                name: package.name.clone(),
                version: package.version.clone(),
                sha256: package.sha256.clone(),
                licences: licences.unwrap_or_else(|_| vec![PROSE.into()]),
            });
        }
        let mut wheels = Vec::new();
        let metadata = wheel_metadata(&stage.join(crate::closure::SITE))?;
        for wheel in &sources.python.wheels {
            let found = metadata.iter().find(|(name, _)| *name == wheel.name);
            wheels.push(Item {
                name: wheel.name.clone(),
                version: wheel.version.clone(),
                sha256: wheel.sha256.clone(),
                licences: found.map_or_else(|| vec!["not stated".into()], |(_, text)| wheel_licences(text)),
            });
        }
        Ok(Self { version: version.into(), packages, wheels, components: None })
    }

    /// Drops the wheels that the trim rules cut whole: their METADATA went with them.
    pub(crate) fn retain_present(&mut self, stage: &Path) -> io::Result<()> {
        let present = wheel_metadata(&stage.join(crate::closure::SITE))?;
        self.wheels.retain(|wheel| present.iter().any(|(name, _)| *name == wheel.name));
        Ok(())
    }

    /// The manifest as JSON text.
    pub fn render(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Keeps the text in which each package and wheel states its licence, as `dir/debian/NAME` and `dir/wheel/NAME`: the
/// trim rules cut it from the image, and the bill of materials quotes it where the statement is no SPDX expression.
///
/// Reads the untrimmed `stage`. Of a wheel: its licence files, or the licence fields of its METADATA when it has none.
pub(crate) fn keep_texts(stage: &Path, manifest: &Manifest, dir: &Path) -> io::Result<()> {
    for kind in ["debian", "wheel"] {
        fs::create_dir_all(dir.join(kind))?;
    }
    for package in &manifest.packages {
        let file = stage.join("usr/share/doc").join(&package.name).join("copyright");
        // A package without one violates Debian Policy 12.5; then there is nothing to quote.
        if let Ok(text) = fs::read(file) {
            fs::write(dir.join("debian").join(&package.name), text)?;
        }
    }
    for (info, name, metadata) in wheel_infos(&stage.join(crate::closure::SITE))? {
        let mut text = String::new();
        for entry in tree::walk(&info)?.iter().filter(|entry| entry.metadata.is_file()) {
            let file = entry.path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
            if ["LICEN", "COPYING", "NOTICE"].iter().any(|start| file.starts_with(start)) {
                text += &String::from_utf8_lossy(&fs::read(info.join(&entry.path))?);
            }
        }
        if text.trim().is_empty() {
            let headers = metadata.lines().take_while(|line| !line.is_empty());
            let stated: Vec<_> = headers.filter(|line| line.contains("License")).collect();
            text = stated.join("\n");
        }
        fs::write(dir.join("wheel").join(name), text)?;
    }
    Ok(())
}

/// `(normalised name, METADATA)` of each wheel in site-packages.
fn wheel_metadata(site: &Path) -> io::Result<Vec<(String, String)>> {
    Ok(wheel_infos(site)?.into_iter().map(|(_, name, text)| (name, text)).collect())
}

/// The same with the directory in which it lies.
fn wheel_infos(site: &Path) -> io::Result<Vec<(PathBuf, String, String)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(site)? {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            let text = String::from_utf8_lossy(&fs::read(path.join("METADATA"))?).into_owned();
            let name = header(&text, "Name")
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
                .replace(['_', '.'], "-");
            found.push((path, name, text));
        }
    }
    Ok(found)
}

/// The values of a field in the headers of a METADATA file.
fn header<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let headers = text.lines().take_while(|line| !line.is_empty());
    headers.filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": ").map(str::trim))
}

fn wheel_licences(text: &str) -> Vec<String> {
    // Core metadata 2.4: where License-Expression is there, it alone counts.
    if let Some(expression) = header(text, "License-Expression").next() {
        return vec![expression.to_owned()];
    }
    let classifiers = header(text, "Classifier").filter_map(|line| line.strip_prefix("License :: "));
    let mut found: BTreeSet<_> =
        classifiers.map(|line| line.rsplit(" :: ").next().unwrap_or(line).to_owned()).collect();
    if found.is_empty() {
        // The free-form field often holds the whole text of the licence; its first line names it.
        found.extend(header(text, "License").next().map(str::to_owned));
    }
    if found.is_empty() {
        found.extend(header(text, "License-File").map(|file| format!("see {file} in the wheel")));
    }
    if found.is_empty() { vec!["not stated".into()] } else { found.into_iter().collect() }
}

pub(crate) fn debian_licences(text: &str) -> Vec<String> {
    if !text.starts_with("Format:") {
        return vec![PROSE.into()];
    }
    let names = text.lines().filter_map(|line| line.strip_prefix("License:")).map(str::trim);
    let found: BTreeSet<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if found.is_empty() { vec![PROSE.into()] } else { found.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_readable_copyright_file_gives_its_licences() {
        let text = "Format: x\n\nFiles: *\nLicense: Zlib\n\nFiles: debian/*\nLicense: GPL-2+\n text\n\nLicense: Zlib\n text\n";
        assert_eq!(debian_licences(text), ["GPL-2+", "Zlib"]);
    }

    #[test]
    fn a_prose_copyright_file_is_named_and_not_guessed_at() {
        assert_eq!(debian_licences("This is under the License: MIT\n"), [PROSE]);
    }

    #[test]
    fn a_wheels_expression_wins_over_its_classifiers() {
        let text = "Name: x\nLicense-Expression: MIT\nClassifier: License :: OSI Approved :: BSD License\n\nLicense: no\n";
        assert_eq!(wheel_licences(text), ["MIT"]);
        assert_eq!(wheel_licences(&text.replace("License-Expression: MIT\n", "")), ["BSD License"]);
    }
}
