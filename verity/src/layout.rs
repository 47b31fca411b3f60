//! Where the levels of a hash tree lie: the arithmetic that the builder and the kernel must agree on.
//!
//! Level 0 holds the digests of the data blocks, each next level those of the one below, until a level fits in one
//! block. On the hash device the superblock comes first, then the levels **from the top down**. One data block has
//! no level at all: its own digest is the root hash.
//!
//! Source: `verity_ctr()` in the kernel's `drivers/md/dm-verity-target.c`, `hash_levels()` in cryptsetup's
//! `lib/verity/verity_hash.c`. It refuses a device of zero blocks or of more than [`MAX_DATA_BLOCKS`].

use crate::{BLOCK_SIZE, DIGEST_SIZE};

/// Digests in one hash block.
pub const DIGESTS_PER_BLOCK: usize = BLOCK_SIZE / DIGEST_SIZE;

/// The most data blocks that a device of 2^63 - 1 bytes can hold (file offsets are signed).
pub const MAX_DATA_BLOCKS: u64 = i64::MAX as u64 / BLOCK_SIZE as u64;

/// Levels that [`MAX_DATA_BLOCKS`] needs: 128^8 = 2^56 is more than 2^51 and 128^7 = 2^49 is less.
pub const MAX_LEVELS: usize = 8;

/// The block of the hash device where the tree begins: block 0 holds the superblock.
pub const HASH_START_BLOCK: u64 = 1;

/// The sizes of a tree's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    blocks: [u64; MAX_LEVELS],
    levels: usize,
}

impl Layout {
    /// The layout for `data_blocks` blocks, or `None` when there is nothing to hash or more than a device can hold.
    pub fn new(data_blocks: u64) -> Option<Self> {
        if !(1..=MAX_DATA_BLOCKS).contains(&data_blocks) {
            return None;
        }
        let mut layout = Self { blocks: [0; MAX_LEVELS], levels: 0 };
        let mut below = data_blocks;
        while below > 1 {
            below = below.div_ceil(DIGESTS_PER_BLOCK as u64);
            layout.blocks[layout.levels] = below;
            layout.levels += 1;
        }
        Some(layout)
    }

    /// Hash blocks in each level, from the lowest (over the data) to the top (one block). Empty for one data block.
    pub fn levels(&self) -> &[u64] {
        &self.blocks[..self.levels]
    }

    /// Blocks that the hash device needs: the superblock's and the tree's.
    pub fn hash_device_blocks(&self) -> u64 {
        HASH_START_BLOCK + self.levels().iter().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_where_a_block_of_digests_is_full() {
        let levels = |blocks| Layout::new(blocks).unwrap().levels().to_vec();
        assert_eq!(levels(1), []);
        assert_eq!(levels(2), [1]);
        assert_eq!(levels(128), [1]);
        assert_eq!(levels(129), [2, 1]);
        assert_eq!(levels(16384), [128, 1]);
        assert_eq!(levels(16385), [129, 2, 1]);
    }

    #[test]
    fn a_device_of_no_blocks_or_too_many_has_no_layout() {
        assert_eq!(Layout::new(0), None);
        assert_eq!(Layout::new(MAX_DATA_BLOCKS + 1), None);
        assert_eq!(Layout::new(u64::MAX), None);
        assert_eq!(Layout::new(MAX_DATA_BLOCKS).unwrap().levels().len(), MAX_LEVELS);
    }
}
