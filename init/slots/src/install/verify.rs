//! What is staged, verified as if no process had before: signature, admission, digests, and that the files belong together.
//!
//! `update` verified all of it when it fetched it. It also talks to registries, so the process that writes the slot doesn't
//! believe it.

use super::error::InstallError;
use super::view::{FLOOR, STAGED, TRUSTED};
use crate::node::Node;
use astromesh_oci::{Digest, Evidence, Kind, PublicKey, Verified};
use astromesh_proto::boot_entry::BootEntry;
use astromesh_release::floor;
use astromesh_release::staged::{Candidate, EVIDENCE, KINDS, Standing, now};
use astromesh_verity::Superblock;
use astromesh_verity::command_line::root_hash_word;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes read of the evidence: more than a manifest, a payload and a signature may have together.
const MAX_EVIDENCE: u64 = 128 * 1024;

/// Verifies all that is staged, with the machine-config's keys; `entries` are those on the boot partition.
pub fn verify(node: &Node, entries: &[BootEntry]) -> Result<Candidate, InstallError> {
    let keys = keys().ok_or(InstallError::ReadKeys)?;
    let path = Path::new(STAGED).join(EVIDENCE);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_EVIDENCE).read_to_end(&mut bytes))
        .map_err(|cause| InstallError::ReadFile(EVIDENCE.to_owned(), cause))?;
    let evidence = Evidence::decode(&bytes)
        .ok_or_else(|| InstallError::Verify("the staged evidence can't be decoded".to_owned()))?;
    let verified =
        Verified::from_evidence(&evidence, &keys).map_err(|error| InstallError::Verify(error.to_string()))?;
    let candidate = Candidate::read(&verified)?;
    let standing = Standing { running: node.running, floor: floor::read(Path::new(FLOOR)), entries };
    candidate.admit(&standing, now())?;
    for kind in KINDS {
        let name = candidate.file_name(kind);
        let mut file = staged(&candidate, kind)?;
        let (digest, size) =
            Digest::of_file(&mut file).map_err(|cause| InstallError::ReadFile(name.clone(), cause))?;
        let signed = candidate.layer(kind);
        if (digest, size) != (signed.digest, signed.size) {
            return Err(InstallError::MatchFile(name));
        }
    }
    belongs_together(&candidate)?;
    Ok(candidate)
}

/// That root, hash tree and kernel image are of one release: a signature over three digests does not say so.
fn belongs_together(candidate: &Candidate) -> Result<(), InstallError> {
    let root_hash = candidate.root_hash;
    let read = |kind: Kind| {
        let mut bytes = Vec::new();
        staged(candidate, kind)?
            .read_to_end(&mut bytes)
            .map_err(|cause| InstallError::ReadFile(candidate.file_name(kind), cause))?;
        Ok::<_, InstallError>(bytes)
    };
    let tree = read(Kind::Verity)?;
    let superblock = Superblock::parse_prefix(&tree).map_err(|_| InstallError::MatchRootHash(root_hash))?;
    let root = staged(candidate, Kind::Root)?;
    if superblock.data_blocks().checked_mul(4096) != Some(candidate.layer(Kind::Root).size) {
        return Err(InstallError::MatchRootHash(root_hash));
    }
    let mut built = Vec::new();
    match astromesh_verity::format(&root, &superblock, &mut built) {
        Ok(hash) if hash == root_hash && built == tree => {}
        _ => return Err(InstallError::MatchRootHash(root_hash)),
    }
    drop(tree);
    let needle = root_hash_word(&root_hash).to_string();
    if contains(&mut staged(candidate, Kind::Uki)?, needle.as_bytes()).unwrap_or(false) {
        Ok(())
    } else {
        Err(InstallError::MatchKernelImage(root_hash))
    }
}

fn staged(candidate: &Candidate, kind: Kind) -> Result<File, InstallError> {
    let name = candidate.file_name(kind);
    File::open(Path::new(STAGED).join(&name)).map_err(|cause| InstallError::ReadFile(name, cause))
}

/// The keys of the machine-config, each a file.
fn keys() -> Option<Vec<PublicKey>> {
    let files = std::fs::read_dir(TRUSTED).ok()?;
    let keys: Vec<_> = files.map(|file| PublicKey::load(&file.ok()?.path()).ok()).collect::<Option<_>>()?;
    (!keys.is_empty()).then_some(keys)
}

/// How much of a kernel image is searched at once, in bytes.
const SEARCHED_AT_ONCE: usize = 128 * 1024;

/// Whether a file holds these bytes.
fn contains(file: &mut File, needle: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; SEARCHED_AT_ONCE];
    let mut carried = 0;
    loop {
        let count = file.read(&mut buffer[carried..])?;
        if count == 0 {
            return Ok(false);
        }
        let filled = carried + count;
        if buffer[..filled].windows(needle.len()).any(|window| window == needle) {
            return Ok(true);
        }
        // The end is looked at again: the needle may lie across two reads.
        carried = filled.min(needle.len() - 1);
        buffer.copy_within(filled - carried..filled, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that can be read, with the needle at a place.
    fn holds(length: usize, at: usize, needle: &[u8]) -> bool {
        let mut bytes = vec![b'r'; length];
        bytes[at..at + needle.len()].copy_from_slice(needle);
        let path = std::env::temp_dir().join(format!("astromesh-needle-{}-{at}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let found = contains(&mut File::open(&path).unwrap(), b"a-needle=00").unwrap();
        std::fs::remove_file(&path).unwrap();
        found
    }

    #[test]
    fn a_word_is_found_wherever_it_lies_and_another_is_not() {
        let word = b"a-needle=00";
        for at in [0, 1000, SEARCHED_AT_ONCE - 5, SEARCHED_AT_ONCE, 3 * SEARCHED_AT_ONCE - word.len()] {
            assert!(holds(3 * SEARCHED_AT_ONCE, at, word), "{at}");
            assert!(!holds(3 * SEARCHED_AT_ONCE, at, b"a-needle=01"), "{at}");
        }
    }
}
