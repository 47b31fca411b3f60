//! Names on a boot partition that anybody may have written to, and the boot loader's variable: never a panic, and what is
//! taken for an entry of ours is exactly what would be written for it.
#![no_main]

use astromesh_proto::boot_entry::BootEntry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = std::str::from_utf8(bytes) {
        if let Some(entry) = BootEntry::parse(name) {
            let written = entry.to_string();
            assert_eq!(BootEntry::parse(&written), Some(entry));
            // A count may come without tries made, and with zeros in front; nothing else may differ.
            assert!(entry.tries.is_some() || written == name, "{name}");
            assert!(!name.contains(['/', '\\', '\0']), "{name:?}");
        }
    }
    if let Some(entry) = BootEntry::from_loader_variable(bytes) {
        assert_eq!(BootEntry::parse(&entry.to_string()), Some(entry));
    }
});
