//! A firmware table from nowhere: never a panic, never more than the bound.
#![no_main]

use astromesh_proto::machine_config::{MAX_DOCUMENT, smbios};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(document)) = smbios::credential(bytes) {
        assert!(document.len() <= MAX_DOCUMENT);
    }
});
