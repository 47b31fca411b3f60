//! The initramfs: `init` and the mount points it needs, in the kernel's newc format, compressed with zstd.
//!
//! The archive is written here: four directories and one file, with no time, owner or inode of the building machine.
//! (Documentation/driver-api/early-userspace/buffer-format.rst)

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Directories that `init` mounts on before it has a root.
const DIRECTORIES: &[&str] = &["dev", "proc", "root", "run", "sys"];

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Writes the initramfs holding `init` to `out`.
pub fn write(init: &Path, out: &Path) -> Result<()> {
    let program = fs::read(init).with_context(|| format!("{} can't be read", init.display()))?;
    let mut archive = Vec::with_capacity(program.len() + 4096);
    let mut inode = 0;
    let mut append = |name: &str, mode, content: &[u8]| {
        inode += 1;
        entry(&mut archive, inode, name, mode, content);
    };
    for directory in DIRECTORIES {
        append(directory, DIRECTORY, &[]);
    }
    append("init", EXECUTABLE, &program);
    append("TRAILER!!!", 0, &[]);
    let plain = out.with_extension("cpio");
    fs::write(&plain, archive).with_context(|| format!("{} can't be written", plain.display()))?;
    let status = Command::new("zstd").args(["-q", "-19", "-f", "-o"]).arg(out).arg(&plain).status();
    if !status.context("zstd can't be started: run `cargo xtask deps`")?.success() {
        bail!("zstd could not compress {}", plain.display());
    }
    fs::remove_file(plain).ok();
    Ok(())
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
