//! The initramfs: `init` and the mount points it needs, in the kernel's newc format, compressed with zstd.
//!
//! The archive is written here: four directories and one file, with no time, owner or inode of the building machine.
//! (Documentation/driver-api/early-userspace/buffer-format.rst)

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Directories that `init` mounts on before it has a root.
const DIRECTORIES: &[&str] = &["dev", "proc", "root", "run", "sys"];

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Writes the initramfs holding `init` to `out`.
pub fn write(init: &Path, out: &Path) -> Result<()> {
    compress(&Archive::with(init)?.finish(), "-19", out)
}

/// The same with the directory `tree` as `/tree`, for a start from memory.
pub fn write_with_tree(init: &Path, tree: &Path, out: &Path) -> Result<()> {
    let mut archive = Archive::with(init)?;
    archive.append("tree", DIRECTORY, &[]);
    archive.append_tree("tree", tree)?;
    compress(&archive.finish(), "-3", out)
}

fn compress(archive: &[u8], level: &str, out: &Path) -> Result<()> {
    let plain = out.with_extension("cpio");
    fs::write(&plain, archive).with_context(|| format!("{} can't be written", plain.display()))?;
    let status = Command::new("zstd").args(["-q", level, "-f", "-o"]).arg(out).arg(&plain).status();
    if !status.context("zstd can't be started: run `cargo xtask deps`")?.success() {
        bail!("zstd could not compress {}", plain.display());
    }
    fs::remove_file(plain).ok();
    Ok(())
}

/// A newc archive in the making.
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// With `init` and the directories it mounts on.
    fn with(init: &Path) -> Result<Self> {
        let program = fs::read(init).with_context(|| format!("{} can't be read", init.display()))?;
        let mut archive = Self { bytes: Vec::with_capacity(program.len() + 4096), inode: 0 };
        for directory in DIRECTORIES {
            archive.append(directory, DIRECTORY, &[]);
        }
        archive.append("init", EXECUTABLE, &program);
        Ok(archive)
    }

    fn append(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        entry(&mut self.bytes, self.inode, name, mode, content);
    }

    /// Directories, files and symbolic links below `from`, sorted by name; a root has nothing else.
    fn append_tree(&mut self, name: &str, from: &Path) -> Result<()> {
        let failed = || format!("{} can't be read", from.display());
        let mut entries =
            fs::read_dir(from).with_context(failed)?.collect::<Result<Vec<_>, _>>().with_context(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (format!("{name}/{}", entry.file_name().to_string_lossy()), entry.path());
            let unreadable = || format!("{} can't be read", path.display());
            let metadata = entry.metadata().with_context(unreadable)?;
            let mode = metadata.permissions().mode();
            if metadata.is_dir() {
                self.append(&name, mode, &[]);
                self.append_tree(&name, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).with_context(unreadable)?;
                self.append(&name, mode, target.as_os_str().as_encoded_bytes());
            } else {
                self.append(&name, mode, &fs::read(&path).with_context(unreadable)?);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.append("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// One entry: magic and thirteen fields of eight hexadecimal digits, the name, the content, each padded to four bytes.
fn entry(archive: &mut Vec<u8>, inode: u32, name: &str, mode: u32, content: &[u8]) {
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let links = 1;
    let mut header = String::from("070701");
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        let _ = write!(header, "{field:08X}");
    }
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_padded_to_four_bytes_and_carries_no_time() {
        let mut archive = Vec::new();
        entry(&mut archive, 1, "init", EXECUTABLE, b"12345");
        assert_eq!(archive.len() % 4, 0);
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[46..54], b"00000000", "modification time");
        assert!(archive.windows(5).any(|window| window == b"12345"));
    }
}
