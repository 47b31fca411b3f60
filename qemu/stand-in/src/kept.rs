//! Test data on `/var`: written so that it is on the disk, and told again after another boot.
//!
//! The bytes follow from a seed, so that the gate knows their sum without having seen them.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

/// The most that is kept at once, in MiB.
pub const MOST_MIB: u64 = 1024;

/// The one file, in the runtime's home.
pub fn place() -> PathBuf {
    Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join("kept")
}

/// Writes `mib` MiB of the sequence `seed`, makes sure that they are on the disk, and tells what is there.
pub fn keep(path: &Path, mib: u64, seed: u64) -> io::Result<Value> {
    let mut file = File::create(path)?;
    let mut sequence = Sequence::new(seed);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..mib {
        sequence.fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    // The name must outlive a power cut too.
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    kept(path)
}

/// Size and sum of what an earlier call, or an earlier boot, left; nothing is no bytes.
pub fn kept(path: &Path) -> io::Result<Value> {
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    match File::open(path) {
        Ok(file) => {
            let mut reader = BufReader::with_capacity(1 << 16, file);
            loop {
                let piece = reader.fill_buf()?;
                let length = piece.len();
                if length == 0 {
                    break;
                }
                sum.update(piece);
                bytes += length;
                reader.consume(length);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(json!({ "sha256": format!("{:x}", sum.finalize()), "bytes": bytes }))
}

/// xorshift64*: bytes that don't compress and don't repeat. `astromesh_qemu::release::kept` makes the same ones.
struct Sequence(u64);

impl Sequence {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn fill(&mut self, piece: &mut [u8]) {
        for word in piece.chunks_exact_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            word.copy_from_slice(&self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_told_again_and_follows_from_its_seed() {
        let path = std::env::temp_dir().join(format!("astromesh-stand-in-{}", std::process::id()));
        let first = keep(&path, 2, 7).unwrap();
        assert_eq!(first["bytes"], 2 << 20);
        assert_eq!(kept(&path).unwrap(), first);
        assert_eq!(keep(&path, 2, 7).unwrap(), first);
        assert_ne!(keep(&path, 2, 8).unwrap(), first);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept(&path).unwrap()["bytes"], 0);
    }
}
