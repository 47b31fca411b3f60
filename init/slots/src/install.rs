//! Has the idle slot written by `systemd-sysupdate`, and looks whether it did.
//!
//! The foreign program gets a view of its own: the verified root, the staged files read-only, this disk's device nodes, the
//! boot partition, and no network, no state, no secret; it has a user of its own and not one capability. What it is given was verified here, with the machine-config's
//! keys, immediately before. Since a staged file could still change under its hands (it belongs to the service that
//! fetched it), what decides is what was written: root, hash tree and boot entry are read back from the disk and compared
//! with the signed manifest, and a boot entry that does not stand up to it is taken away again.

pub mod error;

use crate::error::SlotsError;
use crate::esp::{Esp, MOUNTED_ON};
use crate::node::Node;
use crate::transfers::{DEFINITIONS, Places, SYSUPDATE, definitions};
use astromesh_node::disk::{self, Disk};
use astromesh_node::places::KEYS_FOLDER;
use astromesh_node::process::INSTALL;
use astromesh_node::service;
use astromesh_node::view::{DEVICES, Device, Memory, STRICT, Tree, View};
use astromesh_oci::{Digest, Evidence, Kind, PublicKey, Verified};
use astromesh_proto::boot_entry::{BootEntry, FOLDER};
use astromesh_release::boot_partition::{BootPartition, EspError};
use astromesh_release::floor;
use astromesh_release::staged::{Candidate, EVIDENCE, KINDS, now};
use astromesh_verity::command_line::root_hash_word;
use astromesh_verity::{Superblock, partition_uuids};
use error::InstallError;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::mount;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where staged files are, in the installer's view.
const STAGED: &str = "/run/stage";
/// Where the public keys are, in the installer's view.
const TRUSTED: &str = "/run/keys";
/// Where the floor is, in the installer's view.
const KEPT: &str = "/run/kept/floor";
/// Most bytes read of a proof: more than a manifest, a payload and a signature may have together.
const MAX_EVIDENCE: u64 = 128 * 1024;

const MEMORY: &[Memory] = &[
    Memory { on: c"/run", flags: STRICT, data: c"mode=0755,size=64k", sealed: false },
    Memory { on: c"/var", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/dev", flags: DEVICES, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/tmp", flags: STRICT, data: c"mode=1777,size=64k", sealed: true },
];

const DIRECTORIES: &[&CStr] = &[c"/run/stage", c"/run/keys", c"/run/kept", c"/run/install", c"/run/esp"];

const TREES: &[Tree] = &[
    Tree { from: c"/var/lib/update/stage", to: c"/run/stage", writable: false },
    Tree { from: KEYS_FOLDER, to: c"/run/keys", writable: false },
    Tree { from: c"/var/lib/node", to: c"/run/kept", writable: false },
    Tree { from: c"/run/install", to: c"/run/install", writable: true },
    Tree { from: c"/sys", to: c"/sys", writable: false },
];

/// The process's work.
pub fn run(node: &Node) -> Result<(), SlotsError> {
    let devices = devices(&node.disk).ok_or(SlotsError::FindDisk)?;
    // Looked for before the view is built: all that is seen of the disk afterwards are these nodes.
    let esp = esp_device(&node.disk).ok_or(SlotsError::FindDisk)?;
    View { memory: MEMORY, directories: DIRECTORIES, trees: TREES, devices: &devices, proc: c"" }.build()?;
    mount_esp(&esp).map_err(|cause| EspError::Mount { device: esp.clone(), cause })?;
    service::become_service(INSTALL)?;

    let candidate = verify(node)?;
    make_room(node, &candidate)?;
    // Not before it is known that the boot partition is what lies there: the updater would make the folder wherever it is.
    let mut esp = Esp::at_mount_point()?;
    esp.clean()?;
    forget_failed(&candidate, &mut esp)?;
    write(node, &candidate, &esp)?;
    let checked = check_written(node, &candidate);
    if checked.is_err() {
        withdraw(&candidate);
    }
    esp.sync()?;
    checked?;
    log::info!(
        "{} is in the idle slot, with {} bytes of root",
        candidate.version,
        candidate.layer(Kind::Root).size
    );
    Ok(())
}

/// This disk and its partitions, and what every program may read.
fn devices(disk: &str) -> Option<Vec<Device>> {
    let number = |path: String| -> Option<(u32, u32)> {
        let text = std::fs::read_to_string(path).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let owner = INSTALL.id;
    let block =
        |name: String, number| Device { name, kind: FileType::BlockDevice, mode: 0o600, number, owner };
    let mut devices = vec![
        Device::memory("null", 3),
        Device::memory("urandom", 9),
        Device::memory("random", 8),
        block(disk.to_owned(), number(format!("/sys/block/{disk}/dev"))?),
    ];
    for partition in Disk::open(disk)?.table()?.partitions() {
        let device = disk::by_number(disk, partition.number)?.device;
        let name = device.file_name()?.to_str()?.to_owned();
        let number = number(format!("/sys/class/block/{name}/dev"))?;
        devices.push(block(name, number));
    }
    Some(devices)
}

fn esp_device(disk: &str) -> Option<String> {
    let found = disk::find(disk, |entry| entry.type_guid == disk::TYPE_ESP)?;
    Some(found.device.to_string_lossy().into_owned())
}

fn mount_esp(device: &str) -> rustix::io::Result<()> {
    let source = CString::new(device).map_err(|_| rustix::io::Errno::INVAL)?;
    // FAT has no owners: every file belongs to who the mount says.
    let options = format!("uid={0},gid={0},fmask=0177,dmask=0077,errors=remount-ro", INSTALL.id);
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount(source.as_c_str(), MOUNTED_ON, c"vfat", STRICT, options.as_c_str())
}

/// Checks all that is staged, as if nobody had before.
fn verify(node: &Node) -> Result<Candidate, InstallError> {
    let keys = keys().ok_or(InstallError::ReadKeys)?;
    let path = Path::new(STAGED).join(EVIDENCE);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_EVIDENCE).read_to_end(&mut bytes))
        .map_err(|cause| InstallError::ReadFile(EVIDENCE.to_owned(), cause))?;
    let evidence = Evidence::decode(&bytes)
        .ok_or_else(|| InstallError::Verify("the proof beside it is none".to_owned()))?;
    let verified =
        Verified::from_evidence(&evidence, &keys).map_err(|error| InstallError::Verify(error.to_string()))?;
    let candidate = Candidate::read(&verified)?;
    let slots = None;
    candidate.judge(node.running, floor::read(Path::new(KEPT)), slots, now())?;
    for kind in KINDS {
        let name = candidate.file_name(kind);
        let mut file = staged(&candidate, kind)?;
        let (digest, size) =
            Digest::of_file(&mut file).map_err(|cause| InstallError::ReadFile(name.clone(), cause))?;
        let signed = candidate.layer(kind);
        if (digest, size) != (signed.digest, signed.size) {
            return Err(InstallError::MatchFile(name));
        }
    }
    belongs_together(&candidate)?;
    Ok(candidate)
}

/// That root, hash tree and kernel image are of one release: a signature over three digests does not say so.
fn belongs_together(candidate: &Candidate) -> Result<(), InstallError> {
    let root_hash = candidate.root_hash;
    let read = |kind: Kind| {
        let mut bytes = Vec::new();
        staged(candidate, kind)?
            .read_to_end(&mut bytes)
            .map_err(|cause| InstallError::ReadFile(candidate.file_name(kind), cause))?;
        Ok::<_, InstallError>(bytes)
    };
    let tree = read(Kind::Verity)?;
    let superblock = Superblock::parse_prefix(&tree).map_err(|_| InstallError::MatchRootHash(root_hash))?;
    let root = staged(candidate, Kind::Root)?;
    if superblock.data_blocks().checked_mul(4096) != Some(candidate.layer(Kind::Root).size) {
        return Err(InstallError::MatchRootHash(root_hash));
    }
    let mut built = Vec::new();
    match astromesh_verity::format(&root, &superblock, &mut built) {
        Ok(hash) if hash == root_hash && built == tree => {}
        _ => return Err(InstallError::MatchRootHash(root_hash)),
    }
    drop(tree);
    let needle = root_hash_word(&root_hash).to_string();
    if contains(&mut staged(candidate, Kind::Uki)?, needle.as_bytes()).unwrap_or(false) {
        Ok(())
    } else {
        Err(InstallError::MatchKernelImage(root_hash))
    }
}

fn staged(candidate: &Candidate, kind: Kind) -> Result<File, InstallError> {
    let name = candidate.file_name(kind);
    File::open(Path::new(STAGED).join(&name)).map_err(|cause| InstallError::ReadFile(name, cause))
}

/// The keys of the machine-config, each a file.
fn keys() -> Option<Vec<PublicKey>> {
    let files = std::fs::read_dir(TRUSTED).ok()?;
    let keys: Vec<_> = files.map(|file| PublicKey::load(&file.ok()?.path()).ok()).collect::<Option<_>>()?;
    (!keys.is_empty()).then_some(keys)
}

/// That everything fits, before anything is written.
fn make_room(node: &Node, candidate: &Candidate) -> Result<(), InstallError> {
    let disk = Disk::open(&node.disk);
    let table = disk.as_ref().and_then(Disk::table);
    let room = |kind| {
        let sector = disk.as_ref().map_or(512, |disk| disk.sector_size.bytes() as u64);
        let slots = table.iter().flat_map(astromesh_verity::Gpt::partitions);
        slots.filter(|entry| entry.type_guid == kind).map(|entry| entry.sectors() * sector).min().unwrap_or(0)
    };
    let fits = |what, kind: Kind, room| {
        let needed = candidate.layer(kind).size;
        if needed <= room { Ok(()) } else { Err(InstallError::FitSlot { what, needed, room }) }
    };
    fits("root", Kind::Root, room(astromesh_verity::ROOT_X86_64))?;
    fits("hash tree", Kind::Verity, room(astromesh_verity::ROOT_X86_64_VERITY))?;
    let free = rustix::fs::statvfs(MOUNTED_ON).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    fits("kernel image", Kind::Uki, free)
}

/// Takes away an entry of this release that has no tries left: to the updater it would count as installed, and nothing
/// would be done. What its slot holds is written again, or kept where it is whole.
fn forget_failed(candidate: &Candidate, esp: &mut Esp) -> Result<(), SlotsError> {
    for entry in esp.entries()? {
        if entry.version == candidate.version && !entry.is_bootable() {
            esp.remove(&entry)?;
            log::info!("{entry} is tried once more");
        }
    }
    Ok(())
}

/// Has it written. The boot partition is there, or nobody could show it.
fn write(node: &Node, candidate: &Candidate, _there: &Esp) -> Result<(), InstallError> {
    let disk = format!("/dev/{}", node.disk);
    let entries = format!("{MOUNTED_ON}/{FOLDER}");
    let places = Places { disk: &disk, stage: STAGED, entries: &entries, running: node.running };
    let _ = std::fs::remove_dir_all(DEFINITIONS);
    std::fs::create_dir(DEFINITIONS).map_err(InstallError::WriteDefinitions)?;
    for (name, text) in definitions(&places) {
        std::fs::write(Path::new(DEFINITIONS).join(name), text).map_err(InstallError::WriteDefinitions)?;
    }
    let status = Command::new(SYSUPDATE)
        .args([&format!("--definitions={DEFINITIONS}"), "update"])
        .arg(candidate.version.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .status()
        .map_err(InstallError::Start)?;
    if status.success() { Ok(()) } else { Err(InstallError::Write(status)) }
}

/// Reads back what was written.
fn check_written(node: &Node, candidate: &Candidate) -> Result<(), InstallError> {
    let ids = partition_uuids(&candidate.root_hash);
    for (what, kind, id) in [("root", Kind::Root, ids.root), ("hash tree", Kind::Verity, ids.verity)] {
        let wrong = InstallError::CheckWritten(what);
        let label = format!("{what}_{}", candidate.version).replace("hash tree", "verity");
        let found = disk::find(&node.disk, |entry| entry.unique_guid == id && entry.name == *label.as_str());
        let Some(found) = found else { return Err(wrong) };
        let signed = candidate.layer(kind);
        if digest_of_start(&found.device, signed.size).ok() != Some(signed.digest) {
            return Err(wrong);
        }
    }
    let signed = candidate.layer(Kind::Uki);
    let digest = entry(candidate).and_then(|path| digest_of_start(&path, signed.size).ok());
    if digest == Some(signed.digest) { Ok(()) } else { Err(InstallError::CheckWritten("kernel image")) }
}

/// The new release's boot entry, as it was written.
fn entry(candidate: &Candidate) -> Option<PathBuf> {
    let folder = Path::new(MOUNTED_ON).join(FOLDER);
    let names =
        std::fs::read_dir(&folder).ok()?.flatten().filter_map(|file| file.file_name().into_string().ok());
    let mut ours = names.filter(|name| {
        BootEntry::parse(name).is_some_and(|entry| entry.version == candidate.version && entry.is_bootable())
    });
    ours.next().map(|name| folder.join(name))
}

fn withdraw(candidate: &Candidate) {
    if let Some(path) = entry(candidate) {
        if let Err(cause) = std::fs::remove_file(&path) {
            log::error!("{} can't be taken away: {cause}; it has three tries", path.display());
        }
    }
}

/// Digest of the first `size` bytes, past the kernel's memory: what was read of a slot before is still in there, and what
/// was written through the disk's own node is not.
fn digest_of_start(path: &Path, size: u64) -> io::Result<Digest> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
    // FAT takes O_DIRECT; a file system that doesn't is read as it is.
    let file = File::from(
        file.or_else(|_| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?,
    );
    let aligned = Aligned { file, buffer: vec![0; 2 * PIECE], from: 0, to: 0, place: 0 };
    Digest::of_reader(&mut aligned.take(size)).map(|(digest, _)| digest)
}

/// Bytes read at once, and what their place in memory and on the disk must be a multiple of: the largest sector.
const PIECE: usize = 128 * 1024;
const UNIT: usize = 4096;

/// A reader that gives the kernel aligned buffers, as O_DIRECT asks for (open(2)).
struct Aligned {
    file: File,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    place: u64,
}

impl Read for Aligned {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.from == self.to {
            let start = self.buffer.as_ptr().align_offset(UNIT);
            let count = self.file.read_at(&mut self.buffer[start..start + PIECE], self.place)?;
            (self.from, self.to) = (start, start + count);
            self.place += count as u64;
        }
        let count = into.len().min(self.to - self.from);
        into[..count].copy_from_slice(&self.buffer[self.from..self.from + count]);
        self.from += count;
        Ok(count)
    }
}

/// Whether a file holds these bytes.
fn contains(file: &mut File, needle: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; 128 * 1024];
    let mut kept = 0;
    loop {
        let count = file.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(false);
        }
        let filled = kept + count;
        if buffer[..filled].windows(needle.len()).any(|window| window == needle) {
            return Ok(true);
        }
        // The end is looked at again: the needle may lie across two reads.
        kept = filled.min(needle.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}
