//! The two sizes that every other file counts in. They stand apart from `lib.rs`, which re-exports all the others: a file
//! that needs a size need not import the crate's list of contents.

/// Bytes in a data block and in a hash block. The only size accepted: it is the page size of the machines the image
/// runs on, and a larger block would make each random read hash more than it needs.
pub const BLOCK_SIZE: usize = 4096;

/// Bytes in a SHA-256 digest.
pub const DIGEST_SIZE: usize = 32;
