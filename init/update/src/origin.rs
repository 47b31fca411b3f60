//! Where a release comes from: the registry of the machine-config, or a drive. Both are places that keep bytes; neither is
//! trusted.

use crate::error::UpdateError;
use crate::shared::Shared;
use astromesh_oci::{
    Credentials, LayoutSource, PublicKey, Reference, RegistrySource, Source, SourceOptions, Verified,
    roots_from_pem, verify_with,
};
use astromesh_proto::ipc::SlotsWork;
use astromesh_proto::update::Origin;
use astromesh_settings::UPDATE_CERTIFICATES;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a drive's layout was copied to.
const FROM_DRIVE: &str = "/var/lib/update/drive";

/// A release's manifest, verified, and where its files are.
pub struct Found {
    /// What was signed.
    pub verified: Verified,
    /// Where its layers are.
    pub source: Box<dyn Source + Send>,
    /// Of a drive, for as long as `source` reads from it.
    _copy: Option<Copied>,
}

/// What was copied from a drive: removed once nobody reads from it. It may be as large as all of `/var`, which is the agents'
/// too.
struct Copied {
    folder: &'static Path,
    readers: &'static AtomicUsize,
}

/// How many read from [`FROM_DRIVE`]: an operator may check one drive while another is installed.
static READERS: AtomicUsize = AtomicUsize::new(0);

impl Copied {
    /// Claims what is about to be copied.
    fn claim(folder: &'static Path, readers: &'static AtomicUsize) -> Self {
        readers.fetch_add(1, Ordering::AcqRel);
        Self { folder, readers }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if self.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            remove(self.folder);
        }
    }
}

/// Removes what an earlier life of this service left of a drive.
pub fn forget_drive() {
    remove(Path::new(FROM_DRIVE));
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{} can't be removed: {error}; it takes room on /var", folder.display());
        }
        _ => {}
    }
}

/// Asks for a release, and checks that one of the machine-config's keys has signed it.
pub fn find(shared: &Shared, origin: &Origin) -> Result<Found, UpdateError> {
    let keys: Vec<PublicKey> = shared
        .policy
        .keys
        .iter()
        .map(|key| PublicKey::from_pem(key.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(UpdateError::UseKey)?;
    let copy = matches!(origin, Origin::Drive(_)).then(|| Copied::claim(Path::new(FROM_DRIVE), &READERS));
    let (mut source, name) = open(shared, origin)?;
    let verified = verify_with(&mut *source, &name, &keys)?;
    Ok(Found { verified, source, _copy: copy })
}

fn open(shared: &Shared, origin: &Origin) -> Result<(Box<dyn Source + Send>, String), UpdateError> {
    let policy = &shared.policy;
    let tag = match origin {
        Origin::Channel => policy.channel.clone(),
        Origin::Tag(tag) => tag.clone(),
        Origin::Drive(tag) => {
            shared.have_done(SlotsWork::TakeDrive)?;
            let layout = LayoutSource::open(Path::new(FROM_DRIVE)).map_err(UpdateError::OpenDrive)?;
            return Ok((Box::new(layout), tag.clone()));
        }
    };
    let image = policy.image.as_deref().ok_or(UpdateError::FindImage)?;
    let mark = if tag.starts_with("sha256:") { '@' } else { ':' };
    let reference: Reference = format!("{image}{mark}{tag}").parse().map_err(UpdateError::ParseReference)?;
    let authorities = std::fs::read(UPDATE_CERTIFICATES).map_err(UpdateError::ReadAuthorities)?;
    let credentials = policy
        .account
        .as_ref()
        .map(|(user, password)| Credentials { user: user.clone(), password: password.expose().to_owned() });
    let rate = policy.max_bytes_per_second.and_then(NonZero::new);
    let options = SourceOptions {
        roots: roots_from_pem(&authorities).ok_or(UpdateError::ParseAuthorities)?,
        credentials,
        rate,
        plain_http: policy.plain_http,
        ..SourceOptions::default()
    };
    let source = RegistrySource::open(&reference, options).map_err(UpdateError::OpenRegistry)?;
    Ok((Box::new(source), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_from_a_drive_goes_with_its_last_reader() {
        static NONE_YET: AtomicUsize = AtomicUsize::new(0);
        let path = std::env::temp_dir().join(format!("astromesh-drive-{}", std::process::id()));
        let folder: &'static Path = Box::leak(path.into_boxed_path());
        let copy = || {
            let claim = Copied::claim(folder, &NONE_YET);
            std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
            std::fs::write(folder.join("index.json"), b"{}").unwrap();
            claim
        };
        let (one, other) = (copy(), copy());
        drop(one);
        assert!(folder.join("index.json").exists(), "somebody reads from it");
        drop(other);
        assert!(!folder.exists());
        // Nothing was copied.
        drop(Copied::claim(folder, &NONE_YET));
    }
}
