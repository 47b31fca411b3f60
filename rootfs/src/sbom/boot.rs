//! The part of the boot partition that isn't ours: systemd-boot, and the stub inside the unified kernel image.

use super::licence::Licence;
use super::part::{File, Part, Place, SbomError, purl};
use crate::lock::{DebianLock, Purpose};
use crate::manifest::debian_licences;
use crate::origins::Sums;
use crate::{Tools, esp, uki};
use std::fs;

/// The package of the loader and the stub.
const PACKAGE: &str = "systemd-boot-efi";

/// Its two files: `(name in the document, path in the package)`.
pub const FILES: [(&str, &str); 2] =
    [("./esp/EFI/systemd/systemd-bootx64.efi", esp::LOADER), ("./uki/linuxx64.efi.stub", uki::STUB)];

/// The package that the loader and the stub come from, as `lock` pins it and `tools` has it unpacked.
pub fn part(tools: &Tools, lock: &DebianLock) -> Result<Part, SbomError> {
    let pinned = lock
        .of(Purpose::Tool)
        .find(|package| package.name == PACKAGE)
        .ok_or_else(|| SbomError::FindPackage { file: FILES[0].0.to_owned(), origin: PACKAGE.to_owned() })?;
    let read = |path: &str| {
        let place = tools.file(path);
        fs::read(&place).map_err(|error| SbomError::ReadRecord { path: place, cause: error.to_string() })
    };
    let text = read(&format!("usr/share/doc/{PACKAGE}/copyright"))?;
    let text = String::from_utf8_lossy(&text);
    let licences = debian_licences(&text);
    let files = FILES.map(|(name, path)| -> Result<File, SbomError> {
        Ok(File { name: name.to_owned(), sums: Sums::of(&read(path)?), comment: None })
    });
    Ok(Part {
        id: format!("debian-{PACKAGE}"),
        name: PACKAGE.to_owned(),
        version: Some(pinned.version.clone()),
        purl: Some(purl(
            "deb/debian",
            PACKAGE,
            &pinned.version,
            &format!("arch={}&distro=trixie", pinned.arch),
        )),
        sha256: Some(pinned.sha256.clone()),
        licence: Licence::stated(&licences, Some(&text)),
        supplier: Some("Organization: Debian".to_owned()),
        comment: Some(format!(
            "The package states: {}. The stub is the head of the unified kernel image.",
            licences.join("; ")
        )),
        place: Place::Contained,
        files: files.into_iter().collect::<Result<_, _>>()?,
    })
}
