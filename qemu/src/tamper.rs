//! Damage to an image, for the tests that must notice it.
//!
//! It exists so that a gate spoils a private copy and never the image that was built. It refuses to write
//! beyond the end: a flip that only made the file longer would test nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why an image was not damaged as asked.
#[derive(Debug, thiserror::Error)]
pub enum TamperError {
    /// The copy failed.
    #[error("cannot copy the image {from} to {to}: {source}. Check free space and that the image was built")]
    CopyImage {
        /// The image.
        from: PathBuf,
        /// Its copy.
        to: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The byte could not be read or written.
    #[error("cannot flip byte {offset} of {path}: {source}. Check that the offset lies inside the file")]
    FlipByte {
        /// The file.
        path: PathBuf,
        /// Counted from its start.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Copies an image with cp(1): a reflink where the file system knows it, and holes stay holes. (`std::fs::copy` fills
/// them on ext4: two seconds for a disk of 512 MiB that cp copies in a fiftieth of one.)
pub fn copy_image(from: &Path, to: &Path) -> Result<(), TamperError> {
    let failed = |source| TamperError::CopyImage { from: from.into(), to: to.into(), source };
    let mut cp = Command::new("cp");
    cp.args(["--sparse=always", "--reflink=auto", "--"]).arg(from).arg(to).stdin(Stdio::null());
    let output = cp.output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(io::Error::other(said.trim().to_owned())))
}

/// Inverts the eight bits of one byte and returns `(before, after)`.
pub fn flip_byte(path: &Path, offset: u64) -> Result<(u8, u8), TamperError> {
    let flip = || {
        let file: File = OpenOptions::new().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        file.write_all_at(&[!byte[0]], offset)?;
        file.sync_all()?;
        Ok((byte[0], !byte[0]))
    };
    flip().map_err(|source| TamperError::FlipByte { path: path.into(), offset, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_changes_one_byte_of_the_copy_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&original, [7u8; 100]).unwrap();
        copy_image(&original, &copy).unwrap();
        assert_eq!(flip_byte(&copy, 42).unwrap(), (7, 0xf8));
        let spoiled = std::fs::read(&copy).unwrap();
        assert_eq!(spoiled.iter().filter(|b| **b != 7).count(), 1);
        assert_eq!(spoiled[42], 0xf8);
        assert_eq!(std::fs::read(&original).unwrap(), [7u8; 100]);
    }

    #[test]
    fn a_flip_beyond_the_end_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(flip_byte(file.path(), 0).is_err());
        assert_eq!(file.path().metadata().unwrap().len(), 0);
    }
}
