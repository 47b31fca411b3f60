//! Volumes by their label: the devices that there are, and what a few places of one say.
//!
//! Two processes look for a labelled drive: PID 1 for a machine-config, `slots` for a release. What is on it is
//! somebody's, so the label is read by a pure function over a bounded number of bytes, and mounting is left to who needs
//! the files.

mod bytes;
mod fat;

pub use bytes::{Bytes, Label};

use crate::disk;
use bytes::trimmed;
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

/// File system type and label of the volume on a device.
pub fn label_of(device: &str) -> Option<(&'static CStr, Label)> {
    volume_label(&disk::open(device)?)
}

/// File system type and label of a volume: FAT in any of its sizes, or ISO 9660 (primary descriptor at 0x8000, label at 0x28
/// of it).
pub fn volume_label(volume: &(impl Bytes + ?Sized)) -> Option<(&'static CStr, Label)> {
    if let Some(label) = fat::label(volume) {
        return Some((c"vfat", label));
    }
    let mut descriptor = [0; 0x48];
    volume.read(0x8000, &mut descriptor)?;
    let is_iso = descriptor.starts_with(b"\x01CD001");
    is_iso.then(|| (c"iso9660", trimmed(&descriptor[0x28..])))
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
        assert_eq!(volume_label(&*unsigned), None, "no boot signature");
        assert_eq!(volume_label(&iso(b"ASTROMESH")[..0x8030]), None);
        assert_eq!(volume_label(&[0_u8; 0][..]), None);
        let label = |volume: &[u8]| volume_label(volume).map(|(_, label)| label.to_vec());
        assert_eq!(label(&iso(b"ASTROMESH")).unwrap(), b"ASTROMESH");
        assert_eq!(label(&fat(b"ASTROMESH  ")).unwrap(), b"ASTROMESH");
    }
}
