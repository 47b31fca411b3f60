//! A chunk index and evidence from nowhere: never a panic, and what is taken adds up and has exactly one form.
#![no_main]

use astromesh_oci::chunks::{MAX_CHUNK, MAX_CHUNKS};
use astromesh_oci::{ChunkIndex, Evidence, Verified};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = ChunkIndex::parse(bytes) {
        assert_eq!(index.encode().expect("what was taken"), bytes);
        assert!(index.layers().iter().map(|layer| layer.chunks.len()).sum::<usize>() <= MAX_CHUNKS);
        for layer in index.layers() {
            assert!(layer.chunks.iter().all(|chunk| (1..=MAX_CHUNK).contains(&(chunk.length as usize))));
            assert_eq!(layer.chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>(), layer.size);
            assert!(layer.size <= layer.kind.limit());
        }
    }
    if let Some(evidence) = Evidence::decode(bytes) {
        assert_eq!(Evidence::decode(&evidence.encode()).as_ref(), Some(&evidence));
        let _ = Verified::from_evidence(&evidence, &[]);
    }
});
