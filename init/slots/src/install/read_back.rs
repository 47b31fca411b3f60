//! What was written, read back from the disk and compared with the signed manifest.
//!
//! A staged file belongs to the service that fetched it, and could change under the updater's hands. So what decides is
//! what is on the disk, past the kernel's memory; a boot entry that doesn't stand up to it is taken away, untried.

use super::error::InstallError;
use crate::esp::MOUNTED_ON;
use crate::node::Node;
use astromesh_node::disk;
use astromesh_oci::manifest::Layer;
use astromesh_oci::{Digest, Kind};
use astromesh_proto::boot_entry::{BootEntry, FOLDER};
use astromesh_release::staged::Candidate;
use astromesh_verity::partition_uuids;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Reads back root, hash tree and boot entry.
pub fn check(node: &Node, candidate: &Candidate) -> Result<(), InstallError> {
    let ids = partition_uuids(&candidate.root_hash);
    for (what, kind, id) in [("root", Kind::Root, ids.root), ("hash tree", Kind::Verity, ids.verity)] {
        let wrong = InstallError::CheckWritten(what);
        let label = format!("{what}_{}", candidate.version).replace("hash tree", "verity");
        let found = disk::find(&node.disk, |entry| entry.unique_guid == id && entry.name == *label.as_str());
        let Some(found) = found else { return Err(wrong) };
        let signed = candidate.layer(kind);
        if digest_of_start(&found.device, signed.size).ok() != Some(signed.digest) {
            return Err(wrong);
        }
    }
    let signed = candidate.layer(Kind::Uki);
    if entry(candidate).is_some_and(|path| is_whole(&path, signed)) {
        Ok(())
    } else {
        Err(InstallError::CheckWritten("kernel image"))
    }
}

/// Whether a file is what was signed: these bytes, and no more. A slot has room to spare; a file that is longer was written
/// from another one.
fn is_whole(path: &Path, signed: &Layer) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == signed.size)
        && digest_of_start(path, signed.size).is_ok_and(|digest| digest == signed.digest)
}

/// The new release's boot entry, as it was written. There is one: what an earlier try left was taken away before.
fn entry(candidate: &Candidate) -> Option<PathBuf> {
    let folder = Path::new(MOUNTED_ON).join(FOLDER);
    let names =
        std::fs::read_dir(&folder).ok()?.flatten().filter_map(|file| file.file_name().into_string().ok());
    let mut ours =
        names.filter(|name| BootEntry::parse(name).is_some_and(|entry| entry.version == candidate.version));
    ours.next().map(|name| folder.join(name))
}

/// Takes the new release's boot entry away, so that the boot loader never starts it.
pub fn withdraw(candidate: &Candidate) {
    if let Some(path) = entry(candidate) {
        if let Err(cause) = std::fs::remove_file(&path) {
            log::error!("{} can't be taken away: {cause}; it has no try", path.display());
        }
    }
}

/// Digest of the first `size` bytes, past the kernel's memory: what was read of a slot before is still in there, and what
/// was written through the disk's own node is not.
fn digest_of_start(path: &Path, size: u64) -> io::Result<Digest> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
    // FAT takes O_DIRECT; a file system that doesn't is read as it is.
    let file = File::from(
        file.or_else(|_| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?,
    );
    let aligned = Aligned { file, buffer: vec![0; 2 * PIECE], from: 0, to: 0, place: 0 };
    Digest::of_reader(&mut aligned.take(size)).map(|(digest, _)| digest)
}

/// Bytes read at once, and what their place in memory and on the disk must be a multiple of: the largest sector.
const PIECE: usize = 128 * 1024;
const UNIT: usize = 4096;

/// A reader that gives the kernel aligned buffers, as O_DIRECT asks for (open(2)).
struct Aligned {
    file: File,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    place: u64,
}

impl Read for Aligned {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.from == self.to {
            let start = self.buffer.as_ptr().align_offset(UNIT);
            let count = self.file.read_at(&mut self.buffer[start..start + PIECE], self.place)?;
            (self.from, self.to) = (start, start + count);
            self.place += count as u64;
        }
        let count = into.len().min(self.to - self.from);
        into[..count].copy_from_slice(&self.buffer[self.from..self.from + count]);
        self.from += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_oci::FileName;

    #[test]
    fn a_file_that_goes_on_after_what_was_signed_is_not_what_was_signed() {
        let path = std::env::temp_dir().join(format!("astromesh-read-back-{}", std::process::id()));
        let image = vec![7; 3 * UNIT];
        let signed = Layer {
            kind: Kind::Uki,
            digest: Digest::of(&image),
            size: image.len() as u64,
            name: FileName::parse("uki").unwrap(),
        };
        let is_whole_with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            is_whole(&path, &signed)
        };
        assert!(is_whole_with(&image), "the twin");
        assert!(!is_whole_with(&[&image[..], b"more"].concat()));
        assert!(!is_whole_with(&image[..2 * UNIT]));
        assert!(!is_whole_with(&vec![8; 3 * UNIT]));
        std::fs::remove_file(&path).unwrap();
    }
}
