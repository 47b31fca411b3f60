//! A TPM for a machine: swtpm, which keeps what a chip keeps in a folder.
//!
//! It exists so that a test can give two machines the same TPM one after the other, take it away, or give another one. The
//! program is of the same lock file as the emulator. It ends with the machine; its folder stays.
//!
//! It refuses to be on a network: QEMU reaches it by a socket in the machine's private directory.

use crate::emulator::{Emulator, EmulatorError};
use crate::process::{Process, ProcessError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A TPM can't be switched on.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// Its program isn't there.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// It could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its standard error has no file.
    #[error("{path} can't be written for the machine's TPM ({source}). Is the temporary directory full?")]
    PrepareFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or took too long.
    #[error("the machine's TPM doesn't listen. Is its folder there, and writable? It said:\n{words}")]
    Listen {
        /// Its standard error.
        words: String,
    },
}

/// Name of the socket in the machine's private directory.
pub(crate) const SOCKET: &str = "tpm";
/// It listens in some milliseconds; this is for a busy host.
const LISTENS_WITHIN: Duration = Duration::from_mins(1);

/// A TPM 2.0 that is off: what it remembers without power.
#[derive(Debug, Clone)]
pub struct Tpm {
    folder: PathBuf,
}

impl Tpm {
    /// The one that keeps its memory in `folder`, which exists; a new one where that is empty.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Switches it on for the machine whose private directory is `dir`.
    pub(crate) fn start(&self, dir: &Path) -> Result<Process, TpmError> {
        let emulator = Emulator::open()?;
        let mut command = emulator.swtpm();
        let socket = dir.join(SOCKET);
        command.args(["socket", "--tpm2", "--terminate"]);
        command.arg("--tpmstate").arg(format!("dir={}", self.folder.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        let words = dir.join("tpm-stderr");
        let errors = fs::File::create(&words)
            .map_err(|source| TpmError::PrepareFile { path: words.clone(), source })?;
        let arguments = command.get_args().map(ToOwned::to_owned).collect();
        let process = Process::start(Path::new(command.get_program()), arguments, errors, dir)?;
        let end = Instant::now() + LISTENS_WITHIN;
        while !socket.exists() {
            if process.status().is_some() || Instant::now() > end {
                let words = fs::read_to_string(&words).unwrap_or_default();
                return Err(TpmError::Listen { words });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }
}
