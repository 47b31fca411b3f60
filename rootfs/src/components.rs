//! What the image weighs, by component, for the size report and its budget.

use crate::tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes of each component; every file belongs to exactly one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// The interpreter and its standard library.
    pub python: u64,
    /// Astromesh, the wheels it needs, and the launcher.
    pub wheels: u64,
    /// The C library and the other shared libraries.
    pub libraries: u64,
    /// `systemd-sysupdate`, and the libraries that only it needs.
    pub sysupdate: u64,
    /// Everything else: time zones, the skeleton.
    pub other: u64,
}

/// The libraries that are in the image for `systemd-sysupdate` alone, by the start of their file names. A test
/// (`rootfs/tests/promises.rs`) holds that they are those, no more and no fewer.
const SYSUPDATE_LIBRARIES: [&str; 15] = [
    "libacl.",
    "libaudit.",
    "libblkid.",
    "libbz2.",
    "libcap.",
    "libcap-ng.",
    "libcrypt.",
    "libfdisk.",
    "liblzma.",
    "libmount.",
    "libpam.",
    "libpcre2-8.",
    "libseccomp.",
    "libselinux.",
    "libuuid.",
];

fn is_sysupdate(path: &Path) -> bool {
    if path.starts_with("usr/lib/systemd") || path.starts_with("usr/lib/x86_64-linux-gnu/systemd") {
        return true;
    }
    let name = path.strip_prefix("usr/lib/x86_64-linux-gnu").map(|name| name.as_os_str().as_bytes());
    name.is_ok_and(|name| SYSUPDATE_LIBRARIES.iter().any(|start| name.starts_with(start.as_bytes())))
}

/// Which component a path of the image belongs to.
fn component(path: &Path) -> &'static str {
    let starts = |prefix: &str| path.as_os_str().as_bytes().starts_with(prefix.as_bytes());
    if starts("usr/lib/python3") || starts("usr/bin/python3") {
        "python"
    } else if starts("usr/lib/astromesh/") {
        "wheels"
    } else if is_sysupdate(path) {
        "sysupdate"
    } else if starts("usr/lib/") || starts("usr/lib64/") {
        "libraries"
    } else {
        "other"
    }
}

/// The sizes of the files of `stage`, uncompressed.
pub fn components(stage: &Path) -> io::Result<Components> {
    let mut sizes: BTreeMap<_, u64> = BTreeMap::new();
    for entry in tree::walk(stage)?.iter().filter(|entry| entry.metadata.is_file()) {
        *sizes.entry(component(&entry.path)).or_default() += entry.metadata.len();
    }
    let size = |name| sizes.get(name).copied().unwrap_or_default();
    Ok(Components {
        python: size("python"),
        wheels: size("wheels"),
        libraries: size("libraries"),
        sysupdate: size("sysupdate"),
        other: size("other"),
    })
}

impl Components {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.python + self.wheels + self.libraries + self.sysupdate + self.other
    }

    /// An estimate of each component's part of an image of `image` bytes, by its part of the uncompressed whole.
    ///
    /// EROFS shares clusters and metadata between files, so nothing exact exists to be measured.
    #[must_use]
    pub fn scaled_to(&self, image: u64) -> Self {
        let total = u128::from(self.total().max(1));
        // A part of `image`, so it fits again.
        let part = |bytes: u64| u64::try_from(u128::from(bytes) * u128::from(image) / total).unwrap_or(image);
        Self {
            python: part(self.python),
            wheels: part(self.wheels),
            libraries: part(self.libraries),
            sysupdate: part(self.sysupdate),
            other: part(self.other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_belongs_to_its_component() {
        for (path, expected) in [
            ("usr/bin/python3.13", "python"),
            ("usr/lib/python3.13/os.pyc", "python"),
            ("usr/lib/astromesh/site/astromesh/errors.pyc", "wheels"),
            ("usr/lib/astromesh/launch.pyc", "wheels"),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", "libraries"),
            ("usr/lib/x86_64-linux-gnu/libcrypto.so.3", "libraries"),
            ("usr/lib/x86_64-linux-gnu/libcrypt.so.1.1.0", "sysupdate"),
            ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so", "sysupdate"),
            ("usr/lib/systemd/systemd-sysupdate", "sysupdate"),
            ("etc/passwd", "other"),
        ] {
            assert_eq!(component(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_scaled_parts_never_sum_to_more_than_the_image() {
        let parts = Components { python: 3, wheels: 5, libraries: 7, sysupdate: 2, other: 1 }.scaled_to(1000);
        assert!(parts.total() <= 1000 && parts.total() > 990);
    }
}
