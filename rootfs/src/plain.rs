//! A disk as other distributions have it: a boot partition and one ext4 root, both without any promise of ours.
//!
//! For what our image is compared with. It is written with the same tools and without mounting anything, as our own disk
//! is: no loop device, no rights beyond reading the tree. It refuses to be reproducible: the file system's identifiers are
//! random, since nothing is ever compared with its bits.

use crate::disk::{DiskError, ESP_PARTUUID, TYPE_ESP, TYPE_ROOT, at, lay_out, length, parse};
use crate::run::checked;
use crate::tools::Tools;
use std::fs::{self, File};
use std::path::Path;

/// Formats an ext4 of `size` bytes at `image` and fills it with `tree`, whose owners, modes and times it keeps.
pub fn make_root(tools: &Tools, tree: &Path, size: u64, image: &Path) -> Result<(), DiskError> {
    let file = File::create(image).map_err(at("making", image))?;
    file.set_len(size).map_err(at("sizing", image))?;
    drop(file);
    let mut command = tools.command("usr/sbin/mkfs.ext4");
    command.env("MKE2FS_CONFIG", tools.file("etc/mke2fs.conf"));
    // Nothing left to format in the background after the first mount: it would cost whoever boots it.
    command.args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"]);
    checked(command.arg(tree).arg(image))?;
    Ok(())
}

/// Writes one more file into the ext4 at `image`: `name` in the existing `folder` (from the file system's root, without a
/// slash before it), as root's and with the mode of `source`.
pub fn insert(tools: &Tools, image: &Path, folder: &str, name: &str, source: &Path) -> Result<(), DiskError> {
    // debugfs reads its commands line by line and ends with 0 whatever came of them, so the result is read back.
    let commands = image.with_extension("commands");
    let text = format!("cd {folder}\nwrite \"{}\" {name}\n", source.display());
    fs::write(&commands, text).map_err(at("writing", &commands))?;
    let debugfs = || tools.command("usr/sbin/debugfs");
    checked(debugfs().arg("-w").arg("-f").arg(&commands).arg(image))?;
    fs::remove_file(&commands).map_err(at("removing", &commands))?;
    let copy = image.with_extension("inserted");
    let dump = format!("dump {folder}/{name} \"{}\"", copy.display());
    checked(debugfs().args(["-R", &dump]).arg(image))?;
    let same =
        fs::read(&copy).map_err(at("reading", &copy))? == fs::read(source).map_err(at("reading", source))?;
    fs::remove_file(&copy).map_err(at("removing", &copy))?;
    if same {
        return Ok(());
    }
    let refused =
        std::io::Error::other(format!("debugfs did not write {folder}/{name}; is the folder there?"));
    Err(at("writing into", image)(refused))
}

/// Writes a disk image with the boot partition `esp` and the root file system `root`.
pub fn assemble(esp: &Path, root: &Path, root_partuuid: &str, out: &Path) -> Result<(), DiskError> {
    let wanted = [
        (Some(esp), "esp".to_owned(), TYPE_ESP, ESP_PARTUUID, length(esp)?),
        (Some(root), "root".to_owned(), TYPE_ROOT, parse(root_partuuid)?, length(root)?),
    ];
    lay_out(&wanted, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_disk_has_a_boot_partition_and_a_root_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (esp, root, out) = (dir.path().join("esp"), dir.path().join("root"), dir.path().join("disk"));
        fs::write(&esp, vec![1; 4096]).unwrap();
        fs::write(&root, vec![2; 8192]).unwrap();
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        assemble(&esp, &root, id, &out).unwrap();
        let disk = gpt::GptConfig::new().open(&out).unwrap();
        let found: Vec<_> = disk.partitions().values().collect();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["esp", "root"]);
        assert_eq!(found[1].part_guid.to_string(), id);
        assert_eq!(found[1].last_lba - found[1].first_lba + 1, 8192 / 512);
        assert!(assemble(&esp, &root, "root", &out).is_err());
    }
}
