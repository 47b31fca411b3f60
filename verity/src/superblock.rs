//! The superblock: the 512 bytes that `veritysetup` puts before the tree, version 1.
//!
//! It says what the kernel must be told to read the tree. It is **not** trusted: a forged one can only make the root
//! hash mismatch or cut the device short, since the digests decide. It is still parsed strictly, because whatever it
//! says is passed on to the kernel: every field has one accepted form, padding must be zero, and the parser neither
//! allocates nor panics.
//!
//! Refuses every algorithm, block size and hash type but the project's own.
//!
//! Source: `struct verity_sb` in cryptsetup's lib/verity/verity.c.
//!
//! | offset | size | field (little-endian) |
//! |---|---|---|
//! | 0 | 8 | `verity\0\0` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | hash type, 1 (salt before data, digests in power-of-two slots) |
//! | 16 | 16 | UUID, in the order of its text |
//! | 32 | 32 | algorithm, zero-padded |
//! | 64 | 4 | data block size |
//! | 68 | 4 | hash block size |
//! | 72 | 8 | data blocks |
//! | 80 | 2 | salt size |
//! | 82 | 6 | zero |
//! | 88 | 256 | salt, zero-padded |
//! | 344 | 168 | zero |

use core::ops::Range;

use uuid::Uuid;

use crate::{
    Salt,
    layout::{Layout, MAX_DATA_BLOCKS},
};

/// Bytes of a superblock. On the hash device it stands alone in block 0, the rest of which is zero.
pub const SIZE: usize = 512;

const MAGIC: [u8; 8] = *b"verity\0\0";
const VERSION: u32 = 1;
const HASH_TYPE: u32 = 1;
const BLOCK_SIZE: u32 = 4096;
const _: () = assert!(BLOCK_SIZE as usize == crate::BLOCK_SIZE);
const ALGORITHM: [u8; 32] = {
    let mut field = [0; 32];
    let name = b"sha256";
    let mut i = 0;
    while i < name.len() {
        field[i] = name[i];
        i += 1;
    }
    field
};

const MAGIC_AT: Range<usize> = 0..8;
const VERSION_AT: Range<usize> = 8..12;
const HASH_TYPE_AT: Range<usize> = 12..16;
const UUID_AT: Range<usize> = 16..32;
const ALGORITHM_AT: Range<usize> = 32..64;
const DATA_BLOCK_SIZE_AT: Range<usize> = 64..68;
const HASH_BLOCK_SIZE_AT: Range<usize> = 68..72;
const DATA_BLOCKS_AT: Range<usize> = 72..80;
const SALT_SIZE_AT: Range<usize> = 80..82;
const PADDING_AT: Range<usize> = 82..88;
const SALT_AT: Range<usize> = 88..344;
const TAIL_AT: Range<usize> = 344..SIZE;

/// What a superblock can say that this project doesn't already fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    uuid: Uuid,
    data_blocks: u64,
    layout: Layout,
    salt: Salt,
}

impl Superblock {
    /// A superblock for `data_blocks` blocks of 4096 bytes.
    pub fn new(uuid: Uuid, data_blocks: u64, salt: Salt) -> Result<Self, SuperblockError> {
        let layout = Layout::new(data_blocks).ok_or(SuperblockError::DataBlocks { found: data_blocks })?;
        Ok(Self { uuid, data_blocks, layout, salt })
    }

    /// Reads a superblock.
    pub fn parse(bytes: &[u8; SIZE]) -> Result<Self, SuperblockError> {
        if bytes[MAGIC_AT] != MAGIC {
            return Err(SuperblockError::Magic);
        }
        let expect = |at: Range<usize>, expected: u32| {
            let found = u32::from_le_bytes(field(bytes, at.start));
            if found == expected { Ok(()) } else { Err(found) }
        };
        expect(VERSION_AT, VERSION).map_err(|found| SuperblockError::Version { found })?;
        expect(HASH_TYPE_AT, HASH_TYPE).map_err(|found| SuperblockError::HashType { found })?;
        if bytes[ALGORITHM_AT] != ALGORITHM {
            return Err(SuperblockError::Algorithm);
        }
        expect(DATA_BLOCK_SIZE_AT, BLOCK_SIZE).map_err(|found| SuperblockError::DataBlockSize { found })?;
        expect(HASH_BLOCK_SIZE_AT, BLOCK_SIZE).map_err(|found| SuperblockError::HashBlockSize { found })?;
        let salt_size = u16::from_le_bytes(field(bytes, SALT_SIZE_AT.start));
        let (salt, after) = bytes[SALT_AT]
            .split_at_checked(salt_size.into())
            .ok_or(SuperblockError::SaltSize { found: salt_size })?;
        let salt = Salt::new(salt).map_err(|_| SuperblockError::SaltSize { found: salt_size })?;
        if [after, &bytes[PADDING_AT], &bytes[TAIL_AT]].into_iter().flatten().any(|&byte| byte != 0) {
            return Err(SuperblockError::Padding);
        }
        let data_blocks = u64::from_le_bytes(field(bytes, DATA_BLOCKS_AT.start));
        Self::new(Uuid::from_bytes(field(bytes, UUID_AT.start)), data_blocks, salt)
    }

    /// Reads the superblock at the start of `bytes`, as read from a hash device; what follows is left alone.
    pub fn parse_prefix(bytes: &[u8]) -> Result<Self, SuperblockError> {
        bytes.first_chunk().ok_or(SuperblockError::Truncated { length: bytes.len() }).and_then(Self::parse)
    }

    /// The superblock as `veritysetup` would write it.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let salt = self.salt.as_bytes();
        let mut put =
            |at: Range<usize>, value: &[u8]| bytes[at.start..][..value.len()].copy_from_slice(value);
        put(MAGIC_AT, &MAGIC);
        put(VERSION_AT, &VERSION.to_le_bytes());
        put(HASH_TYPE_AT, &HASH_TYPE.to_le_bytes());
        put(UUID_AT, self.uuid.as_bytes());
        put(ALGORITHM_AT, &ALGORITHM);
        put(DATA_BLOCK_SIZE_AT, &BLOCK_SIZE.to_le_bytes());
        put(HASH_BLOCK_SIZE_AT, &BLOCK_SIZE.to_le_bytes());
        put(DATA_BLOCKS_AT, &self.data_blocks.to_le_bytes());
        put(SALT_SIZE_AT, &self.salt.size().to_le_bytes());
        put(SALT_AT, salt);
        bytes
    }

    /// The UUID of this hash area. It names the formatting, not the contents.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Data blocks covered by the tree; at least 1, at most [`MAX_DATA_BLOCKS`].
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// What is hashed before each block.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Where the tree's levels lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

fn field<const N: usize>(bytes: &[u8; SIZE], at: usize) -> [u8; N] {
    core::array::from_fn(|i| bytes[at + i])
}

/// What is wrong with a superblock, by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Fewer than 512 bytes.
    #[error(
        "verity superblock refused: {length} bytes read, 512 needed; is the partition empty or cut short?"
    )]
    Truncated {
        /// Bytes that were there.
        length: usize,
    },
    /// Not the `verity` signature.
    #[error("verity superblock refused: no signature; is this the hash partition, and was it ever written?")]
    Magic,
    /// A version other than 1.
    #[error("verity superblock refused: version {found}, only 1 is accepted; rebuild the image")]
    Version {
        /// The value on disk.
        found: u32,
    },
    /// A hash type other than 1.
    #[error("verity superblock refused: hash type {found}, only 1 is accepted; format without --format=0")]
    HashType {
        /// The value on disk.
        found: u32,
    },
    /// An algorithm other than SHA-256.
    #[error("verity superblock refused: only algorithm sha256 is accepted; format with --hash=sha256")]
    Algorithm,
    /// A data block size other than 4096.
    #[error("verity superblock refused: data blocks of {found} bytes; format with --data-block-size=4096")]
    DataBlockSize {
        /// The value on disk.
        found: u32,
    },
    /// A hash block size other than 4096.
    #[error("verity superblock refused: hash blocks of {found} bytes; format with --hash-block-size=4096")]
    HashBlockSize {
        /// The value on disk.
        found: u32,
    },
    /// No data, or more than a device can hold.
    #[error(
        "verity superblock refused: {found} data blocks, expected 1 to {MAX_DATA_BLOCKS}; rebuild the image"
    )]
    DataBlocks {
        /// The value on disk.
        found: u64,
    },
    /// A salt longer than its field.
    #[error("verity superblock refused: salt of {found} bytes, at most 256 fit; rebuild the image")]
    SaltSize {
        /// The value on disk.
        found: u16,
    },
    /// Bytes that must be zero are not.
    #[error("verity superblock refused: padding is not zero; the partition is damaged, write it again")]
    Padding,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; SIZE] {
        let uuid = uuid::uuid!("01234567-89ab-cdef-0123-456789abcdef");
        Superblock::new(uuid, 129, Salt::new(&[0xaa, 0xbb]).unwrap()).unwrap().to_bytes()
    }

    fn with(at: usize, value: u8) -> Result<Superblock, SuperblockError> {
        let mut bytes = sample();
        bytes[at] = value;
        Superblock::parse(&bytes)
    }

    #[test]
    fn each_wrong_field_is_refused_by_its_name() {
        assert_eq!(with(0, b'V'), Err(SuperblockError::Magic));
        assert_eq!(with(7, 1), Err(SuperblockError::Magic));
        assert_eq!(with(8, 2), Err(SuperblockError::Version { found: 2 }));
        assert_eq!(with(12, 0), Err(SuperblockError::HashType { found: 0 }));
        assert_eq!(with(37, b'5'), Err(SuperblockError::Algorithm));
        assert_eq!(with(63, 1), Err(SuperblockError::Algorithm));
        assert_eq!(with(65, 2), Err(SuperblockError::DataBlockSize { found: 512 }));
        assert_eq!(with(69, 2), Err(SuperblockError::HashBlockSize { found: 512 }));
        assert_eq!(with(72, 0), Err(SuperblockError::DataBlocks { found: 0 }));
        assert_eq!(with(79, 0xff), Err(SuperblockError::DataBlocks { found: 0xff00_0000_0000_0081 }));
        assert_eq!(with(81, 2), Err(SuperblockError::SaltSize { found: 514 }));
        assert_eq!(with(82, 1), Err(SuperblockError::Padding));
        assert_eq!(with(90, 1), Err(SuperblockError::Padding));
        assert_eq!(with(344, 1), Err(SuperblockError::Padding));
        assert_eq!(with(511, 1), Err(SuperblockError::Padding));
    }
}
