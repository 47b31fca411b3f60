//! What an artifact is made of: each kind of layer with its media type and the most it may weigh, and the file name
//! under which it is kept.
//!
//! The bounds are what an honest image of the next years can need, several times over; they exist so that a registry
//! can't fill a disk before a digest is found to be wrong.

use serde::Serialize;
use std::fmt;

/// What a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The unified kernel image: kernel, initramfs and command line in one EFI program.
    Uki,
    /// The root file system, EROFS.
    Root,
    /// The root's hash tree.
    Verity,
    /// The bootable disk, compressed with zstd.
    Disk,
    /// What is inside, as SPDX.
    Sbom,
    /// What each component weighs.
    Size,
    /// How UKI and root are cut into chunks, so that who has most of them fetches only the rest (`chunks.rs`).
    Chunks,
}

const MIB: u64 = 1024 * 1024;

impl Kind {
    /// Every kind, in the order in which they are pushed.
    pub const ALL: [Self; 7] =
        [Self::Uki, Self::Root, Self::Verity, Self::Disk, Self::Sbom, Self::Size, Self::Chunks];

    /// The layer's media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Uki => "application/vnd.astromesh.os.uki.v1",
            Self::Root => "application/vnd.astromesh.os.root.v1+erofs",
            Self::Verity => "application/vnd.astromesh.os.verity.v1",
            Self::Disk => "application/vnd.astromesh.os.disk.v1.raw+zstd",
            Self::Sbom => "application/vnd.astromesh.os.sbom.v1+json",
            Self::Size => "application/vnd.astromesh.os.size.v1+json",
            Self::Chunks => "application/vnd.astromesh.os.chunks.v1",
        }
    }

    /// The kind with this media type.
    pub fn from_media_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.media_type() == text)
    }

    /// The most bytes that a layer of this kind may have.
    pub const fn limit(self) -> u64 {
        match self {
            // Kernel and initramfs have about 10 MB; an EFI system partition has 256 MiB or so.
            Self::Uki => 128 * MIB,
            // The whole image's goal is 48 MB.
            Self::Root => 1024 * MIB,
            // A hash tree of 32-byte hashes over 4 KiB blocks has 1/127 of its data.
            Self::Verity => 16 * MIB,
            // The root once more, and the rest of a disk, which compresses to little.
            Self::Disk => 2048 * MIB,
            Self::Sbom => 64 * MIB,
            Self::Size => MIB,
            // An image of 40 MB has about 2,400 chunks of 19 bytes each.
            Self::Chunks => 4 * MIB,
        }
    }
}

/// The most that all layers of an artifact may have together. Less than the sum of what each may: root and disk hold
/// the same bytes, so a root near its limit leaves no room for a disk that is near its own.
pub const TOTAL_LIMIT: u64 = 2560 * MIB;

/// The longest file name taken: file systems have 255 bytes, and a temporary name must fit beside it.
const MAX_NAME: usize = 128;

/// A plain file name: letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`.
///
/// It comes from a manifest and becomes a file below the folder that an operator named, so it can hold no separator, no
/// way up, nothing hidden and nothing that a command would take for an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FileName(String);

impl FileName {
    /// `None` unless the name is plain.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        (text.len() <= MAX_NAME && text.as_bytes().first().is_some_and(begins) && text.bytes().all(plain))
            .then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_media_type_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_media_type(kind.media_type()), Some(kind));
        }
        assert_eq!(Kind::from_media_type("application/vnd.oci.image.layer.v1.tar+gzip"), None);
    }

    #[test]
    fn no_media_type_is_one_that_a_container_runtime_unpacks() {
        for kind in Kind::ALL {
            let text = kind.media_type();
            assert!(text.starts_with("application/vnd.astromesh.os.") && !text.contains("tar"), "{text}");
        }
    }

    #[test]
    fn one_layer_of_each_kind_fits_the_whole_only_below_the_limits() {
        assert!(Kind::ALL.iter().all(|kind| kind.limit() <= TOTAL_LIMIT));
        assert!(Kind::ALL.iter().map(|kind| kind.limit()).sum::<u64>() > TOTAL_LIMIT, "or it bounds nothing");
    }

    #[test]
    fn only_plain_file_names_are_taken() {
        for name in ["root.erofs", "disk.raw.zst", "a", "_x", "sbom.spdx.json", "A-1"] {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            ".hidden",
            "-rf",
            "a b",
            "a\0",
            "a\n",
            "é",
            &long,
        ] {
            assert_eq!(FileName::parse(name), None, "{name:?}");
        }
    }
}
