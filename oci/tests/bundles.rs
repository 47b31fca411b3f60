//! The promise: an image that is signed by a Sigstore bundle alone, as cosign signs since version 3, is taken like any other,
//! from a registry of either age and from a layout; and an attestation is no signature.

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod desk;

use astromesh_oci::{
    Digest, Evidence, LayoutSource, PublicKey, Source as _, Verified, VerifyError, manifest, verify_with,
};
use desk::hostile::{Fault, Way};
use desk::server::Server;
use desk::{Image, pair, source, succeed};
use std::fs;

/// What cosign 3 makes of a signature: a bundle that refers to the image, and nothing under the signature's tag. Debian's
/// cosign makes the same with `attest`, since a signature is an attestation of one type.
#[test]
fn a_bundle_by_cosign_is_a_signature_and_one_that_states_something_else_is_none() {
    const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
    let (server, (key, ours), image) = (Server::start(), pair(), Image::new(120));
    let pushed = image.push(&server.reference("os:1"), &key);
    let home = tempfile::tempdir().unwrap();
    let copy = server.reference("copy:1");
    let copied = ["cp", "--from-plain-http", "--to-plain-http", &server.reference("os:1"), &copy];
    succeed("oras", home.path(), &copied);
    fs::write(home.path().join("predicate.json"), "{}").unwrap();
    succeed("cosign", home.path(), &["generate-key-pair"]);
    let public = PublicKey::load(&home.path().join("cosign.pub")).unwrap();
    let subject = server.reference(&format!("copy@{}", pushed.digest));
    let attest = |kind: &str| {
        let mut arguments = vec!["attest", "--yes", "--key", "cosign.key", "--new-bundle-format"];
        arguments.extend(["--tlog-upload=false", "--predicate", "predicate.json", "--type", kind]);
        arguments.extend(["--allow-http-registry", &subject]);
        succeed("cosign", home.path(), &arguments);
    };
    let way = Way::to(server.address());
    let mut source = source(&way.reference("copy:1"));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::FindSignature { .. }), "{error}");
    attest("https://example.com/scanned/v1");
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::MatchSignature { .. }), "{error}");
    assert!(error.to_string().contains("https://example.com/scanned/v1"), "{error}");

    // The twin, beside the other; and what is handed over is enough to check it again.
    attest(SIGNED);
    let verified = verify_with(&mut source, "1", &[ours, public]).unwrap();
    assert_eq!((verified.digest(), verified.key()), (pushed.digest, public));
    let handed = Evidence::decode(&verified.evidence().encode()).unwrap();
    assert_eq!(Verified::from_evidence(&handed, &[public]).unwrap().key(), public);
    assert!(Verified::from_evidence(&handed, &[ours]).is_err());
    let error = verify_with(&mut source, "1", &[ours]).unwrap_err();
    assert!(matches!(error, VerifyError::MatchSignature { .. }), "{error}");

    // A registry that lists what refers to an image itself, in place of the tag.
    let found = source.referrers(pushed.digest).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    let entry = |digest: Digest, predicate: &str| {
        format!(
            "{{\"mediaType\":\"{}\",\"digest\":\"{digest}\",\"size\":1,\
             \"artifactType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\
             \"annotations\":{{\"dev.sigstore.bundle.predicateType\":\"{predicate}\"}}}}",
            manifest::MEDIA_TYPE
        )
    };
    let listed = |entries: &str| {
        let body = format!("{{\"schemaVersion\":2,\"manifests\":[{entries}]}}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        way.behave();
        way.fault(pushed.digest.referrers_tag(), Fault::Missing);
        way.fault(format!("referrers/{}", pushed.digest), Fault::Answer(answer));
    };
    listed("");
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::FindSignature { .. }), "{error}");
    let all: Vec<_> = found.iter().map(|referrer| entry(referrer.digest, SIGNED)).collect();
    listed(&format!("{{\"digest\":\"sha512:00\"}},{}", all.join(",")));
    verify_with(&mut source, "1", &[public]).unwrap();

    // And a stick to which all of it was copied.
    way.behave();
    let at = home.path().join("layout");
    let to = format!("{}:1", at.display());
    succeed("oras", home.path(), &["cp", "-r", "--from-plain-http", "--to-oci-layout", &copy, &to]);
    verify_with(&mut LayoutSource::open(&at).unwrap(), "1", &[public]).unwrap();
    // The twin: the image alone.
    let bare = home.path().join("bare");
    let to = format!("{}:1", bare.display());
    succeed("oras", home.path(), &["cp", "--from-plain-http", "--to-oci-layout", &copy, &to]);
    let error = verify_with(&mut LayoutSource::open(&bare).unwrap(), "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::FindSignature { .. }), "{error}");
}
