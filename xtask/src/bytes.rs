//! Bytes that can be found again in a built image, and where they are: what wrong images are made with.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// Bytes that no compression shrinks, so that they stand in the image as they are.
pub fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        })
        .collect()
}

/// Where the middle of `content` stands in the file.
pub fn find(image: &Path, content: &[u8]) -> Result<usize> {
    let bytes = fs::read(image)?;
    let middle = content.len() / 2;
    let needle = &content[middle..middle + 64];
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .with_context(|| format!("the incompressible file is not in {} as it is", image.display()))
}
