//! Which release runs.

use astromesh_proto::version::Version;

/// The version of the release that runs: `IMAGE_VERSION` of its own, verified root.
pub fn running_version() -> Option<Version> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?.trim_matches('"').parse().ok()
}
