//! A small file that outlives a power cut: whatever happens meanwhile, it holds what it held or what it is to hold.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the file's content: written beside it, on the disk before it gets its name, and the name after it.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
