//! The floor: the oldest release that may be installed, whoever signed it.
//!
//! A signature says who made a release, not that it is the newest; without a floor an old one with a known hole could be
//! brought back by whoever can put it before the node. It rises when a release is blessed and never falls. It lies in a folder
//! that no service may write to.

use astromesh_node::durable;
use astromesh_proto::version::Version;
use std::io;
use std::path::Path;

/// Where it lies.
pub const FILE: &str = "/var/lib/node/floor";

/// The floor; `None` when there is none yet. A file that doesn't hold a version counts as absent: the next blessing
/// writes it anew, and until then the release that runs is the floor anyway.
pub fn read(path: &Path) -> Option<Version> {
    std::fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

/// Raises it.
pub fn raise(path: &Path, floor: Version) -> io::Result<()> {
    durable::replace(path, format!("{floor}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_is_read_and_what_is_no_version_is_none() {
        let path = std::env::temp_dir().join(format!("astromesh-floor-{}", std::process::id()));
        assert_eq!(read(&path), None);
        let floor: Version = "0.2.0".parse().unwrap();
        raise(&path, floor).unwrap();
        assert_eq!(read(&path), Some(floor));
        std::fs::write(&path, "0.2").unwrap();
        assert_eq!(read(&path), None);
        std::fs::remove_file(&path).unwrap();
    }
}
