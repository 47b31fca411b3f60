//! Parts as an SPDX 2.3 document in JSON (<https://spdx.github.io/spdx-spec/v2.3/>).
//!
//! The namespace is made of the document's own content, so two documents have the same one exactly when they say the
//! same. Everything is sorted by identifier.

use super::licence::Licence;
use super::part::{File, IMAGE, Part, Place, SbomError};
use crate::cache::hex;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::collections::BTreeSet;

/// The document.
pub(super) fn render(parts: &[Part], created: u64) -> Result<String, SbomError> {
    let mut parts: Vec<_> = parts.iter().collect();
    parts.sort_by(|a, b| a.id.cmp(&b.id));
    let mut names = BTreeSet::new();
    let (mut packages, mut files, mut relationships, mut texts) = (vec![], vec![], vec![], vec![]);
    let mut relate = |from: &str, what: &str, to: &str| {
        relationships
            .push(json!({ "spdxElementId": from, "relationshipType": what, "relatedSpdxElement": to }));
    };
    let image = parts.iter().find(|part| part.place == Place::Image).map_or(IMAGE, |part| &part.id);
    for part in &parts {
        let id = package_id(&part.id);
        if !names.insert(id.clone()) {
            return Err(SbomError::NameEntry(part.id.clone()));
        }
        packages.push(package(part, &id));
        if let Licence::Text(text) = &part.licence {
            texts.push(json!({ "licenseId": licence_ref(&part.id), "extractedText": text }));
        }
        match &part.place {
            Place::Image => relate("SPDXRef-DOCUMENT", "DESCRIBES", &id),
            Place::Contained => relate(&package_id(image), "CONTAINS", &id),
            Place::LinkedInto(programs) => {
                for program in programs {
                    relate(&package_id(program), "STATIC_LINK", &id);
                }
            }
        }
        for file in sorted(&part.files) {
            let file_id = file_id(file);
            if !names.insert(file_id.clone()) {
                return Err(SbomError::NameEntry(file.name.clone()));
            }
            relate(&id, "CONTAINS", &file_id);
            files.push((file.name.as_str(), entry(file, &file_id)));
        }
    }
    files.sort_by(|a, b| a.0.cmp(b.0));

    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image,
        "documentNamespace": "",
        "creationInfo": { "created": date(created), "creators": [format!("Tool: {}", env!("CARGO_PKG_NAME"))] },
        "packages": packages,
        "files": files.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
        "relationships": relationships,
        "hasExtractedLicensingInfos": texts,
    });
    document["documentNamespace"] = namespace(serde_json::to_string(&document)?.as_bytes()).into();
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn package(part: &Part, id: &str) -> Value {
    let mut package = Map::new();
    let mut set = |key: &str, value: Value| package.insert(key.to_owned(), value);
    set("SPDXID", id.into());
    set("name", part.name.as_str().into());
    set("downloadLocation", "NOASSERTION".into());
    set("licenseConcluded", "NOASSERTION".into());
    let declared = match &part.licence {
        Licence::Expression(expression) => expression.clone(),
        Licence::Text(_) => licence_ref(&part.id),
        Licence::Unknown => "NOASSERTION".to_owned(),
    };
    set("licenseDeclared", declared.into());
    set("copyrightText", "NOASSERTION".into());
    set("supplier", part.supplier.as_deref().unwrap_or("NOASSERTION").into());
    set("filesAnalyzed", (!part.files.is_empty()).into());
    if !part.files.is_empty() {
        set(
            "packageVerificationCode",
            json!({ "packageVerificationCodeValue": verification_code(&part.files) }),
        );
    }
    if let Some(version) = &part.version {
        set("versionInfo", version.as_str().into());
    }
    if let Some(sha256) = &part.sha256 {
        set("checksums", json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]));
    }
    if let Some(purl) = &part.purl {
        let reference = json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl });
        set("externalRefs", json!([reference]));
    }
    if let Some(comment) = &part.comment {
        set("comment", comment.as_str().into());
    }
    Value::Object(package)
}

fn entry(file: &File, id: &str) -> Value {
    let mut entry = json!({
        "SPDXID": id,
        "fileName": file.name,
        "checksums": [
            { "algorithm": "SHA1", "checksumValue": file.sums.sha1 },
            { "algorithm": "SHA256", "checksumValue": file.sums.sha256 },
        ],
    });
    if let Some(comment) = &file.comment {
        entry["comment"] = comment.as_str().into();
    }
    entry
}

fn sorted(files: &[File]) -> Vec<&File> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// Section 7.9: SHA-1 of the files' SHA-1s, sorted and joined.
fn verification_code(files: &[File]) -> String {
    let mut sums: Vec<_> = files.iter().map(|file| file.sums.sha1.as_str()).collect();
    sums.sort_unstable();
    hex(&Sha1::digest(sums.concat()))
}

fn package_id(id: &str) -> String {
    format!("SPDXRef-package-{}", plain(id))
}

fn licence_ref(id: &str) -> String {
    format!("LicenseRef-{}", plain(id))
}

/// By the name's hash: paths have characters that an identifier may not have.
fn file_id(file: &File) -> String {
    format!("SPDXRef-file-{}", &hex(&Sha256::digest(file.name.as_bytes()))[..32])
}

/// What an identifier may hold (section 3.2): anything else becomes `.` and its number.
fn plain(id: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    id.chars().map(|c| if keep(c) { c.to_string() } else { format!(".{:x}.", c as u32) }).collect()
}

/// A UUID of the content, version 8 (RFC 9562, 5.8).
fn namespace(content: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(content)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().urn().to_string()
}

/// Seconds since 1970 as RFC 3339 in UTC.
fn date(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origins::Sums;

    fn part(id: &str, place: Place, files: &[&str]) -> Part {
        let file =
            |name: &&str| File { name: (*name).to_owned(), sums: Sums::of(name.as_bytes()), comment: None };
        Part {
            id: id.to_owned(),
            name: id.to_owned(),
            version: Some("1".to_owned()),
            purl: None,
            sha256: None,
            licence: Licence::Unknown,
            supplier: None,
            comment: None,
            place,
            files: files.iter().map(file).collect(),
        }
    }

    #[test]
    fn the_order_of_adding_decides_nothing_and_the_content_decides_the_namespace() {
        let (a, b) = (part("a", Place::Image, &["./x", "./y"]), part("b", Place::Contained, &[]));
        let one = render(&[a.clone(), b.clone()], 0).unwrap();
        let mut turned = a.clone();
        turned.files.reverse();
        assert_eq!(one, render(&[b, turned], 0).unwrap());
        let other = render(&[a], 0).unwrap();
        let namespace =
            |text: &str| serde_json::from_str::<Value>(text).unwrap()["documentNamespace"].clone();
        assert_ne!(namespace(&one), namespace(&other));
    }

    #[test]
    fn two_packages_or_two_files_under_one_name_are_refused() {
        let twice = [part("a", Place::Image, &[]), part("a", Place::Contained, &[])];
        assert!(matches!(render(&twice, 0), Err(SbomError::NameEntry(_))));
        let twice = [part("a", Place::Image, &["./x"]), part("b", Place::Contained, &["./x"])];
        assert!(matches!(render(&twice, 0), Err(SbomError::NameEntry(name)) if name == "./x"));
        let apart = [part("a", Place::Image, &["./x"]), part("b", Place::Contained, &["./y"])];
        assert!(render(&apart, 0).is_ok());
    }

    #[test]
    fn identifiers_of_different_names_differ_and_hold_only_what_they_may() {
        assert_eq!(package_id("libstdc++6"), "SPDXRef-package-libstdc.2b..2b.6");
        assert_ne!(package_id("a+b"), package_id("a_b"));
    }

    #[test]
    fn seconds_become_a_date() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(date(1_735_689_599), "2024-12-31T23:59:59Z");
    }
}
