//! A candidate: what its signed manifest says, read strictly, and where its files are staged.
//!
//! The service that fetches and the process that installs both use this, so that neither has an opinion of its own on what
//! a release is. A [`Candidate`] is only made from a manifest that a trusted key has signed.

use astromesh_oci::manifest::{self, Layer};
use astromesh_oci::{Kind, Verified};
use astromesh_proto::boot_entry::{BootEntry, PREFIX};
use astromesh_proto::date::utc;
use astromesh_proto::update::Release;
use astromesh_proto::version::Version;
use astromesh_verity::{RootHash, partition_uuids};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where releases are staged: made by PID 1, written by `update`.
pub const STAGE: &str = "/var/lib/update/stage";

/// Name of the file with the evidence of what is staged.
pub const EVIDENCE: &str = "evidence";

/// The machine that a release must be for.
pub const ARCHITECTURE: &str = "x86_64";

/// The layers that are installed.
pub const KINDS: [Kind; 3] = [Kind::Verity, Kind::Root, Kind::Uki];

/// The node's clock, in seconds since 1970; 0 when it says an earlier time. It is the one that certificates are checked by.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Why a release is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefuseError {
    /// Its manifest lacks something, or says something that is none.
    #[error("its manifest does not say {0}: it was pushed by something else than `cargo xtask push`")]
    ReadManifest(&'static str),
    /// For another machine.
    #[error("it is for {0}, this node is {ARCHITECTURE}")]
    MatchArchitecture(String),
    /// It runs already.
    #[error("{0} runs already")]
    Running(Version),
    /// It is older than what runs.
    #[error("it is {0}, older than {1}, which runs; to go back to the other slot, use `update rollback`")]
    Older(Version, Version),
    /// It is older than the floor.
    #[error("it is {0}, and nothing older than {1} is installed on this node any more")]
    Floor(Version, Version),
    /// Its time is over.
    #[error(
        "it expired on {} UTC, and the node's clock says {}: push it again with a later end, or set the clock",
        utc(*.0),
        utc(*.1)
    )]
    Expired(u64, u64),
    /// The other slot has the only release that was kept.
    #[error(
        "{0}, which runs, is not kept yet, and the other slot has the release to fall back to; try again once `update \
         status` says that {0} is kept"
    )]
    NotKept(Version),
    /// The other slot has it.
    #[error("{0} is installed already, and has {1}; reboot the node to start it")]
    Installed(Version, String),
}

/// What a node has, as far as a release is admitted by it.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The release that runs.
    pub running: Version,
    /// The oldest release that may be installed.
    pub floor: Option<Version>,
    /// The entries on its boot partition.
    pub entries: &'a [BootEntry],
}

/// Admits a release to the idle slot, or says why not; `now` is what the node's clock says, in seconds since 1970.
///
/// Whatever is installed overwrites the other slot. So the release that runs has to be one that was kept, by the name of its
/// entry: without that, the other slot may hold the only release that is known to work.
pub fn admit(
    version: Version,
    expires: Option<u64>,
    standing: &Standing<'_>,
    now: u64,
) -> Result<(), RefuseError> {
    let Standing { running, floor, entries } = *standing;
    if version == running {
        return Err(RefuseError::Running(running));
    }
    if version < running {
        return Err(RefuseError::Older(version, running));
    }
    if let Some(floor) = floor.filter(|floor| version < *floor) {
        return Err(RefuseError::Floor(version, floor));
    }
    if let Some(end) = expires.filter(|end| *end <= now) {
        return Err(RefuseError::Expired(end, now));
    }
    if !entries.contains(&BootEntry::blessed(running)) {
        return Err(RefuseError::NotKept(running));
    }
    // What waits for its first start would only be written once more. One that failed may be: it is asked for.
    let Some(waiting) = entries.iter().find(|entry| entry.version == version && entry.is_bootable()) else {
        return Ok(());
    };
    let tries = waiting.tries.map_or("no count".to_owned(), |tries| format!("{} tries left", tries.left));
    Err(RefuseError::Installed(version, tries))
}

/// A release, by its signed manifest.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its version.
    pub version: Version,
    /// Its root hash.
    pub root_hash: RootHash,
    /// When it ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// The files that are installed, in the order of [`KINDS`].
    pub layers: [Layer; 3],
    /// What is told of it.
    pub release: Release,
}

impl Candidate {
    /// Reads a signed manifest.
    pub fn read(verified: &Verified) -> Result<Self, RefuseError> {
        let signed = verified.manifest();
        let note = |key: &str| signed.annotations.get(key).map(String::as_str);
        let version = note(manifest::VERSION).and_then(|text| text.parse().ok());
        let version: Version = version.ok_or(RefuseError::ReadManifest("its version"))?;
        let root_hash = note(manifest::ROOT_HASH).and_then(|text| text.parse().ok());
        let root_hash: RootHash = root_hash.ok_or(RefuseError::ReadManifest("its root hash"))?;
        let architecture =
            note(manifest::ARCHITECTURE).ok_or(RefuseError::ReadManifest("its architecture"))?;
        if architecture != ARCHITECTURE {
            return Err(RefuseError::MatchArchitecture(architecture.chars().take(32).collect()));
        }
        // What is no number is not taken for no end.
        let expires = note(manifest::EXPIRES).map(str::parse::<u64>).transpose();
        let expires =
            expires.map_err(|_| RefuseError::ReadManifest("when it expires, in seconds since 1970"))?;
        let layer = |kind: Kind| signed.layers.iter().find(|layer| layer.kind == kind).cloned();
        let all = || Some([layer(KINDS[0])?, layer(KINDS[1])?, layer(KINDS[2])?]);
        let layers =
            all().ok_or(RefuseError::ReadManifest("where its root, hash tree and kernel image are"))?;
        let short = |key| note(key).unwrap_or_default().chars().take(64).collect();
        let release = Release {
            version,
            digest: verified.digest().to_string(),
            root_hash: root_hash.to_string(),
            kernel: short(manifest::KERNEL),
            runtime: short(manifest::RUNTIME),
            size: layers.iter().map(|layer| layer.size).sum(),
        };
        Ok(Self { version, root_hash, expires, layers, release })
    }

    /// Admits it, or says why not.
    pub fn admit(&self, standing: &Standing<'_>, now: u64) -> Result<(), RefuseError> {
        admit(self.version, self.expires, standing, now)
    }

    /// The name under which a layer is staged: the version, and for a partition its PARTUUID, as `systemd-sysupdate`
    /// reads them out of it.
    pub fn file_name(&self, kind: Kind) -> String {
        let (version, ids) = (self.version, partition_uuids(&self.root_hash));
        match kind {
            Kind::Root => format!("{PREFIX}{version}_{}.root", ids.root),
            Kind::Verity => format!("{PREFIX}{version}_{}.verity", ids.verity),
            _ => format!("{PREFIX}{version}.efi"),
        }
    }

    /// The layer of a kind that is installed.
    pub fn layer(&self, kind: Kind) -> &Layer {
        let index = KINDS.iter().position(|one| *one == kind).unwrap_or_default();
        &self.layers[index]
    }
}

#[cfg(test)]
mod tests;
