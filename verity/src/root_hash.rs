//! The root hash: one SHA-256 that stands for every byte of the root file system.
//!
//! It comes from the kernel command line, and it alone is believed: superblock, salt, tree and partition table
//! are read from a disk that anyone may have written. It also names the partitions: the Discoverable Partitions
//! Specification takes their UUIDs from its two ends, so a disk needs no other map from release to slot.

use core::{fmt, str::FromStr};

use uuid::{Uuid, uuid};

use crate::{DIGEST_SIZE, hex};

/// Partition type "root, x86-64" of the Discoverable Partitions Specification.
pub const ROOT_X86_64: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

/// Partition type "verity data for root, x86-64" of the Discoverable Partitions Specification.
pub const ROOT_X86_64_VERITY: Uuid = uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");

/// The digest over the top block of the tree (or over the only data block, when there is just one).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash([u8; DIGEST_SIZE]);

impl RootHash {
    /// A root hash from its 32 bytes.
    pub const fn new(bytes: [u8; DIGEST_SIZE]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; DIGEST_SIZE] {
        &self.0
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

impl FromStr for RootHash {
    type Err = RootHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; DIGEST_SIZE];
        hex::decode(text, &mut bytes).ok_or(RootHashError { length: text.len() })?;
        Ok(Self(bytes))
    }
}

/// Text that is no root hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "root hash of {length} characters refused: expected exactly 64 hexadecimal digits; copy it whole from the build"
)]
pub struct RootHashError {
    /// How many bytes the text had.
    pub length: usize,
}

/// The unique partition GUIDs (`PARTUUID`) of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionUuids {
    /// Of the file system's partition: the first 128 bits of the root hash.
    pub root: Uuid,
    /// Of the hash tree's partition: the last 128 bits.
    pub verity: Uuid,
}

/// The UUIDs under which the partitions of `root_hash` are found. Their text is the hash's own digits, in order.
///
/// Source: Discoverable Partitions Specification, "Root Verity Partition"; `systemd-repart` sets them so.
pub fn partition_uuids(root_hash: &RootHash) -> PartitionUuids {
    let half = |from: usize| Uuid::from_bytes(core::array::from_fn(|i| root_hash.0[from + i]));
    PartitionUuids { root: half(0), verity: half(DIGEST_SIZE / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00112233445566778899aabbccddeefff0e0d0c0b0a090807060504030201000";

    #[test]
    fn a_root_hash_survives_the_way_through_text() {
        let hash: RootHash = TEXT.parse().unwrap();
        assert_eq!(hash.to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse::<RootHash>().unwrap(), hash);
    }

    #[test]
    fn text_that_is_not_exactly_64_digits_is_no_root_hash() {
        let long = format!("{TEXT}0");
        let prefixed = format!("0x{}", &TEXT[2..]);
        let blank = format!(" {}", &TEXT[1..]);
        let signed = format!("+{}", &TEXT[1..]);
        let wide = "é".repeat(32);
        for text in ["", &TEXT[..63], &long, &prefixed, &blank, &signed, &wide] {
            assert!(text.parse::<RootHash>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_partition_uuids_are_the_two_ends_of_the_root_hash() {
        let uuids = partition_uuids(&TEXT.parse().unwrap());
        assert_eq!(uuids.root.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuids.verity.to_string(), "f0e0d0c0-b0a0-9080-7060-504030201000");
    }
}
