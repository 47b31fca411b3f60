//! The name of a boot entry: which release it is, and how many tries it has left.
//!
//! The boot loader keeps its count in the file's name, because a rename is the one thing that firmware's FAT drivers do
//! well: `astromesh_0.2.0+3-0.efi` has three tries left and has used none, `astromesh_0.2.0.efi` is kept for good (UAPI
//! group, "Automatic Boot Assessment"; systemd's `systemd-bless-boot.service(8)`). Reading such names is strict: what is
//! not exactly of this form belongs to somebody else and is never renamed.

use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What every entry of ours begins with.
pub const PREFIX: &str = "astromesh_";
const SUFFIX: &str = ".efi";

/// The folder of the boot partition that entries lie in.
pub const FOLDER: &str = "EFI/Linux";

/// Longest name that is looked at: prefix, version, two counters.
const MAX_NAME: usize = 96;

/// A boot entry by its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootEntry {
    /// The release.
    pub version: Version,
    /// How often it may still be tried, and has been; `None` for an entry that is kept.
    pub tries: Option<Tries>,
}

/// A boot loader's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tries {
    /// Tries left; an entry with none is started only when there is no other.
    pub left: u32,
    /// Tries made.
    pub done: u32,
}

impl BootEntry {
    /// The entry of a release that is kept.
    pub fn blessed(version: Version) -> Self {
        Self { version, tries: None }
    }

    /// Reads a file's name; `None` when it is not one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() > MAX_NAME {
            return None;
        }
        let stem = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let Some((version, count)) = stem.split_once('+') else {
            return Some(Self::blessed(stem.parse().ok()?));
        };
        let (left, done) = match count.split_once('-') {
            Some((left, done)) => (number(left)?, number(done)?),
            // A count without tries made: none were.
            None => (number(count)?, 0),
        };
        Some(Self { version: version.parse().ok()?, tries: Some(Tries { left, done }) })
    }

    /// Reads the boot loader's variable `LoaderBootCountPath` as efivarfs gives it: four bytes of attributes, then the
    /// path in UTF-16 with `\` between its parts, ended by a NUL (systemd's Boot Loader Interface). The loader sets it
    /// only when it started an entry with a count, and the name in it is the one *after* counting down.
    pub fn from_loader_variable(bytes: &[u8]) -> Option<Self> {
        let text = bytes.get(4..)?;
        if text.len() % 2 != 0 || text.len() > 2 * (MAX_NAME + FOLDER.len() + 2 + 1) {
            return None;
        }
        let units: Vec<u16> =
            text.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let (nul, path) = units.split_last()?;
        let path = String::from_utf16(path).ok().filter(|path| *nul == 0 && !path.contains('\0'))?;
        let (folder, name) = path.strip_prefix('\\')?.rsplit_once('\\')?;
        // FAT knows no case.
        folder.replace('\\', "/").eq_ignore_ascii_case(FOLDER).then(|| Self::parse(name))?
    }

    /// The entry under which a release is written, `+0-0`: without a try, so the boot loader doesn't start what was not
    /// read back yet. Nothing that was ever started is called so, because each start counts.
    pub fn unchecked(version: Version) -> Self {
        Self { version, tries: Some(Tries { left: 0, done: 0 }) }
    }

    /// Whether it was written and never read back.
    pub fn is_unchecked(&self) -> bool {
        *self == Self::unchecked(self.version)
    }

    /// Whether it was tried, or kept, and then given up: by the boot loader or by an operator.
    pub fn is_given_up(&self) -> bool {
        !self.is_bootable() && !self.is_unchecked()
    }

    /// Whether the boot loader would still start it by itself.
    pub fn is_bootable(&self) -> bool {
        self.tries.is_none_or(|tries| tries.left > 0)
    }
}

impl fmt::Display for BootEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", self.version)?;
        if let Some(Tries { left, done }) = self.tries {
            write!(formatter, "+{left}-{done}")?;
        }
        formatter.write_str(SUFFIX)
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Option<(String, Option<(u32, u32)>)> {
        let parsed = BootEntry::parse(name)?;
        Some((parsed.version.to_string(), parsed.tries.map(|tries| (tries.left, tries.done))))
    }

    #[test]
    fn a_name_tells_release_and_tries() {
        assert_eq!(entry("astromesh_0.2.0.efi"), Some(("0.2.0".into(), None)));
        assert_eq!(entry("astromesh_0.2.0+3-0.efi"), Some(("0.2.0".into(), Some((3, 0)))));
        assert_eq!(entry("astromesh_0.2.0+3.efi"), Some(("0.2.0".into(), Some((3, 0)))));
        for name in ["astromesh_0.2.0.efi", "astromesh_0.2.0+0-3.efi", "astromesh_10.0.1+2-1.efi"] {
            assert_eq!(BootEntry::parse(name).unwrap().to_string(), name);
        }
        assert!(!BootEntry::parse("astromesh_0.2.0+0-3.efi").unwrap().is_bootable());
        assert!(BootEntry::parse("astromesh_0.2.0+1-2.efi").unwrap().is_bootable());
        let standing = |name: &str| {
            let entry = BootEntry::parse(name).unwrap();
            (entry.is_bootable(), entry.is_unchecked(), entry.is_given_up())
        };
        assert_eq!(standing("astromesh_0.2.0+0-0.efi"), (false, true, false));
        assert_eq!(standing("astromesh_0.2.0+0-1.efi"), (false, false, true));
        assert_eq!(standing("astromesh_0.2.0+3-0.efi"), (true, false, false));
        assert_eq!(standing("astromesh_0.2.0.efi"), (true, false, false));
    }

    #[test]
    fn what_is_somebody_elses_is_no_entry() {
        let long = format!("astromesh_{}.efi", "1".repeat(100));
        for name in [
            "",
            "astromesh_.efi",
            "debian_1.efi",
            "astromesh_0.2.0",
            "astromesh_0.2.0+.efi",
            "astromesh_0.2.0+a-b.efi",
            "astromesh_0.2.0+3-0-1.efi",
            "astromesh_0.2.0+-1.efi",
            "astromesh_0.2.0+3-0.efi.bak",
            "../astromesh_0.2.0.efi",
            &long,
        ] {
            assert_eq!(BootEntry::parse(name), None, "{name}");
        }
    }

    fn variable(path: &str) -> Vec<u8> {
        let units = path.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_loaders_variable_names_the_entry_that_runs() {
        let good = variable("\\EFI\\Linux\\astromesh_0.2.0+2-1.efi");
        let entry = BootEntry::from_loader_variable(&good).unwrap();
        assert_eq!(entry.to_string(), "astromesh_0.2.0+2-1.efi");
        assert!(
            BootEntry::from_loader_variable(&variable("\\efi\\LINUX\\astromesh_0.2.0+2-1.efi")).is_some()
        );
        for bad in [
            Vec::new(),
            good[..4].to_vec(),
            good[..good.len() - 1].to_vec(),
            good[..good.len() - 2].to_vec(),
            variable("\\EFI\\Linux\\other_0.2.0+2-1.efi"),
            variable("EFI\\Linux\\astromesh_0.2.0+2-1.efi"),
            variable("\\EFI\\BOOT\\astromesh_0.2.0+2-1.efi"),
            variable("\\EFI\\Linux\\astromesh_0.2.0+2-1.efi\0"),
            variable(&format!("\\EFI\\Linux\\astromesh_{}.efi", "1".repeat(500))),
            [vec![6, 0, 0, 0], vec![0, 0xd8, 0, 0]].concat(),
        ] {
            assert_eq!(BootEntry::from_loader_variable(&bad), None, "{bad:?}");
        }
    }
}
