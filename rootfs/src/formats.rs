//! The disk in the formats that clouds import, each from the same raw image.
//!
//! qemu-img writes the containers; where it puts a clock or a random number into one, that is overwritten with a fixed
//! value here, so that the same disk is the same file. What a vendor demands of a file stands beside its format, and
//! `cargo xtask gate phase1` reads each file back and holds it to that.

use crate::cache::{sha256_file, sha256_hex};
use crate::run::{RunError, checked};
use astromesh_verity::grow::to_disk_end;
use astromesh_verity::{Gpt, SectorSize};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A format, and who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk itself, with holes: bare metal, EC2's `import-snapshot`.
    Raw,
    /// QEMU, KVM, OpenStack.
    Qcow2,
    /// Azure: fixed, no dynamic container, a whole number of MiB
    /// (learn.microsoft.com, "Prepare a Windows VHD or VHDX to upload to Azure", which holds for Linux too).
    Vhd,
    /// VMware and EC2: `streamOptimized`, as an OVA carries it ("Virtual Disk Format 5.0").
    Vmdk,
    /// Google Compute Engine: `disk.raw` alone, of whole GiB, in a gzipped tar of the old GNU format
    /// (cloud.google.com, "Manually import boot disks").
    GceTar,
}

/// All of them, in the order in which they are made.
pub const ALL: &[Format] = &[Format::Raw, Format::Qcow2, Format::Vhd, Format::Vmdk, Format::GceTar];

/// An image could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Reading or writing a file.
    #[error("{action} {path} failed ({source})")]
    CopyImage {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tool failed.
    #[error(transparent)]
    Convert(#[from] RunError),
    /// What the tool wrote is not what it always wrote.
    #[error("{path} has no {what} where it belongs: has qemu-img changed? Pin what it writes anew")]
    FixFields {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The raw image has no partition table that can be moved.
    #[error("{0} has no partition table of ours: run `cargo xtask build`")]
    GrowTable(PathBuf),
    /// The cache's file functions.
    #[error(transparent)]
    Sum(#[from] crate::cache::CacheError),
}

impl Format {
    /// The end of the file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::GceTar => "gce.tar.gz",
        }
    }

    /// Writes `disk` (raw) to `out` in this format.
    pub fn write(self, disk: &Path, out: &Path) -> Result<(), FormatError> {
        if out.exists() {
            fs::remove_file(out).map_err(at("replacing", out))?;
        }
        let convert = |options: &[&str]| {
            checked(Command::new("qemu-img").args(["convert", "-f", "raw"]).args(options).arg(disk).arg(out))
        };
        match self {
            Self::Raw => {
                checked(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(disk).arg(out))?;
            }
            Self::Qcow2 => {
                convert(&["-O", "qcow2", "-c", "-o", "compat=1.1"])?;
            }
            Self::Vhd => {
                convert(&["-O", "vpc", "-o", "subformat=fixed,force_size=on"])?;
                fix_vhd(out, &sha256_file(disk)?)?;
            }
            Self::Vmdk => {
                convert(&["-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic"])?;
                fix_vmdk(out)?;
            }
            Self::GceTar => gce_tar(disk, out)?,
        }
        Ok(())
    }
}

/// Bytes of a fixed VHD's footer ("Virtual Hard Disk Image Format Specification", version 1.0).
const VHD_FOOTER: usize = 512;

/// Gives the footer a fixed time and an identity that follows from the disk's content, and its checksum anew.
fn fix_vhd(path: &Path, disk_sum: &str) -> Result<(), FormatError> {
    let mut file = File::options().read(true).write(true).open(path).map_err(at("opening", path))?;
    let place = SeekFrom::End(-i64::try_from(VHD_FOOTER).unwrap_or_default());
    let mut footer = [0; VHD_FOOTER];
    file.seek(place).and_then(|_| file.read_exact(&mut footer)).map_err(at("reading", path))?;
    if footer[..8] != *b"conectix" {
        return Err(FormatError::FixFields { path: path.into(), what: "VHD footer" });
    }
    footer[24..28].fill(0);
    let identity = sha256_hex(format!("vhd {disk_sum}").as_bytes());
    for (byte, digits) in footer[68..84].iter_mut().zip(identity.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(&String::from_utf8_lossy(digits), 16).unwrap_or_default();
    }
    footer[64..68].fill(0);
    let checksum = !footer.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    footer[64..68].copy_from_slice(&checksum.to_be_bytes());
    file.seek(place).and_then(|_| file.write_all(&footer)).map_err(at("writing", path))
}

/// Gives the descriptor a fixed content id: it only tells whether a parent of a snapshot changed, and there is none.
fn fix_vmdk(path: &Path) -> Result<(), FormatError> {
    let mut bytes = fs::read(path).map_err(at("reading", path))?;
    let missing = || FormatError::FixFields { path: path.into(), what: "content id" };
    // The descriptor is in the first sectors.
    let head = bytes.get(..1 << 16).unwrap_or(&bytes);
    let found = head.windows(5).position(|window| window == b"\nCID=").ok_or_else(missing)? + 5;
    let id = bytes.get_mut(found..found + 8).ok_or_else(missing)?;
    id.copy_from_slice(b"a57e0c1e");
    fs::write(path, bytes).map_err(at("writing", path))
}

/// Grows a copy of the disk to whole GiB and packs it.
fn gce_tar(disk: &Path, out: &Path) -> Result<(), FormatError> {
    let dir = tempfile::tempdir_in(out.parent().unwrap_or(Path::new(".")));
    let dir = dir.map_err(at("making a directory beside", out))?;
    let copy = dir.path().join("disk.raw");
    checked(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(disk).arg(&copy))?;
    let length = fs::metadata(&copy).map_err(at("reading", &copy))?.len().next_multiple_of(1 << 30);
    enlarge(&copy, length)?;
    let plain = dir.path().join("image.tar");
    checked(
        Command::new("tar")
            .args(["--format=oldgnu", "--sparse", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mode=0644", "--mtime=@0", "-cf"])
            .arg(&plain)
            .arg("-C")
            .arg(dir.path())
            .arg("disk.raw"),
    )?;
    checked(Command::new("gzip").args(["-n", "-9"]).arg(&plain))?;
    let packed = dir.path().join("image.tar.gz");
    fs::rename(&packed, out).map_err(at("writing", out))
}

/// Makes a raw image `length` bytes long, with its partition table at the new end and `/var` up to it.
pub fn enlarge(image: &Path, length: u64) -> Result<(), FormatError> {
    let mut file = File::options().read(true).write(true).open(image).map_err(at("opening", image))?;
    let mut start = vec![0; SectorSize::B512.table_bytes()];
    file.read_exact(&mut start).map_err(at("reading", image))?;
    let table = Gpt::parse(&start, SectorSize::B512)
        .ok()
        .and_then(|gpt| {
            let last = gpt.partitions().max_by_key(|partition| partition.first_lba)?.number;
            to_disk_end(&gpt, last, SectorSize::B512, length / 512)
        })
        .ok_or_else(|| FormatError::GrowTable(image.into()))?;
    file.set_len(length).map_err(at("sizing", image))?;
    for (place, bytes) in [(table.backup_start, &table.backup), (0, &table.primary)] {
        file.seek(SeekFrom::Start(place))
            .and_then(|_| file.write_all(bytes))
            .map_err(at("writing", image))?;
    }
    Ok(())
}

/// `SHA256SUMS` for files of one directory, as `sha256sum --check` reads it.
pub fn checksums(files: &[PathBuf]) -> Result<String, FormatError> {
    let mut text = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}  {name}", sha256_file(file)?);
    }
    Ok(text)
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FormatError {
    let path = path.to_owned();
    move |source| FormatError::CopyImage { action, path, source }
}
