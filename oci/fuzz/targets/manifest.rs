//! A manifest from nowhere: never a panic, and what is taken names plain files only, fits its bounds, and encodes to
//! something that is taken as the same.
#![no_main]

use astromesh_oci::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        for layer in &manifest.layers {
            let name = layer.name.as_str();
            assert!(
                !name.contains(['/', '\0']) && !name.starts_with('.') && layer.size <= layer.kind.limit()
            );
        }
        // Only escapes that the bytes didn't have can make it longer than its bound.
        if let Ok(again) = manifest.encode() {
            assert_eq!(Manifest::parse(&again), Ok(manifest));
        }
    }
});
