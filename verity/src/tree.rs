//! Building the hash tree: the image builder's side, never on the node (feature `format`).
//!
//! **Invariant.** What is written equals, byte for byte, the output of
//! `veritysetup format --hash=sha256 --data-block-size=4096 --hash-block-size=4096 --salt=S --uuid=U DATA HASH`
//! into a new file. The tests hold it to that.
//!
//! **Speed.** Hashing is nearly all the time, so the work is shared over the cores in units of one hash block (128 data
//! blocks; reads smaller than those 512 KiB were no faster). The state after the salt is computed once and cloned.
//! `sha2` is used because it was as fast as `ring` where both have the SHA instructions (1.55 and 1.50 GB/s on one core
//! for 4096-byte blocks) and is plain Rust. `examples/race.rs` measures the whole against `veritysetup`.
//!
//! The digests stay in memory until written: 8 MiB for each GiB of data. It refuses to guess the size of the data:
//! the superblock says it, and data that ends earlier is an error.

use std::{
    fs::File,
    io::{self, Write},
    num::NonZero,
    os::unix::fs::FileExt,
    sync::Mutex,
    thread,
};

use sha2::{Digest, Sha256};

use crate::{BLOCK_SIZE, DIGEST_SIZE, RootHash, Superblock, layout::DIGESTS_PER_BLOCK};

/// Bytes that one hash block covers: the unit of work.
const UNIT: usize = BLOCK_SIZE * DIGESTS_PER_BLOCK;

/// Something that several threads can read at chosen places at once.
pub trait ReadAt: Sync {
    /// Fills `out` from the bytes at `offset`.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A finished hash tree, still in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// From the lowest level to the top; each a whole number of blocks.
    levels: Vec<Vec<u8>>,
    root_hash: RootHash,
}

impl Tree {
    /// Hashes the data that `superblock` describes, starting at offset 0 of `data`.
    pub fn build<D: ReadAt + ?Sized>(data: &D, superblock: &Superblock) -> Result<Self, TreeError> {
        let salted = Sha256::new_with_prefix(superblock.salt().as_bytes());
        let mut levels: Vec<Vec<u8>> = Vec::new();
        let mut below = superblock.data_blocks();
        for (number, &blocks) in superblock.layout().levels().iter().enumerate() {
            let level = match levels.last() {
                None => hash_level(data, below, blocks, &salted),
                Some(lower) => hash_level(lower.as_slice(), below, blocks, &salted),
            };
            levels.push(level.map_err(|(offset, source)| TreeError::ReadData {
                level: number,
                offset,
                source,
            })?);
            below = blocks;
        }
        let mut top = [0; BLOCK_SIZE];
        match levels.last() {
            Some(level) => top.copy_from_slice(level),
            None => data.read_exact_at(&mut top, 0).map_err(|source| TreeError::ReadData {
                level: 0,
                offset: 0,
                source,
            })?,
        }
        Ok(Self { levels, root_hash: RootHash::new(hash_block(&salted, &top)) })
    }

    /// The digest over everything.
    pub fn root_hash(&self) -> RootHash {
        self.root_hash
    }

    /// Writes the hash area: `superblock` alone in block 0, then the levels from the top down.
    pub fn write_to(&self, out: &mut impl Write, superblock: &Superblock) -> Result<(), TreeError> {
        let mut first = [0; BLOCK_SIZE];
        first[..crate::superblock::SIZE].copy_from_slice(&superblock.to_bytes());
        out.write_all(&first).map_err(TreeError::WriteHashArea)?;
        for level in self.levels.iter().rev() {
            out.write_all(level).map_err(TreeError::WriteHashArea)?;
        }
        out.flush().map_err(TreeError::WriteHashArea)
    }
}

/// Hashes `data` and writes the whole hash area to `out`, as `veritysetup format` would.
pub fn format<D: ReadAt + ?Sized>(
    data: &D,
    superblock: &Superblock,
    out: &mut impl Write,
) -> Result<RootHash, TreeError> {
    let tree = Tree::build(data, superblock)?;
    tree.write_to(out, superblock)?;
    Ok(tree.root_hash())
}

/// One level: the digests of the `below` blocks of `source`, in `blocks` hash blocks padded with zeros.
///
/// An error carries the offset at which `source` could not be read.
fn hash_level<D: ReadAt + ?Sized>(
    source: &D,
    below: u64,
    blocks: u64,
    salted: &Sha256,
) -> Result<Vec<u8>, (u64, io::Error)> {
    let size = usize::try_from(blocks)
        .ok()
        .and_then(|blocks| blocks.checked_mul(BLOCK_SIZE))
        .ok_or((0, io::ErrorKind::OutOfMemory.into()))?;
    let mut level = vec![0; size];
    // Each thread takes the next hash block to fill: no thread waits for a slower one, and none shares a block.
    let queue = Mutex::new((0..below).step_by(DIGESTS_PER_BLOCK).zip(level.chunks_exact_mut(BLOCK_SIZE)));
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(size / BLOCK_SIZE);
    let work = || -> Result<(), (u64, io::Error)> {
        let mut buffer = vec![0; UNIT];
        loop {
            let next = queue.lock().expect("no thread panics while it holds the queue").next();
            let Some((first, digests)) = next else { return Ok(()) };
            let left = usize::try_from(below - first).unwrap_or(usize::MAX);
            let count = left.min(DIGESTS_PER_BLOCK);
            let input = &mut buffer[..count * BLOCK_SIZE];
            let offset = first * BLOCK_SIZE as u64;
            source.read_exact_at(input, offset).map_err(|error| (offset, error))?;
            for (block, digest) in input.chunks_exact(BLOCK_SIZE).zip(digests.chunks_exact_mut(DIGEST_SIZE)) {
                digest.copy_from_slice(&hash_block(salted, block));
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others
            .into_iter()
            .map(|thread| thread.join().expect("hashing does not panic"))
            .fold(mine, Result::and)
    })?;
    Ok(level)
}

fn hash_block(salted: &Sha256, block: &[u8]) -> [u8; DIGEST_SIZE] {
    salted.clone().chain_update(block).finalize().into()
}

/// Why no tree was made.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The data could not be read, or ended before the superblock's number of blocks.
    #[error(
        "reading the data to hash failed at byte {offset} (tree level {level}): {source}; \
         does the image have the number of 4096-byte blocks that the superblock says?"
    )]
    ReadData {
        /// The level being made; 0 reads the image itself.
        level: usize,
        /// Byte offset of the read.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The hash area could not be written.
    #[error("writing the verity hash area failed: {0}; is there room on the output's file system?")]
    WriteHashArea(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Salt, Uuid};

    fn superblock(blocks: u64) -> Superblock {
        Superblock::new(Uuid::nil(), blocks, Salt::new(b"salt").unwrap()).unwrap()
    }

    #[test]
    fn data_shorter_than_the_superblock_says_is_an_error() {
        for blocks in [1, 2, 129, 300] {
            let data = vec![1; blocks * BLOCK_SIZE - 1];
            let error = Tree::build(data.as_slice(), &superblock(blocks as u64)).unwrap_err();
            assert!(matches!(error, TreeError::ReadData { level: 0, .. }), "{error}");
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_changes_the_root_hash() {
        let mut data = vec![0; 130 * BLOCK_SIZE];
        let superblock = superblock(130);
        let root = |data: &[u8]| Tree::build(data, &superblock).unwrap().root_hash();
        let before = root(&data);
        for at in [0, 4095, 4096, 128 * BLOCK_SIZE, 130 * BLOCK_SIZE - 1] {
            data[at] ^= 1;
            assert_ne!(root(&data), before, "bit at byte {at}");
            data[at] ^= 1;
        }
        assert_eq!(root(&data), before);
    }
}
