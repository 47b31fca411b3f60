//! Images from a registry: `astromeshctl image pull` and `image verify`.
//!
//! The work is astromesh-oci's; here are the keys' files, the exit codes, and what an operator sees meanwhile: a moving
//! line on a terminal, plain lines everywhere else, both on standard error.

use crate::exit;
use crate::terminal::clean;
use astromesh_oci::{
    Credentials, KeyError, Options, Progress, PublicKey, PullError, Pulled, Reference, RegistryError,
    Verified, VerifyError,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// a key can't be used
    #[error(transparent)]
    ReadKey(#[from] KeyError),
    /// it was not pulled
    #[error(transparent)]
    Pull(#[from] PullError),
}

impl ImageError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ReadKey(_) => exit::USAGE,
            Self::Pull(error) => match error {
                PullError::Registry(error) | PullError::Verify(VerifyError::Registry(error)) => {
                    registry(error)
                }
                PullError::Verify(
                    VerifyError::Trust | VerifyError::FindImage(_) | VerifyError::Layout(_),
                )
                | PullError::KeepFile(_)
                | PullError::Lock(_)
                | PullError::UseFile { .. } => exit::USAGE,
                PullError::Verify(VerifyError::ReadManifest { .. } | VerifyError::ReadSignatures { .. }) => {
                    exit::PROTOCOL
                }
                PullError::Verify(_) | PullError::MatchLayer { .. } | PullError::Fetch(_) => exit::REFUSED,
                PullError::ReceiveLayer { .. } => exit::UNREACHABLE,
            },
        }
    }
}

fn registry(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Prepare(_) => exit::USAGE,
        RegistryError::Reach { .. } => exit::UNREACHABLE,
        RegistryError::Authenticate { .. } => exit::REFUSED,
        RegistryError::Answer { .. } | RegistryError::Bound { .. } => exit::PROTOCOL,
    }
}

/// Checks who signed an image.
pub fn verify(reference: &Reference, keys: &[PathBuf], timeout: Duration) -> Result<Verified, ImageError> {
    let verified = astromesh_oci::verify(reference, &load(keys)?, &options(timeout));
    Ok(verified.map_err(PullError::from)?)
}

/// Pulls an image into a folder.
pub fn pull(
    reference: &Reference,
    keys: &[PathBuf],
    out: &Path,
    timeout: Duration,
) -> Result<Pulled, ImageError> {
    let mut display = Display::new();
    let keys = load(keys)?;
    let pulled =
        astromesh_oci::pull(reference, &keys, out, &options(timeout), &mut |progress| display.show(progress));
    Ok(pulled?)
}

fn load(paths: &[PathBuf]) -> Result<Vec<PublicKey>, KeyError> {
    paths.iter().map(|path| PublicKey::load(path)).collect()
}

fn options(timeout: Duration) -> Options {
    Options { credentials: Credentials::from_environment(), idle: timeout, ..Options::default() }
}

/// What is seen while layers come.
struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Verified(verified) => {
                self.say(&format!("{} is signed by {}", verified.digest(), verified.key().fingerprint()));
            }
            Progress::Layer { name, received, size } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(size);
                    bar.set_position(received);
                    bar.set_message(name.to_owned());
                }
                if received == size {
                    self.say(&format!("{name}: {size} bytes"));
                }
            }
            Progress::Broken { name, received, cause } => {
                self.say(&format!("{name}: broken off after {received} bytes ({cause}); trying again"));
            }
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        let text = clean(text);
        match &self.bar {
            Some(bar) => bar.println(format!("  {text}")),
            // Standard error may be closed; the image is pulled all the same.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
