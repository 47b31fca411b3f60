//! The machine-config: where it lies, and having it read by another process.
//!
//! PID 1 only carries the bytes. Parsing YAML from outside is the work of the job `config`, which runs
//! as its own user with nothing to lose, writes what each service needs into `/run/config`, and leaves a plan of a
//! few hundred bytes. If it dies, or says no, the node is in maintenance mode: never half a configuration.
//!
//! Where it may come from is a table, [`SOURCES`]: the first that has one wins.

use super::carry::carry;
use super::config_error::ConfigStageError;
use super::stage::{Report, StageError};
use super::{metadata, plan, volume};
use crate::ground::Ground;
use crate::job::{self, End};
use crate::late::CONFIG;
use crate::node::Node;
use astromesh_node::clock::IMAGE_TIME;
use astromesh_node::process::{self, config_directories};
use astromesh_proto::ipc::{self, Plan};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a drive may take to appear when the firmware carries no machine-config.
const DRIVE_APPEARS_WITHIN: Duration = Duration::from_secs(3);

/// The same on a cloud whose metadata server can be asked: no boot of such a machine waits long for what it will not
/// have. Its own disk was found before this stage, so its buses have been walked.
const DRIVE_APPEARS_ON_A_CLOUD_WITHIN: Duration = Duration::from_millis(500);

/// Where QEMU's fw_cfg item lies.
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/astromesh.machine_config/raw";

/// Where a machine-config was found, and how the bytes are wrapped.
struct Source {
    name: &'static str,
    /// Told to the config process: `smbios` for a raw structure, `plain` for the document itself.
    wrapping: &'static CStr,
    bytes: OwnedFd,
}

/// Looks in one place.
type Look = fn(&Ground) -> Result<Option<Source>, ConfigStageError>;

/// Where a machine-config may be, in the order in which it is looked for: what the machine's owner put into the machine
/// itself, then what hangs on it, then what the network says. The order among drives and among clouds is a table too
/// ([`volume`], [`astromesh_proto::cloud`]). Documented in docs/operations.md.
const SOURCES: &[Look] = &[smbios, fw_cfg, volumes, cloud];

/// The stage.
pub fn run(ground: &Ground, node: &mut Node) -> Result<Report, StageError> {
    node.clock_at_least(IMAGE_TIME, "this image");
    prepare().map_err(ConfigStageError::PrepareDirectory)?;
    let source = match find(ground) {
        Err(error @ (ConfigStageError::AskCloud { .. } | ConfigStageError::StartMetadata(_))) => {
            return Ok(ask_again(node, &error));
        }
        found => found?.ok_or(ConfigStageError::FindConfig)?,
    };
    parse(ground, &source)?;
    let Plan { hostname, maintenance, .. } = plan::take(node).ok_or(ConfigStageError::ReadPlan)?;
    match maintenance {
        None => Ok(Report::done(&format!("{hostname}, machine-config from {}", source.name))),
        Some(text) => {
            let text = text.as_str().to_owned();
            Err(ConfigStageError::Invalid { source_name: source.name, text }.into())
        }
    }
}

/// The boot goes on, and the metadata server is asked again meanwhile ([`crate::late`]): nobody knows this node's operator
/// yet, so nobody else could make it look again.
fn ask_again(node: &mut Node, error: &ConfigStageError) -> Report {
    log::error!("config: {error}");
    node.enter_maintenance(ipc::cut(&error.to_string()));
    if let Some(cloud) = metadata::cloud() {
        node.late.expect(cloud, Instant::now());
    }
    Report::running(&format!("asked for again until there is one: {error}"))
}

/// Makes a directory for each reader of results: written by the config process, read by one group alone.
fn prepare() -> Result<(), Errno> {
    for (path, reader) in config_directories() {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o750))?;
        rustix::fs::chown(path, Some(Uid::from_raw(process::CONFIG.id)), Some(Gid::from_raw(reader)))?;
        // Set-group-id, so that what is made inside belongs to the reader's group.
        rustix::fs::chmod(path, Mode::from_raw_mode(0o2750))?;
    }
    Ok(())
}

fn find(ground: &Ground) -> Result<Option<Source>, ConfigStageError> {
    for look in SOURCES {
        if let Some(source) = look(ground)? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// All type 11 structures, one after the other; the config process looks for the credential among their strings.
fn smbios(_: &Ground) -> Result<Option<Source>, ConfigStageError> {
    const CREDENTIAL: &[u8] = b"astromesh.machine_config=";
    let Ok(entries) = std::fs::read_dir("/sys/firmware/dmi/entries") else { return Ok(None) };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("11-") {
            continue;
        }
        let Ok(file) = open(&entry.path().join("raw").to_string_lossy()) else { continue };
        let bytes =
            carry(&file).map_err(|cause| ConfigStageError::ReadConfig { source_name: "SMBIOS", cause })?;
        // Only whether it is there; what it says is not for PID 1.
        if contains(&bytes, CREDENTIAL) {
            return Ok(Some(Source { name: "SMBIOS", wrapping: c"smbios", bytes }));
        }
    }
    Ok(None)
}

fn fw_cfg(_: &Ground) -> Result<Option<Source>, ConfigStageError> {
    let Ok(file) = open(FW_CFG) else { return Ok(None) };
    let bytes =
        carry(&file).map_err(|cause| ConfigStageError::ReadConfig { source_name: "fw_cfg", cause })?;
    Ok(Some(Source { name: "fw_cfg", wrapping: c"plain", bytes }))
}

fn volumes(ground: &Ground) -> Result<Option<Source>, ConfigStageError> {
    let on_a_cloud = metadata::cloud().is_some();
    let longest = if on_a_cloud { DRIVE_APPEARS_ON_A_CLOUD_WITHIN } else { DRIVE_APPEARS_WITHIN };
    let deadline = Instant::now() + longest;
    loop {
        if let Some((volume, bytes)) = volume::look(ground)? {
            return Ok(Some(Source { name: volume.name, wrapping: c"plain", bytes }));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        ground.pet();
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn cloud(ground: &Ground) -> Result<Option<Source>, ConfigStageError> {
    let Some(cloud) = metadata::cloud() else { return Ok(None) };
    let bytes = metadata::fetch(ground, cloud)?;
    Ok(Some(Source { name: cloud.source(), wrapping: c"plain", bytes }))
}

fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn contains(memory: &OwnedFd, needle: &[u8]) -> bool {
    let mut buffer = [0; 4096];
    let mut at = 0;
    loop {
        match rustix::io::pread(memory, &mut buffer, at) {
            Ok(0) | Err(_) => return false,
            Ok(count) => {
                if buffer[..count].windows(needle.len()).any(|window| window == needle) {
                    return true;
                }
                if count < needle.len() {
                    return false;
                }
                // Overlap, so that a needle across two reads is found.
                at += (count - (needle.len() - 1)) as u64;
            }
        }
    }
}

/// Has the config process read the document, and waits for its end.
fn parse(ground: &Ground, source: &Source) -> Result<(), ConfigStageError> {
    let streams = [source.bytes.as_fd(), ground.kmsg.as_fd()];
    match job::run(&CONFIG, Some(source.wrapping), streams, ground).map_err(ConfigStageError::StartParser)? {
        (End::Code(0), _) => Ok(()),
        (_, reason) => Err(ConfigStageError::AwaitParser(reason)),
    }
}
