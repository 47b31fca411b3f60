//! The machine-config: where it lies, and having it judged by somebody else.
//!
//! PID 1 only carries the bytes. Parsing YAML from outside is the work of the one-shot `config` process, which runs
//! as its own user with nothing to lose, writes what each service needs into `/run/config`, and leaves a plan of a
//! few hundred bytes. If it dies, or says no, the node is in maintenance mode: never half a configuration.
//!
//! Sources, in this order, the first that has one wins: SMBIOS type 11, QEMU's fw_cfg, a drive labelled `ASTROMESH`.

use super::{Node, Report, StageError, disk};
use crate::service;
use crate::supervise::services::CONFIG_DIRECTORIES;
use crate::sys::spawn::{Spawn, spawn};
use astromesh_proto::ipc::{self, MAX_MESSAGE, Plan};
use rustix::fs::{Gid, MemfdFlags, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::WaitOptions;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Largest machine-config, in bytes, and one more so that a larger one is seen to be larger. SMBIOS carries it in
/// base64, four thirds the size, among other strings: hence twice that.
const MOST_BYTES: usize = 2 * 1024 * 1024 + 1;

/// How long the judgement may take.
const JUDGED_WITHIN: Duration = Duration::from_secs(30);

/// How long a drive may take to appear when nothing else carries a machine-config.
const DRIVE_APPEARS_WITHIN: Duration = Duration::from_secs(3);

/// Where QEMU's fw_cfg item lies.
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/astromesh.machine_config/raw";

/// File of the drive.
const DRIVE_FILE: &CStr = c"/run/drive/machine-config.yaml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigStageError {
    /// No source has one.
    #[error(
        "no machine-config: give one by SMBIOS, fw_cfg or a drive labelled ASTROMESH (see docs/operations.md)"
    )]
    FindConfig,
    /// The bytes could not be carried.
    #[error("the machine-config from {source_name} could not be read: {cause}")]
    ReadConfig {
        /// Where it lies.
        source_name: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A directory for the results could not be made.
    #[error("/run/config could not be prepared: {0}")]
    PrepareDirectory(Errno),
    /// The process could not be started.
    #[error("the config process could not be started: {0}")]
    StartParser(std::io::Error),
    /// It did not come to an end, or to a good one.
    #[error("the config process died or took too long; the machine-config is not used")]
    AwaitParser,
    /// It left no plan.
    #[error("the config process left no plan; the machine-config is not used")]
    ReadPlan,
    /// The machine-config is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// Where a machine-config was found, and how the bytes are wrapped.
struct Source {
    name: &'static str,
    /// Told to the config process: `smbios` for a raw structure, `plain` for the document itself.
    wrapping: &'static CStr,
    bytes: OwnedFd,
}

/// The stage.
pub fn run(node: &mut Node) -> Result<Report, StageError> {
    prepare().map_err(ConfigStageError::PrepareDirectory)?;
    let source = find(node)?.ok_or(ConfigStageError::FindConfig)?;
    judge(node, &source)?;
    let plan = read_plan().ok_or(ConfigStageError::ReadPlan)?;
    node.plan = plan;
    let hostname = node.plan.hostname.clone();
    if !hostname.is_empty() {
        if let Err(cause) = rustix::system::sethostname(hostname.as_bytes()) {
            log::warn!("config: the host name stays as it is: {cause}");
        }
    }
    match node.plan.maintenance.clone() {
        None => Ok(Report::done(&format!("{hostname}, machine-config from {}", source.name))),
        Some(text) => Err(ConfigStageError::Invalid(text.as_str().to_owned()).into()),
    }
}

/// Makes a directory for each reader of results: written by the config process, read by one group alone.
fn prepare() -> Result<(), Errno> {
    for &(path, reader) in CONFIG_DIRECTORIES {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o750))?;
        rustix::fs::chown(path, Some(Uid::from_raw(service::CONFIG_ID)), Some(Gid::from_raw(reader)))?;
        // Set-group-id, so that what is made inside belongs to the reader's group.
        rustix::fs::chmod(path, Mode::from_raw_mode(0o2750))?;
    }
    Ok(())
}

fn find(node: &Node) -> Result<Option<Source>, ConfigStageError> {
    if let Some(bytes) = smbios()? {
        return Ok(Some(Source { name: "SMBIOS", wrapping: c"smbios", bytes }));
    }
    if let Ok(file) = open(FW_CFG) {
        let bytes =
            carry(&file).map_err(|cause| ConfigStageError::ReadConfig { source_name: "fw_cfg", cause })?;
        return Ok(Some(Source { name: "fw_cfg", wrapping: c"plain", bytes }));
    }
    let deadline = Instant::now() + DRIVE_APPEARS_WITHIN;
    loop {
        if let Some(bytes) = drive()? {
            return Ok(Some(Source { name: "drive", wrapping: c"plain", bytes }));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        if let Some(watchdog) = &node.watchdog {
            watchdog.pet();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All type 11 structures, one after the other; the config process looks for the credential among their strings.
fn smbios() -> Result<Option<OwnedFd>, ConfigStageError> {
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
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The drive, mounted read-only for as long as it takes to copy one file.
fn drive() -> Result<Option<OwnedFd>, ConfigStageError> {
    let read = |cause| ConfigStageError::ReadConfig { source_name: "drive", cause };
    let Some((device, kind)) = labelled_drive() else { return Ok(None) };
    match rustix::fs::mkdir(c"/run/drive", Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(read(cause)),
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(device.as_path(), c"/run/drive", kind, flags, None::<&CStr>).map_err(read)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let bytes = rustix::fs::open(DRIVE_FILE, flags, Mode::empty()).and_then(|file| carry(&file));
    let _ = unmount(c"/run/drive", UnmountFlags::DETACH);
    bytes.map(Some).map_err(read)
}

/// The first device, whole or partition, whose file system is labelled `ASTROMESH`.
fn labelled_drive() -> Option<(PathBuf, &'static CStr)> {
    let mut names: Vec<_> = std::fs::read_dir("/sys/class/block")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("loop") && !name.starts_with("dm-"))
        .collect();
    names.sort_unstable();
    names.into_iter().find_map(|name| {
        let device = format!("/dev/{name}");
        let kind = volume_label(&disk::read_start(&device, 0x8800)?)?;
        Some((device.into(), kind))
    })
}

/// The file system type, if the volume beginning with these bytes is labelled `ASTROMESH`: FAT12/16 (label at
/// 0x2b, type at 0x36), FAT32 (0x47, 0x52) or ISO 9660 (primary descriptor at 0x8000, label at 0x28 of it).
fn volume_label(start: &[u8]) -> Option<&'static CStr> {
    const LABEL: &[u8] = b"ASTROMESH";
    let is = |at: usize, length: usize| {
        start.get(at..at + length).is_some_and(|label| label.trim_ascii_end() == LABEL)
    };
    let has = |at: usize, magic: &[u8]| start.get(at..at + magic.len()) == Some(magic);
    let fat = has(0x1fe, &[0x55, 0xaa])
        && ((has(0x36, b"FAT") && is(0x2b, 11)) || (has(0x52, b"FAT32") && is(0x47, 11)));
    if fat {
        Some(c"vfat")
    } else if has(0x8000, b"\x01CD001") && is(0x8028, 32) {
        Some(c"iso9660")
    } else {
        None
    }
}

fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Copies at most [`MOST_BYTES`] into memory that is nobody's file.
fn carry(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let memory = rustix::fs::memfd_create(c"machine-config", MemfdFlags::CLOEXEC)?;
    let mut buffer = [0; 4096];
    let mut carried = 0;
    while carried < MOST_BYTES {
        let room = buffer.len().min(MOST_BYTES - carried);
        let count = rustix::io::read(file, &mut buffer[..room])?;
        if count == 0 {
            break;
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::write(&memory, &buffer[written..count])?;
        }
        carried += count;
    }
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    Ok(memory)
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

/// Runs the config process to its end.
fn judge(node: &Node, source: &Source) -> Result<(), ConfigStageError> {
    let pid = spawn(&Spawn {
        name: c"config",
        argument: Some(source.wrapping),
        namespaces: 0,
        cgroup: None,
        fds: &[source.bytes.as_fd(), node.kmsg.as_fd(), node.kmsg.as_fd()],
    })
    .map_err(ConfigStageError::StartParser)?;
    let deadline = Instant::now() + JUDGED_WITHIN;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(()),
            Ok(None) if Instant::now() < deadline => {
                if let Some(watchdog) = &node.watchdog {
                    watchdog.pet();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                return Err(ConfigStageError::AwaitParser);
            }
        }
    }
}

fn read_plan() -> Option<Plan> {
    let file = open("/run/config/plan").ok()?;
    let mut bytes = [0; MAX_MESSAGE + 1];
    let count = rustix::io::read(&file, &mut bytes).ok()?;
    ipc::decode(bytes.get(..count.min(MAX_MESSAGE))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_volume_labelled_astromesh_is_taken() {
        let mut fat = vec![0; 0x8800];
        fat[0x36..0x3b].copy_from_slice(b"FAT12");
        fat[0x2b..0x36].copy_from_slice(b"ASTROMESH  ");
        assert_eq!(volume_label(&fat), None, "no boot signature");
        fat[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(volume_label(&fat), Some(c"vfat"));
        fat[0x2b] = b'B';
        assert_eq!(volume_label(&fat), None);

        let mut iso = vec![0; 0x8800];
        iso[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        iso[0x8028..0x8048].copy_from_slice(b"ASTROMESH                       ");
        assert_eq!(volume_label(&iso), Some(c"iso9660"));
        assert_eq!(volume_label(&iso[..0x8030]), None);
        assert_eq!(volume_label(&[]), None);
    }
}
