//! Volumes by their label: the devices that there are, and what the first bytes of one say.
//!
//! Two processes look for a labelled drive: PID 1 for a machine-config, `slots` for a release. What is on it is
//! somebody's, so the label is read by a pure function over a bounded number of bytes, and mounting is left to who needs
//! the files.

use std::ffi::CStr;

/// Whole devices and partitions, in the order of their names.
pub fn devices() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("loop") && !name.starts_with("dm-"))
        .map(|name| format!("/dev/{name}"))
        .collect();
    names.sort_unstable();
    names
}

/// File system type and label of the volume that begins with these bytes: FAT12/16 (label at 0x2b, type at 0x36),
/// FAT32 (0x47, 0x52) or ISO 9660 (primary descriptor at 0x8000, label at 0x28 of it).
pub fn volume_label(start: &[u8]) -> Option<(&'static CStr, &[u8])> {
    let label = |at: usize, length: usize| start.get(at..at + length).map(<[u8]>::trim_ascii_end);
    let has = |at: usize, magic: &[u8]| start.get(at..at + magic.len()) == Some(magic);
    if has(0x1fe, &[0x55, 0xaa]) && has(0x36, b"FAT") {
        Some((c"vfat", label(0x2b, 11)?))
    } else if has(0x1fe, &[0x55, 0xaa]) && has(0x52, b"FAT32") {
        Some((c"vfat", label(0x47, 11)?))
    } else if has(0x8000, b"\x01CD001") {
        Some((c"iso9660", label(0x8028, 32)?))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fat(label: &[u8; 11]) -> Vec<u8> {
        let mut fat = vec![0; 0x8800];
        fat[0x36..0x3b].copy_from_slice(b"FAT12");
        fat[0x2b..0x36].copy_from_slice(label);
        fat[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        fat
    }

    fn iso(label: &[u8]) -> Vec<u8> {
        let mut iso = vec![0; 0x8800];
        iso[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        iso[0x8028..0x8048].fill(b' ');
        iso[0x8028..0x8028 + label.len()].copy_from_slice(label);
        iso
    }

    #[test]
    fn a_volume_that_is_no_file_system_of_ours_has_no_label() {
        let mut unsigned = fat(b"ASTROMESH  ");
        unsigned[0x1fe] = 0;
        assert_eq!(volume_label(&unsigned), None, "no boot signature");
        assert_eq!(volume_label(&iso(b"ASTROMESH")[..0x8030]), None);
        assert_eq!(volume_label(&[]), None);
    }
}
