//! A signature manifest, a bundle, a payload, a key, a reference from nowhere: never a panic, and signatures that are taken encode
//! to something that is taken as the same.
#![no_main]

use astromesh_oci::signature::{MAX_PAYLOAD, MAX_SIGNATURES, encode, list, signed_digest};
use astromesh_oci::{PublicKey, Reference, SigningKey, bundle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signatures) = list(bytes) {
        assert!(signatures.len() <= MAX_SIGNATURES);
        assert!(signatures.iter().all(|signature| signature.size <= MAX_PAYLOAD as u64));
        if let Ok(again) = list(&encode(&signatures)) {
            assert_eq!(again, signatures);
        }
    }
    let _ = signed_digest(bytes);
    let _ = bundle::signed_digest(bytes);
    if let Ok((payload, _)) = bundle::parse(bytes) {
        let _ = bundle::signed_digest(&payload);
    }
    if let Ok(key) = PublicKey::from_pem(bytes) {
        assert_eq!(PublicKey::from_pem(key.to_pem().as_bytes()).expect("what was written"), key);
    }
    let _ = SigningKey::from_pem(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Reference>();
    }
});
