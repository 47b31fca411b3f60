//! Making the folders that belong to processes.

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CStr;

/// Makes a folder, unless it is there, and gives it to its owner either way: power may have failed between the two.
///
/// On `/var` what is there was left by an earlier boot, and some parents belong to services. So what is no folder is
/// removed, and no link is followed: one would give its owner whatever it points at.
pub fn make(path: &CStr, owner: u32, mode: u32) -> Result<(), Errno> {
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let make = || rustix::fs::mkdir(path, Mode::from_raw_mode(mode));
    let folder = match make() {
        Ok(()) => open()?,
        Err(Errno::EXIST) => match open() {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                log::warn!("{} was no folder, and is made one", path.to_string_lossy());
                rustix::fs::unlink(path)?;
                make()?;
                open()?
            }
            opened => opened?,
        },
        Err(cause) => return Err(cause),
    };
    let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    rustix::fs::chownat(&folder, c"", Some(owner), Some(group), AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::{Path, PathBuf};

    /// As the tests' user may: root gives to somebody else, anybody else to himself.
    fn owner() -> u32 {
        let own = rustix::process::getuid();
        if own.is_root() { 906 } else { own.as_raw() }
    }

    fn make_at(path: &Path) -> Result<(), Errno> {
        make(&CString::new(path.to_str().unwrap()).unwrap(), owner(), 0o755)
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("astromesh-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_folder_belongs_to_its_owner_also_when_it_was_there() {
        let folder = scratch("folder");
        let path = folder.join("stage");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("kept"), b"").unwrap();
        for _ in 0..2 {
            make_at(&path).unwrap();
            assert_eq!(path.metadata().unwrap().uid(), owner());
        }
        assert!(path.join("kept").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_gives_nobody_what_it_points_at() {
        let folder = scratch("link");
        let (path, target) = (folder.join("stage"), folder.join("floor"));
        std::fs::create_dir(&target).unwrap();
        let before = target.metadata().unwrap().uid();
        for to in [target.as_path(), Path::new("/nowhere"), Path::new("stage")] {
            symlink(to, &path).unwrap();
            make_at(&path).unwrap();
            let made = path.symlink_metadata().unwrap();
            assert!(made.is_dir() && made.uid() == owner(), "{to:?}");
            assert_eq!(target.metadata().unwrap().uid(), before);
            std::fs::remove_dir(&path).unwrap();
        }
        std::fs::write(&path, b"a file").unwrap();
        make_at(&path).unwrap();
        assert!(path.is_dir());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
