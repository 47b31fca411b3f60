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
use std::num::NonZero;
use std::path::Path;

/// Where a drive's layout was copied to.
const FROM_DRIVE: &str = "/var/lib/update/drive";

/// A release's manifest, verified, and where its files are.
pub struct Found {
    /// What was signed.
    pub verified: Verified,
    /// Where its layers are.
    pub source: Box<dyn Source + Send>,
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
    let (mut source, name) = open(shared, origin)?;
    let verified = verify_with(&mut *source, &name, &keys)?;
    Ok(Found { verified, source })
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
