//! Judges the table and the file systems on a disk that is off, by the checkers that everybody uses.
//!
//! What writes them is partly ours, partly a library's, the kernel's or `systemd-sysupdate`'s, and a test by the same code
//! finds only what that code knows of. So the gates ask `sgdisk -v`, `fsck.vfat -n`, `e2fsck -fn` and `fsck.erofs`, from pinned
//! packages like every tool of the build, about each disk that the build, a node or a power cut has left.
//!
//! **Refuses** to change the disk: what has to be replayed first is replayed in a copy of the partition.

use crate::cache::{Cache, CacheError};
use crate::disk::{TYPE_ESP, TYPE_ROOT, TYPE_VAR};
use crate::lock::{DebianLock, LockError};
use crate::run::RunError;
use crate::tools::{ToolError, Tools};
use gpt::partition::Partition;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A disk is not sound, or could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A checker found something.
    #[error("{checker} is not content with {what} of {disk}:\n{said}")]
    Judge {
        /// The checker.
        checker: &'static str,
        /// The partition's label, or the table.
        what: String,
        /// The disk.
        disk: PathBuf,
        /// What the checker said.
        said: String,
    },
    /// A checker could not be run.
    #[error("the checker could not be run: {0}")]
    Run(#[from] RunError),
    /// The table can't be read.
    #[error("the partition table of {disk} can't be read: {source}")]
    ReadTable {
        /// The disk.
        disk: PathBuf,
        /// What the library said.
        source: gpt::GptError,
    },
    /// A partition can't be copied.
    #[error(
        "the partition {label} of {disk} can't be copied: {source}; is there room in the folder for temporary files?"
    )]
    CopyPartition {
        /// Its label.
        label: String,
        /// The disk.
        disk: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are no tools.
    #[error(transparent)]
    Tools(#[from] ToolError),
    /// The lock file is wrong.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// How the disk was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// By the build, or by a node that went down.
    Whole,
    /// By a node whose power failed. A journal is replayed first, in a copy, as the next boot does; that a FAT was in use is
    /// no fault.
    PowerFailed,
}

/// The checkers.
#[derive(Debug)]
pub struct Checkers {
    tools: Tools,
}

const SECTOR: u64 = 512;
/// Where the boot sector of a FAT32 has its state, and the bit that says "in use".
const FAT_STATE: u64 = 65;
const FAT_IN_USE: u8 = 1;

impl Checkers {
    /// Those of the tool tree, which is made if it isn't in the cache yet.
    pub fn open() -> Result<Self, CheckError> {
        let cache = Cache::open(&Cache::default_path()?)?;
        Ok(Self { tools: Tools::open(&cache, &DebianLock::load()?, &|line| eprintln!("{line}"))? })
    }

    /// Judges the table of a raw `disk` and everything on it that is a file system: the boot partition, each root that has a
    /// label of a release, and `/var`.
    pub fn disk(&self, disk: &Path, left: Left) -> Result<(), CheckError> {
        self.table(disk)?;
        let read = |source| CheckError::ReadTable { disk: disk.into(), source };
        let table = gpt::GptConfig::new().open(disk).map_err(read)?;
        for partition in table.partitions().values() {
            let what = Judged { disk, partition };
            match partition.part_type_guid.guid {
                TYPE_ESP => self.fat(&what, left)?,
                TYPE_ROOT if partition.name.starts_with("root_") => self.erofs(&what)?,
                TYPE_VAR => self.ext4(&what, left)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn table(&self, disk: &Path) -> Result<(), CheckError> {
        let (ended_well, said) = run(self.tools.command("usr/sbin/sgdisk").arg("-v").arg(disk))?;
        // It exits with 0 whatever it finds, and finds no problem in a header that it has mended while reading it.
        let mended = ["Caution", "Warning"].iter().any(|word| said.contains(word));
        if ended_well && said.contains("No problems found.") && !mended {
            return Ok(());
        }
        Err(CheckError::Judge { checker: "sgdisk -v", what: "the table".into(), disk: disk.into(), said })
    }

    fn fat(&self, what: &Judged<'_>, left: Left) -> Result<(), CheckError> {
        let copy = what.copy()?;
        if left == Left::PowerFailed {
            let clear = || {
                let file = File::options().read(true).write(true).open(copy.path())?;
                let mut state = [0];
                file.read_exact_at(&mut state, FAT_STATE)?;
                file.write_all_at(&[state[0] & !FAT_IN_USE], FAT_STATE)
            };
            clear().map_err(|source| what.not_copied(source))?;
        }
        judge(what, "fsck.vfat", self.tools.command("usr/sbin/fsck.vfat").arg("-n").arg(copy.path()))
    }

    fn ext4(&self, what: &Judged<'_>, left: Left) -> Result<(), CheckError> {
        let e2fsck = || self.tools.command("usr/sbin/e2fsck");
        if left == Left::Whole {
            let place = format!("{}?offset={}", what.disk.display(), what.start());
            return judge(what, "e2fsck", e2fsck().args(["-fn", &place]));
        }
        let copy = what.copy()?;
        // Without -f it replays the journal and takes files away that were open and had no name any more, as a mount does,
        // and looks no further, unless the file system says itself that it has errors.
        let (_, said) = run(e2fsck().arg("-p").arg(copy.path()))?;
        if said.contains("check forced") {
            return Err(what.not_content("e2fsck -p", said));
        }
        judge(what, "e2fsck", e2fsck().arg("-fn").arg(copy.path()))
    }

    fn erofs(&self, what: &Judged<'_>) -> Result<(), CheckError> {
        let mut fsck = self.tools.command("usr/bin/fsck.erofs");
        fsck.args(["--extract", &format!("--offset={}", what.start())]).arg(what.disk);
        judge(what, "fsck.erofs", &mut fsck)
    }
}

fn judge(what: &Judged<'_>, checker: &'static str, command: &mut Command) -> Result<(), CheckError> {
    let (is_clean, said) = run(command)?;
    if is_clean { Ok(()) } else { Err(what.not_content(checker, said)) }
}

/// A partition of a disk.
struct Judged<'a> {
    disk: &'a Path,
    partition: &'a Partition,
}

impl Judged<'_> {
    fn start(&self) -> u64 {
        self.partition.first_lba * SECTOR
    }

    /// A copy of it as a file of its own; what is a hole on the disk is one there.
    fn copy(&self) -> Result<tempfile::NamedTempFile, CheckError> {
        let copied = || {
            let copy = tempfile::NamedTempFile::new()?;
            let length = (self.partition.last_lba + 1 - self.partition.first_lba) * SECTOR;
            copy.as_file().set_len(length)?;
            let disk = File::open(self.disk)?;
            let (mut piece, zeros) = (vec![0; 1 << 20], vec![0; 1 << 20]);
            let mut place = 0;
            while place < length {
                let count = usize::try_from(length - place).map_or(piece.len(), |left| left.min(piece.len()));
                disk.read_exact_at(&mut piece[..count], self.start() + place)?;
                if piece[..count] != zeros[..count] {
                    copy.as_file().write_all_at(&piece[..count], place)?;
                }
                place += count as u64;
            }
            Ok(copy)
        };
        copied().map_err(|source| self.not_copied(source))
    }

    fn not_content(&self, checker: &'static str, said: String) -> CheckError {
        let (what, disk) = (self.partition.name.clone(), self.disk.to_path_buf());
        CheckError::Judge { checker, what, disk, said }
    }

    fn not_copied(&self, source: io::Error) -> CheckError {
        CheckError::CopyPartition { label: self.partition.name.clone(), disk: self.disk.into(), source }
    }
}

/// Runs a checker: whether it exited with 0, and all it said.
fn run(command: &mut Command) -> Result<(bool, String), CheckError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| RunError::StartTool { program, source })?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).trim().to_owned()))
}
