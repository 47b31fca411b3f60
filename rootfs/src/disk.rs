//! A GPT disk around the root: boot partition, two slots (root and its hash tree, the second empty), the shared `/var`.
//!
//! Slots and boot partition have the size they will have for the node's whole life: an update writes into them, nothing
//! can enlarge them in the field. So their sizes are constants with room, and a root that does not fit is refused here.
//!
//! Partition types are those of the Discoverable Partitions Specification for x86-64. The root finds its hash tree and
//! the initrd finds both by PARTUUID, which are the two halves of the root hash, so the caller gives them: this module
//! knows nothing of verity. No identifier is random and no time is stored, so the same input is the same disk.

use crate::cache::sha256_hex;
use crate::run::{RunError, checked};
use crate::tools::Tools;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The type of an x86-64 root partition.
pub const TYPE_ROOT: Uuid = Uuid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
/// The type of the hash tree of an x86-64 root partition.
pub const TYPE_ROOT_VERITY: Uuid = Uuid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
/// The type of the EFI system partition.
pub const TYPE_ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// The type of the partition for variable data.
pub const TYPE_VAR: Uuid = Uuid::from_u128(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d);

const SECTOR: u64 = 512;
/// Partitions start at whole MiB: every erase block, RAID stripe and page size in use divides it.
const ALIGNMENT: u64 = 1 << 20;
/// A root's slot: not quite twice the ceiling that the root has today (26 MiB).
pub const ROOT_SLOT: u64 = 48 << 20;
/// The slot of its hash tree, which has 1/127 of the root's size.
pub const VERITY_SLOT: u64 = 1 << 20;
/// Enough for a file system to be formatted; the node grows it to the end of its disk.
const VAR_SIZE: u64 = 16 << 20;
/// Block groups of 128 MiB in a flex group of `/var`.
const FLEX_GROUP: &str = "1024";
/// Percent of the 16 MiB that the agent can't fill, which make five of what `/var` grows to: the node itself writes there to
/// take an update and to keep one (`init/pid1/src/boot/state.rs` says who may). The kernel first makes the one block group
/// whole and reserves nothing of that, and then goes on with the whole percent that the reserved blocks are of it
/// (`ext4_group_extend_no_check()`, `ext4_update_super()`). A release of today needs 50 MB, which a disk of 1.2 GiB has.
const RESERVED: &str = "41";
/// Label of a slot that holds no release, as `systemd-sysupdate` knows it.
const EMPTY: &str = "_empty";
/// Fixed, so that two builds agree. `/var` is found by its partition type.
const VAR_UUID: &str = "a57e0c1e-0e0f-5000-8000-000000766172";
/// PARTUUID of `/var`, the same on each disk for the same reason.
const VAR_PARTUUID: Uuid = Uuid::from_u128(0xa57e0c1e_0e0f_5000_8001_000000766172);
/// PARTUUIDs of the boot partition and of the empty slot, likewise.
pub(crate) const ESP_PARTUUID: Uuid = Uuid::from_u128(0xa57e0c1e_0e0f_5000_8001_000000657370);
const EMPTY_ROOT_PARTUUID: Uuid = Uuid::from_u128(0xa57e0c1e_0e0f_5000_8001_0000726f6f74);
const EMPTY_VERITY_PARTUUID: Uuid = Uuid::from_u128(0xa57e0c1e_0e0f_5000_8001_000076726974);

/// The disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A PARTUUID that is not one.
    #[error("{0:?} is not a UUID: give PARTUUIDs as 8-4-4-4-12 hex digits")]
    ParsePartuuid(String),
    /// Reading a partition's content or writing the disk.
    #[error("{action} {path} failed ({source})")]
    WriteDisk {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The partition table.
    #[error("writing the partition table of {path} failed ({source})")]
    WriteTable {
        /// The disk image.
        path: PathBuf,
        /// What the library said.
        source: gpt::GptError,
    },
    /// It is too large.
    #[error("{path} has {length} bytes, its partition {label} holds {room}: make it smaller")]
    FitPartition {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        length: u64,
        /// The partition.
        label: String,
        /// The partition's bytes.
        room: u64,
    },
    /// Formatting a file system, or writing into one.
    #[error(transparent)]
    Format(#[from] RunError),
}

/// What goes onto the disk.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The boot partition, from [`crate::esp::make`].
    pub esp: &'a Path,
    /// The release's version, in the labels of its slot.
    pub version: &'a str,
    /// The EROFS root.
    pub root: &'a Path,
    /// Its PARTUUID: the first 128 bits of the root hash.
    pub root_partuuid: &'a str,
    /// The file that holds the hash tree.
    pub verity: &'a Path,
    /// Its PARTUUID: the last 128 bits of the root hash.
    pub verity_partuuid: &'a str,
    /// The file system for `/var`, from [`make_var`].
    pub var: &'a Path,
}

/// Formats an empty ext4 for `/var` at `image`, the same bits each time.
pub fn make_var(tools: &Tools, image: &Path) -> Result<(), DiskError> {
    // mkfs keeps what it doesn't write, so an old image must not be there.
    let file = File::create(image).map_err(at("making", image))?;
    file.set_len(VAR_SIZE).map_err(at("sizing", image))?;
    drop(file);
    let mut command = tools.command("usr/sbin/mkfs.ext4");
    // Seconds since the epoch; 0 would mean "not set" to e2fsprogs.
    command.env("E2FSPROGS_FAKE_TIME", "1").env("MKE2FS_CONFIG", tools.file("etc/mke2fs.conf"));
    command.args(["-q", "-F", "-L", "astromesh-var", "-U", VAR_UUID, "-m", RESERVED, "-b", "4096"]);
    // Bigger than mke2fs makes them: for each flex group that it adds, the kernel counts through all groups that there are
    // (`ext4_calculate_overhead()`), and 64 TiB in the usual ones of 2 GiB take it half an hour. It is also the step in which
    // a node grows the file system (`init/node/src/ext4.rs`).
    command.args(["-G", FLEX_GROUP]);
    // No reserved inode tables left to fill in after the first mount.
    command
        .args(["-E", &format!("hash_seed={VAR_UUID},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0")]);
    checked(command.arg(image))?;
    Ok(())
}

/// Writes the disk image `out`.
pub fn assemble(contents: &Contents<'_>, out: &Path) -> Result<(), DiskError> {
    let (esp, var) = (contents.esp, contents.var);
    let slot = |name: &str| format!("{name}_{}", contents.version);
    let (root, root_id) = (contents.root, parse(contents.root_partuuid)?);
    let (verity, verity_id) = (contents.verity, parse(contents.verity_partuuid)?);
    let wanted = [
        (Some(esp), "esp".to_owned(), TYPE_ESP, ESP_PARTUUID, length(esp)?),
        (Some(root), slot("root"), TYPE_ROOT, root_id, ROOT_SLOT),
        (Some(verity), slot("verity"), TYPE_ROOT_VERITY, verity_id, VERITY_SLOT),
        (None, EMPTY.to_owned(), TYPE_ROOT, EMPTY_ROOT_PARTUUID, ROOT_SLOT),
        (None, EMPTY.to_owned(), TYPE_ROOT_VERITY, EMPTY_VERITY_PARTUUID, VERITY_SLOT),
        // Last, because it is the one that grows.
        (Some(var), "var".to_owned(), TYPE_VAR, VAR_PARTUUID, length(var)?),
    ];
    lay_out(&wanted, out)
}

pub(crate) fn parse(text: &str) -> Result<Uuid, DiskError> {
    Uuid::parse_str(text).map_err(|_| DiskError::ParsePartuuid(text.into()))
}

pub(crate) fn length(file: &Path) -> Result<u64, DiskError> {
    Ok(fs::metadata(file).map_err(at("reading", file))?.len())
}

/// A partition to be: its content (`None` stays zero), label, type, PARTUUID and bytes.
pub(crate) type Wanted<'a> = (Option<&'a Path>, String, Uuid, Uuid, u64);

/// Writes the partitions in their order, and the table.
pub(crate) fn lay_out(wanted: &[Wanted<'_>], out: &Path) -> Result<(), DiskError> {
    let mut partitions = BTreeMap::new();
    let mut start = ALIGNMENT;
    for (number, (file, label, kind, partuuid, room)) in (1..).zip(wanted) {
        if let Some(file) = file {
            let length = length(file)?;
            if length > *room {
                let (path, label, room) = (file.to_path_buf(), label.clone(), *room);
                return Err(DiskError::FitPartition { path, length, label, room });
            }
        }
        let length = room.next_multiple_of(SECTOR);
        let partition = Partition {
            part_type_guid: Type { guid: *kind, os: OperatingSystem::None },
            part_guid: *partuuid,
            first_lba: start / SECTOR,
            last_lba: (start + length) / SECTOR - 1,
            flags: 0,
            name: label.clone(),
        };
        partitions.insert(number, partition);
        start = (start + length).next_multiple_of(ALIGNMENT);
    }
    // One more MiB holds the backup table.
    let size = start + ALIGNMENT;
    let mut disk = File::create(out).map_err(at("making", out))?;
    disk.set_len(size).map_err(at("sizing", out))?;
    for ((file, ..), partition) in wanted.iter().zip(partitions.values()) {
        if let Some(file) = file {
            copy_sparse(file, &mut disk, partition.first_lba * SECTOR, out)?;
        }
    }
    drop(disk);
    write_table(partitions, size, out)
}

/// Copies a file to `start` of the disk image and leaves holes where it is zero: most of an empty file system is.
fn copy_sparse(file: &Path, disk: &mut File, start: u64, out: &Path) -> Result<(), DiskError> {
    let mut source = File::open(file).map_err(at("opening", file))?;
    let mut piece = vec![0; 1 << 16];
    let mut place = start;
    loop {
        let length = source.read(&mut piece).map_err(at("reading", file))?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].iter().any(|&byte| byte != 0) {
            disk.seek(SeekFrom::Start(place)).map_err(at("writing", out))?;
            disk.write_all(&piece[..length]).map_err(at("writing", out))?;
        }
        place += length as u64;
    }
}

fn write_table(partitions: BTreeMap<u32, Partition>, size: u64, out: &Path) -> Result<(), DiskError> {
    let mut device = File::options().read(true).write(true).open(out).map_err(at("opening", out))?;
    let table = |source: gpt::GptError| DiskError::WriteTable { path: out.into(), source };
    let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    let mbr = ProtectiveMBR::with_lb_size(sectors);
    mbr.overwrite_lba0(&mut device).map_err(|error| at("writing", out)(io::Error::other(error)))?;
    let guid = disk_guid(&partitions);
    let config = gpt::GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut disk = config.create_from_device(device, Some(guid)).map_err(table)?;
    disk.update_partitions(partitions).map_err(table)?;
    disk.write().map_err(table)?;
    Ok(())
}

/// The disk's identity follows from its partitions': another root hash is another disk.
fn disk_guid(partitions: &BTreeMap<u32, Partition>) -> Uuid {
    let text: Vec<_> = partitions.values().map(|partition| partition.part_guid.to_string()).collect();
    let digest = sha256_hex(text.join(" ").as_bytes());
    let bits = u128::from_str_radix(&digest[..32], 16).expect("a hex digest is hex");
    // RFC 9562, version 8: a UUID of the maker's own derivation.
    uuid::Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
}

pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::WriteDisk { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const VERITY: &str = "ffeeddcc-bbaa-9988-7766-554433221100";

    fn make(dir: &Path, name: &str) -> PathBuf {
        for (file, length) in [("esp", 1 << 20), ("root", 3 * 4096), ("verity", 4096), ("var", 1 << 20)] {
            fs::write(dir.join(file), vec![file.as_bytes()[0]; length]).unwrap();
        }
        let (root, verity, var, out) =
            (dir.join("root"), dir.join("verity"), dir.join("var"), dir.join(name));
        let esp = dir.join("esp");
        let contents = Contents {
            esp: &esp,
            version: "1.2",
            root: &root,
            root_partuuid: ROOT,
            verity: &verity,
            verity_partuuid: VERITY,
            var: &var,
        };
        assemble(&contents, &out).unwrap();
        out
    }

    #[test]
    fn the_partitions_are_where_and_what_the_specification_says() {
        let dir = tempfile::tempdir().unwrap();
        let image = make(dir.path(), "disk");
        let disk = gpt::GptConfig::new().open(&image).unwrap();
        let found: Vec<_> = disk.partitions().values().collect();
        assert_eq!(
            found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["esp", "root_1.2", "verity_1.2", "_empty", "_empty", "var"]
        );
        assert_eq!(found[1].part_guid.to_string(), ROOT);
        assert_eq!(found[2].part_guid.to_string(), VERITY);
        let types: Vec<_> = found.iter().map(|partition| partition.part_type_guid.guid).collect();
        let (root, verity) = (TYPE_ROOT, TYPE_ROOT_VERITY);
        assert_eq!(types, [TYPE_ESP, root, verity, root, verity, TYPE_VAR]);
        let bytes = fs::read(&image).unwrap();
        for partition in found {
            assert_eq!(partition.first_lba * SECTOR % ALIGNMENT, 0);
            let first = bytes[usize::try_from(partition.first_lba * SECTOR).unwrap()];
            assert_eq!(first == 0, partition.name == EMPTY, "{}", partition.name);
        }
        assert!(disk.backup_header().is_ok());
    }

    #[test]
    fn the_same_input_is_the_same_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (make(dir.path(), "one"), make(dir.path(), "two"));
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
    }

    #[test]
    fn a_root_larger_than_its_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["esp", "root", "verity", "var"] {
            File::create(path(name)).unwrap().set_len(4096).unwrap();
        }
        let assemble_with = |root: u64| {
            File::options().write(true).open(path("root")).unwrap().set_len(root).unwrap();
            let (esp, root, verity, var) = (path("esp"), path("root"), path("verity"), path("var"));
            let (root_partuuid, verity_partuuid) = (ROOT, VERITY);
            let (esp, root, verity, var) = (&*esp, &*root, &*verity, &*var);
            let contents = Contents { esp, version: "1", root, root_partuuid, verity, verity_partuuid, var };
            assemble(&contents, &path("disk"))
        };
        assert!(assemble_with(ROOT_SLOT).is_ok());
        assert!(matches!(assemble_with(ROOT_SLOT + 1), Err(DiskError::FitPartition { .. })));
    }

    #[test]
    fn a_partuuid_that_is_not_one_is_refused() {
        let nowhere = Path::new("nowhere");
        let contents = Contents {
            esp: nowhere,
            version: "1",
            root: nowhere,
            root_partuuid: "root",
            verity: nowhere,
            verity_partuuid: VERITY,
            var: nowhere,
        };
        assert!(matches!(assemble(&contents, nowhere), Err(DiskError::ParsePartuuid(_))));
    }
}
