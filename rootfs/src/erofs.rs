//! The tree as an EROFS image, the same bits from the same tree.

use crate::run::{RunError, checked};
use crate::tools::Tools;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Fixed, since a random one would change the root hash. The root is found by its partition, never by this.
const UUID: &str = "a57e0c1e-0e0f-5000-8000-617374726f6d";
/// Verity's block size and EROFS's: the image is a whole number of these.
const BLOCK: u64 = 4096;

/// The image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// mkfs.erofs refused.
    #[error(transparent)]
    MakeImage(#[from] RunError),
    /// The image is there but can't be brought to a whole number of blocks.
    #[error("padding {path} failed ({source})")]
    PadImage {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How the image is compressed. Each field is one option of mkfs.erofs(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErofsOptions {
    /// `-z`: `lz4hc,12`, `zstd,19`, ...; `None` stores plain.
    pub compression: Option<String>,
    /// `-C`: how much is compressed together, in bytes.
    pub cluster: u32,
    /// `-E`: `ztailpacking`, `fragments`, `dedupe`, ...
    pub features: Vec<String>,
    /// `--compress-hints`: a file that treats some paths apart, such as hot files stored plain.
    pub hints: Option<PathBuf>,
}

impl Default for ErofsOptions {
    /// LZ4 decompresses several times as fast as zstd for a fifth more bytes, and a boot reads most of the image. The tree is
    /// of small files: the end of each lies beside its inode instead of in a block of its own.
    fn default() -> Self {
        Self {
            compression: Some("lz4hc,12".into()),
            cluster: 65536,
            features: vec!["ztailpacking".into()],
            hints: None,
        }
    }
}

impl ErofsOptions {
    /// The options as they stand on the command line.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(compression) = &self.compression {
            arguments.push(format!("-z{compression}"));
            arguments.push(format!("-C{}", self.cluster));
        }
        if !self.features.is_empty() {
            arguments.push(format!("-E{}", self.features.join(",")));
        }
        if let Some(hints) = &self.hints {
            arguments.push(format!("--compress-hints={}", hints.display()));
        }
        arguments
    }

    /// Writes the tree at `stage` as an image: all files root's, all times 0, no extended attributes of the host.
    pub fn make(&self, tools: &Tools, stage: &Path, image: &Path) -> Result<(), ErofsError> {
        let mut command = tools.command("usr/bin/mkfs.erofs");
        command
            .args(["--quiet", "-T0", "--all-root", "-x-1", "-U", UUID, "-Lastromesh"])
            .args(self.arguments());
        checked(command.arg(image).arg(stage))?;
        pad(image).map_err(|source| ErofsError::PadImage { path: image.into(), source })
    }
}

fn pad(image: &Path) -> io::Result<()> {
    let file = fs::File::options().write(true).open(image)?;
    let length = file.metadata()?.len();
    file.set_len(length.next_multiple_of(BLOCK))
}
