//! What a release must say of itself, and which are refused on which node.

use super::*;
use astromesh_oci::manifest::Manifest;
use astromesh_oci::{Digest, Evidence, FileName, PublicKey};
use astromesh_proto::boot_entry::BootEntry;
use std::collections::BTreeMap;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn manifest(notes: &[(&str, &str)], kinds: &[Kind]) -> Manifest {
    let layer = |kind: &Kind| Layer {
        kind: *kind,
        digest: Digest::of(b"x"),
        size: 4096,
        name: FileName::parse(&format!("{kind:?}")).unwrap(),
    };
    let annotations: BTreeMap<_, _> =
        notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Manifest { layers: kinds.iter().map(layer).collect(), annotations }
}

/// A manifest that a key has signed; the key is thrown away.
fn signed(manifest: &Manifest) -> Verified {
    let (pem, public): (String, PublicKey) = astromesh_oci::keys::generate().unwrap();
    let key = astromesh_oci::SigningKey::from_pem(pem.as_bytes()).unwrap();
    let evidence = Evidence::sign(&manifest.encode().unwrap(), "registry.example.com/os", &key).unwrap();
    Verified::from_evidence(&evidence, &[public]).unwrap()
}

const HASH: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

fn notes() -> Vec<(&'static str, &'static str)> {
    vec![
        (manifest::VERSION, "0.2.0"),
        (manifest::ROOT_HASH, HASH),
        (manifest::ARCHITECTURE, "x86_64"),
        (manifest::KERNEL, "6.12"),
    ]
}

fn read(notes: &[(&str, &str)], kinds: &[Kind]) -> Result<Candidate, RefuseError> {
    Candidate::read(&signed(&manifest(notes, kinds)))
}

#[test]
fn files_are_named_as_the_slot_writer_reads_them() {
    let candidate = read(&notes(), &KINDS).unwrap();
    assert_eq!(candidate.file_name(Kind::Root), "astromesh_0.2.0_00112233-4455-6677-8899-aabbccddeeff.root");
    assert_eq!(
        candidate.file_name(Kind::Verity),
        "astromesh_0.2.0_ffeeddcc-bbaa-9988-7766-554433221100.verity"
    );
    assert_eq!(candidate.file_name(Kind::Uki), "astromesh_0.2.0.efi");
    assert_eq!(candidate.release.size, 3 * 4096);
}

#[test]
fn a_release_that_does_not_say_what_it_is_is_refused() {
    assert!(read(&notes(), &KINDS).is_ok(), "the twin");
    for key in [manifest::VERSION, manifest::ROOT_HASH, manifest::ARCHITECTURE] {
        let without: Vec<_> = notes().into_iter().filter(|(name, _)| *name != key).collect();
        assert!(matches!(read(&without, &KINDS), Err(RefuseError::ReadManifest(_))), "{key}");
    }
    for (key, value) in
        [(manifest::VERSION, "0.2"), (manifest::VERSION, "../0.2.0"), (manifest::ROOT_HASH, "00")]
    {
        let wrong: Vec<_> =
            notes().into_iter().map(|note| if note.0 == key { (key, value) } else { note }).collect();
        assert!(matches!(read(&wrong, &KINDS), Err(RefuseError::ReadManifest(_))), "{key} {value}");
    }
    let arm: Vec<_> = notes()
        .into_iter()
        .map(|note| if note.0 == manifest::ARCHITECTURE { (note.0, "aarch64") } else { note })
        .collect();
    assert_eq!(read(&arm, &KINDS).unwrap_err(), RefuseError::MatchArchitecture("aarch64".to_owned()));
    assert!(matches!(read(&notes(), &[Kind::Root, Kind::Uki]), Err(RefuseError::ReadManifest(_))));
}

/// On a node that runs `running` by these entries.
fn admit(
    candidate: &Candidate,
    running: &str,
    floor: Option<&str>,
    names: &[&str],
    now: u64,
) -> Result<(), RefuseError> {
    let entries: Vec<_> = names.iter().map(|name| BootEntry::parse(name).unwrap()).collect();
    let standing = Standing { running: version(running), floor: floor.map(version), entries: &entries };
    candidate.admit(&standing, now)
}

const KEPT: &str = "astromesh_0.1.0.efi";

#[test]
fn what_is_older_than_what_runs_or_than_the_floor_is_refused() {
    let candidate = read(&notes(), &KINDS).unwrap();
    let admit = |running, floor| admit(&candidate, running, floor, &[KEPT, "astromesh_0.3.0.efi"], 0);
    assert_eq!(admit("0.1.0", None), Ok(()), "the twin");
    assert_eq!(admit("0.1.0", Some("0.2.0")), Ok(()), "the floor itself may be installed");
    assert_eq!(admit("0.2.0", None), Err(RefuseError::Running(version("0.2.0"))));
    assert_eq!(admit("0.3.0", None), Err(RefuseError::Older(version("0.2.0"), version("0.3.0"))));
    // After a rollback the older release runs, and the floor is still the newer one's.
    assert_eq!(admit("0.1.0", Some("0.2.1")), Err(RefuseError::Floor(version("0.2.0"), version("0.2.1"))));
}

#[test]
fn what_waits_for_its_first_start_is_not_written_again_and_what_failed_may_be() {
    let candidate = read(&notes(), &KINDS).unwrap();
    let admit = |name: &str| admit(&candidate, "0.1.0", None, &[name, KEPT], 0);
    assert!(matches!(admit("astromesh_0.2.0+3-0.efi"), Err(RefuseError::Installed(..))));
    // What was written and never read back is no release yet.
    assert_eq!(admit("astromesh_0.2.0+0-0.efi"), Ok(()));
    assert_eq!(admit("astromesh_0.2.0+0-3.efi"), Ok(()));
    assert_eq!(admit("astromesh_0.3.0+3-0.efi"), Ok(()));
}

#[test]
fn nothing_is_installed_over_the_other_slot_while_what_runs_is_on_trial() {
    let candidate = read(&notes(), &KINDS).unwrap();
    let old = "astromesh_0.0.9.efi";
    let admit = |names: &[&str]| admit(&candidate, "0.1.0", None, names, 0);
    let refused = Err(RefuseError::NotKept(version("0.1.0")));
    assert_eq!(admit(&["astromesh_0.1.0+2-1.efi", old]), refused);
    assert_eq!(admit(&["astromesh_0.1.0+0-3.efi", old]), refused, "its last try");
    // Given up by an operator, and not rebooted yet; or no entry at all.
    assert_eq!(admit(&["astromesh_0.1.0+0-1.efi", old]), refused);
    assert_eq!(admit(&[old]), refused);
    assert_eq!(admit(&[KEPT, old]), Ok(()), "the twin");
    // Both names of one file, as power leaves them in the middle of a blessing: it is kept.
    assert_eq!(admit(&[KEPT, "astromesh_0.1.0+2-1.efi", old]), Ok(()));
}

#[test]
fn what_has_expired_is_refused_and_an_end_that_is_none_is_not_taken_for_no_end() {
    let with = |end| {
        let notes: Vec<_> = notes().into_iter().chain([(manifest::EXPIRES, end)]).collect();
        read(&notes, &KINDS)
    };
    let at = |candidate: &Candidate, now| admit(candidate, "0.1.0", None, &[KEPT], now);
    let ends = with("1800000000").unwrap();
    assert_eq!(at(&ends, 1_799_999_999), Ok(()), "the twin");
    for now in [1_800_000_000, u64::MAX] {
        assert_eq!(at(&ends, now), Err(RefuseError::Expired(1_800_000_000, now)));
    }
    assert_eq!(at(&read(&notes(), &KINDS).unwrap(), u64::MAX), Ok(()));
    for end in ["", "-1", "2027-01-15", "18446744073709551616", "1e9"] {
        assert!(matches!(with(end), Err(RefuseError::ReadManifest(_))), "{end}");
    }
}
