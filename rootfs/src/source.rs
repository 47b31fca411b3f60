//! Where this crate's sources are: builds read the lock files, the trim rules and the launcher from there.

use std::path::Path;

/// Where this crate's data files are: the lock files, the trim rules, the launcher.
pub(crate) fn source_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
