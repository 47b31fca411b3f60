//! Giving back what only the boot needed: the pages of code that will not run again.
//!
//! PID 1 runs for as long as the machine, in a loop of a few pages; the boot went through hundreds. They stay in the
//! initramfs, from where a page that is needed after all comes back without a disk, so nothing can go wrong by letting
//! go of them.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::fs;

/// Unmaps the pages of this program's code and constants from this process.
pub fn forget_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(unwritten_mapping) {
        // SAFETY: the range is a private mapping of a file that was never written to: it is executable (and mapped
        // W^X), or the first of the file, which holds constants and no relocation. For such a page MADV_DONTNEED
        // drops the mapping and the next access maps the same bytes of the file again (madvise(2)).
        unsafe {
            libc::madvise(
                core::ptr::with_exposed_provenance_mut::<c_void>(start),
                end - start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Start and end of a mapping, if it is one of this program's file that nothing was ever written to.
///
/// What comes after the code may have been relocated before it was made read-only: its pages are this process's own,
/// and would come back without the relocations.
fn unwritten_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let file = fields.nth(2)?;
    let constants = permissions == "r--p" && u64::from_str_radix(offset, 16).ok()? == 0;
    if !file.starts_with('/') || !(constants || permissions == "r-xp") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_the_constants_before_it_are_forgotten() {
        let kept = [
            "7f0000293000-7f00002a2000 r--p 00290000 00:02 9 /init",
            "7f00002a2000-7f00002a5000 rw-p 0029e000 00:02 9 /init",
            "7ffc0000-7ffd0000 r-xp 00000000 00:00 0 [vdso]",
            "7f1-7f2 r-xp 00000000 00:00 0",
            "",
        ];
        for line in kept {
            assert_eq!(unwritten_mapping(line), None, "{line}");
        }
        let code = "7f00000c3000-7f0000292000 r-xp 000c2000 00:02 9 /init";
        assert_eq!(unwritten_mapping(code), Some((0x7f00_000c_3000, 0x7f00_0029_2000)));
        let constants = "7f0000000000-7f00000c3000 r--p 00000000 00:02 9 /init";
        assert!(unwritten_mapping(constants).is_some());
    }

    #[test]
    fn the_program_goes_on_after_its_code_is_forgotten() {
        forget_code();
        assert_eq!(format!("{:>4}", 6 * 7), "  42");
    }
}
