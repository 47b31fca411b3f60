//! An accepted superblock has one form only: writing it again gives the bytes it was read from.
#![no_main]

use astromesh_verity::{Superblock, superblock::SIZE};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(superblock) = Superblock::parse_prefix(bytes) {
        assert_eq!(superblock.to_bytes(), bytes[..SIZE]);
        assert!(superblock.layout().hash_device_blocks() > 0);
    }
});
