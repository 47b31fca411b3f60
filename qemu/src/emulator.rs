//! The emulator that every machine runs in: one QEMU, one firmware and one software TPM for all hosts.
//!
//! They come from pinned Debian packages (`qemu/emulator.lock`), are unpacked into the cache, and run through their own
//! `ld.so`. So a figure or a verdict of a gate never depends on which QEMU the host has, and the host needs none.
//! Why this version: `docs/decisions/021-one-emulator-for-every-host.md`.
//!
//! It refuses to fall back to a QEMU of the host.

use astromesh_rootfs::lock::{DebianLock, LockError};
use astromesh_rootfs::{Cache, CacheError, ToolError, Tools};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The lock file of these packages, from the project's root on.
pub const LOCK: &str = "qemu/emulator.lock";

/// QEMU, in the tree.
const QEMU: &str = "usr/bin/qemu-system-x86_64";
/// Where QEMU looks for what it loads into machines: its own files, and SeaBIOS.
const DATA: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];
/// OVMF's code. Without System Management Mode: nothing here is measured yet.
const FIRMWARE_CODE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
/// OVMF's empty variables; each machine gets a copy.
const FIRMWARE_VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// There is no emulator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmulatorError {
    /// The lock file is not one.
    #[error("{LOCK} can't be read: {0}")]
    ReadLock(String),
    /// The packages could not be brought here or unpacked.
    #[error("the pinned QEMU can't be unpacked: {0}")]
    Unpack(String),
    /// It does not run.
    #[error("the pinned QEMU can't be started: {0}")]
    Start(String),
}

impl From<LockError> for EmulatorError {
    fn from(error: LockError) -> Self {
        Self::ReadLock(error.to_string())
    }
}

impl From<ToolError> for EmulatorError {
    fn from(error: ToolError) -> Self {
        Self::Unpack(error.to_string())
    }
}

impl From<CacheError> for EmulatorError {
    fn from(error: CacheError) -> Self {
        Self::Unpack(error.to_string())
    }
}

/// The unpacked emulator.
#[derive(Debug, Clone)]
pub struct Emulator(Tools);

impl Emulator {
    /// The emulator of [`LOCK`]; brought here first if it isn't in the cache, which takes a minute, once.
    pub fn open() -> Result<&'static Self, EmulatorError> {
        static EMULATOR: OnceLock<Result<Emulator, EmulatorError>> = OnceLock::new();
        let opened = EMULATOR.get_or_init(|| Self::unpack(&|text| eprintln!("  {text}")));
        opened.as_ref().map_err(Clone::clone)
    }

    fn unpack(progress: &dyn Fn(&str)) -> Result<Self, EmulatorError> {
        let cache = Cache::open(&Cache::default_path()?)?;
        let lock = DebianLock::parse(include_str!("../emulator.lock"))?;
        Ok(Self(Tools::open(&cache, &lock, progress)?))
    }

    /// The program to start and its first arguments: what a machine is made of comes after them.
    pub(crate) fn command_line(&self) -> (PathBuf, Vec<OsString>) {
        let command = self.0.command(QEMU);
        let mut arguments: Vec<OsString> = command.get_args().map(ToOwned::to_owned).collect();
        for folder in DATA {
            arguments.extend(["-L".into(), self.0.file(folder).into()]);
        }
        (command.get_program().into(), arguments)
    }

    /// The code of the UEFI firmware.
    pub fn firmware_code(&self) -> PathBuf {
        self.0.file(FIRMWARE_CODE)
    }

    /// The variables of a UEFI firmware that has never run.
    pub fn firmware_variables(&self) -> PathBuf {
        self.0.file(FIRMWARE_VARIABLES)
    }

    /// The first line of what QEMU says of its version.
    pub fn version(&self) -> Result<String, EmulatorError> {
        let failed = |why: String| EmulatorError::Start(why);
        let mut command = self.0.command(QEMU);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// The software TPM.
    pub fn swtpm(&self) -> Command {
        self.0.command("usr/bin/swtpm")
    }
}
