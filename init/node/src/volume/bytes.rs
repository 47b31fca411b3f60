//! What a label is read from, and what it is read into.

use crate::bounded_read;
use std::os::fd::OwnedFd;

/// Longest label of a file system that is read here: that of ISO 9660, section 8.4.8.
const LONGEST: usize = 32;

/// A label, without the blanks at its end.
pub type Label = heapless::Vec<u8, LONGEST>;

/// A device, or its bytes in memory.
pub trait Bytes {
    /// Fills `buffer` with what begins at `at`; `None` when it isn't all there.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Option<()>;
}

impl Bytes for OwnedFd {
    fn read(&self, at: u64, buffer: &mut [u8]) -> Option<()> {
        buffer.copy_from_slice(&bounded_read::read_at(self, at, buffer.len()).ok()?);
        Some(())
    }
}

impl Bytes for [u8] {
    fn read(&self, at: u64, buffer: &mut [u8]) -> Option<()> {
        let at = usize::try_from(at).ok()?;
        buffer.copy_from_slice(self.get(at..at.checked_add(buffer.len())?)?);
        Some(())
    }
}

/// A label without the blanks at its end.
pub(super) fn trimmed(label: &[u8]) -> Label {
    // Can't fail: no file system here has a longer field.
    Label::from_slice(label.trim_ascii_end()).unwrap_or_default()
}
