//! The promise: what the node fetches with - a registry without an asynchronous runtime, or a directory - takes an image
//! only when a trusted key signed it, tells its credentials to nobody else, and hands over what another process can check
//! again.
//!
//! Each refusal has its twin in the same test, marked "twin".

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod desk;
#[path = "desk/tls.rs"]
mod tls;

use astromesh_oci::{
    Credentials, Digest, Evidence, FetchError, Kind, LayoutError, LayoutSource, PublicKey, RegistryError,
    RegistrySource, Source, SourceError, SourceOptions, Verified, VerifyError, fetch_layer, manifest,
    roots_from_pem, signature, verify_with,
};
use desk::hostile::{Fault, Way};
use desk::server::Server;
use desk::{Image, pair, refer, source, source_options, succeed};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};
use tls::Tls;

fn fetch(verified: &Verified, source: &mut dyn Source, into: &Path) -> Result<(), FetchError> {
    let mut told = |_: astromesh_oci::Progress<'_>| ControlFlow::Continue(());
    fetch_layer(verified, Kind::Root, source, into, None, &mut [], &mut told).map(drop)
}

fn root(verified: &Verified) -> Digest {
    verified.manifest().layers.iter().find(|layer| layer.kind == Kind::Root).unwrap().digest
}

#[test]
fn what_is_pushed_is_verified_by_tag_and_by_digest_and_fetched() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(101));
    let pushed = image.push(&server.reference("team/os:1"), &key);
    let mut source = source(&server.reference("team/os:1"));
    for name in ["1".to_owned(), pushed.digest.to_string()] {
        let verified = verify_with(&mut source, &name, &[public]).unwrap();
        assert_eq!((verified.digest(), verified.key()), (pushed.digest, public));
        let dir = tempfile::tempdir().unwrap();
        fetch(&verified, &mut source, &dir.path().join("root")).unwrap();
        assert!(fs::read(dir.path().join("root")).unwrap() == image.file("root.erofs"));
    }
}

#[test]
fn another_key_no_key_and_no_signature_are_refused() {
    let (server, (key, public), (_, stranger), image) = (Server::start(), pair(), pair(), Image::new(102));
    let pushed = image.push(&server.reference("os:1"), &key);
    let way = Way::to(server.address());
    let mut source = source(&way.reference("os:1"));
    let mut refused = |keys: &[PublicKey]| verify_with(&mut source, "1", keys).unwrap_err();
    assert!(matches!(refused(&[stranger]), VerifyError::MatchSignature { .. }));
    assert!(matches!(refused(&[]), VerifyError::Trust));
    way.fault(pushed.digest.signature_tag(), Fault::Missing);
    assert!(matches!(refused(&[public]), VerifyError::FindSignature { .. }));
    way.behave(); // The twin.
    assert_eq!(verify_with(&mut source, "1", &[stranger, public]).unwrap().key(), public);
}

#[test]
fn another_manifest_payload_or_name_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(103));
    let pushed = image.push(&server.reference("os:1"), &key);
    let other = Image::new(104).push(&server.reference("os:2"), &key);
    let way = Way::to(server.address());
    let mut source = source(&way.reference("os:1"));
    let at = |digest: Digest| format!("/v2/os/manifests/{digest}");
    way.fault(at(pushed.digest), Fault::Serve(at(other.digest)));
    let error = verify_with(&mut source, &pushed.digest.to_string(), &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::MatchDigest { .. }), "{error}");
    way.behave();
    let payload = signature::payload(&server.reference("os"), pushed.digest);
    way.fault(Digest::of(&payload).to_string(), Fault::Body(vec![b' '; payload.len()]));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::MatchSignature { .. }), "{error}");
    let error = verify_with(&mut source, "3", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::FindImage(_)), "{error}");
    way.behave(); // The twin.
    verify_with(&mut source, &pushed.digest.to_string(), &[public]).unwrap();
}

#[test]
fn a_swapped_layer_is_refused_and_its_file_removed() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(105));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let mut source = source(&way.reference("os:1"));
    let verified = verify_with(&mut source, "1", &[public]).unwrap();
    let path = |at: usize| format!("/v2/os/blobs/{}", pushed.manifest.layers[at].digest);
    way.fault(path(1), Fault::Serve(path(2)));
    let into = dir.path().join("root");
    let error = fetch(&verified, &mut source, &into).unwrap_err();
    assert!(matches!(error, FetchError::MatchLayer { .. }), "{error}");
    assert!(!into.exists());
    way.behave(); // The twin.
    fetch(&verified, &mut source, &into).unwrap();
}

#[test]
fn a_registry_that_dies_leaves_what_came_and_the_next_fetch_goes_on() {
    let (mut server, (key, public), image) = (Server::start(), pair(), Image::new(106));
    image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let mut source = source(&way.reference("os:1"));
    let verified = verify_with(&mut source, "1", &[public]).unwrap();
    let root = root(&verified).to_string();
    let into = dir.path().join("root");
    way.fault(root.clone(), Fault::Cut(900_000, 1));
    let mut dying = Some(&mut server);
    let mut told = |what: astromesh_oci::Progress<'_>| {
        if let astromesh_oci::Progress::Broken { .. } = what {
            dying.take().into_iter().for_each(Server::kill);
        }
        ControlFlow::Continue(())
    };
    let error = fetch_layer(&verified, Kind::Root, &mut source, &into, None, &mut [], &mut told).unwrap_err();
    assert!(matches!(error, FetchError::ReceiveLayer { .. }), "{error}");
    let there = fs::metadata(&into).unwrap().len();
    assert!((1..=900_000).contains(&there), "{there}");
    server.again();
    let before = way.sent(&root);
    fetch(&verified, &mut source, &into).unwrap();
    assert!(fs::read(&into).unwrap() == image.file("root.erofs"));
    assert_eq!((way.sent(&root) - before) as u64, 3_000_000 - there, "only the rest");
}

#[test]
fn a_truncated_blob_is_never_taken_for_whole() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(107));
    image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(&server.reference("os:1"));
    let verified = verify_with(&mut source, "1", &[public]).unwrap();
    let (blob, into) = (server.blob(root(&verified)), dir.path().join("root"));
    fs::write(&blob, &image.file("root.erofs")[..1_000_000]).unwrap();
    let error = fetch(&verified, &mut source, &into).unwrap_err();
    assert!(matches!(error, FetchError::ReceiveLayer { received: 1_000_000, .. }), "{error}");
    fs::write(&blob, image.file("root.erofs")).unwrap(); // The twin.
    fetch(&verified, &mut source, &into).unwrap();
}

#[test]
fn what_is_handed_over_is_checked_again_without_a_registry() {
    let (mut server, (key, public), (_, stranger)) = (Server::start(), pair(), pair());
    let pushed = Image::new(108).push(&server.reference("os:1"), &key);
    let verified = verify_with(&mut source(&server.reference("os:1")), "1", &[public]).unwrap();
    server.kill();
    let bytes = verified.evidence().encode();
    let check = |bytes: &[u8], keys: &[PublicKey]| {
        Evidence::decode(bytes).and_then(|evidence| Verified::from_evidence(&evidence, keys).ok())
    };
    assert_eq!(check(&bytes, &[public]).unwrap().digest(), pushed.digest, "the twin");
    assert!(check(&bytes, &[stranger]).is_none());
    assert!(check(&bytes, &[]).is_none());
    // Every byte of it matters.
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(check(&changed, &[public]).is_none(), "{at}");
    }
}

/// A registry that asks for a token, and the place where one is had.
fn guarded(server: &Server, realm: &Way, token: &str) -> Way {
    let way = Way::to(server.address());
    let challenge = format!(
        "Bearer realm=\"http://{}\",service=\"test\",scope=\"repository:os:pull,push\"",
        realm.reference("token")
    );
    way.fault("", Fault::Guard(format!("Bearer {token}"), challenge));
    let body = format!("{{\"token\":\"{token}\",\"expires_in\":60}}");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    realm.fault("service=test&scope=repository%3Aos%3Apull", Fault::Answer(answer));
    way
}

#[test]
fn a_token_is_asked_for_once_for_this_repository_and_to_pull() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(109));
    image.push(&server.reference("os:1"), &key);
    let realm = Way::to(server.address());
    let (way, dir) = (guarded(&server, &realm, "let-me-in"), tempfile::tempdir().unwrap());
    let credentials = Credentials { user: "user".to_owned(), password: "secret".to_owned() };
    let options = SourceOptions { credentials: Some(credentials), ..source_options() };
    let mut source = RegistrySource::open(&refer(&way.reference("os:1")), options).unwrap();
    let verified = verify_with(&mut source, "1", &[public]).unwrap();
    fetch(&verified, &mut source, &dir.path().join("root")).unwrap();
    let asked = realm.requests("pull");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path, "/token?service=test&scope=repository%3Aos%3Apull");
    // "user:secret"; and the registry itself has seen the token alone.
    assert_eq!(asked[0].authorization.as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
    let told: std::collections::BTreeSet<_> =
        way.requests("").into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(told, [None, Some("Bearer let-me-in".to_owned())].into());

    // A realm that would be told over plain HTTP, not on this machine; and one without a token.
    for challenge in ["Bearer realm=\"http://realm.example/token\"", "Negotiate", "Bearer realm=\"nonsense\""]
    {
        way.behave();
        way.fault("", Fault::Guard("nothing".to_owned(), challenge.to_owned()));
        let error = verify_with(&mut source, "1", &[public]).unwrap_err();
        assert!(
            matches!(
                error,
                VerifyError::Registry(RegistryError::Answer { .. } | RegistryError::Authenticate { .. })
            ),
            "{error}"
        );
    }
}

#[test]
fn of_several_challenges_the_one_that_can_be_answered_is() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(118));
    image.push(&server.reference("os:1"), &key);
    let realm = Way::to(server.address());
    let bearer = format!("Bearer realm=\"http://{}\",service=\"test\"", realm.reference("token"));
    let body = "{\"token\":\"\",\"access_token\":\"let-me-in\"}";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    realm.fault("pull", Fault::Answer(answer));
    for challenge in [
        format!("Basic realm=\"test\", {bearer}"),
        format!("Basic realm=\"test\"\r\nWWW-Authenticate: {bearer}"),
        format!("Negotiate\r\nWWW-Authenticate: {bearer}, Basic realm=\"a, b\""),
        format!("Bearer realm=\"http://realm.example/token\", {bearer}"),
    ] {
        let way = Way::to(server.address());
        way.fault("", Fault::Guard("Bearer let-me-in".to_owned(), challenge.clone()));
        let mut source = source(&way.reference("os:1"));
        let verified = verify_with(&mut source, "1", &[public]);
        assert!(verified.is_ok(), "{challenge}: {}", verified.unwrap_err());
    }
    // With an account, a token that isn't to be had is no end where the account alone would do.
    let credentials = Credentials { user: "user".to_owned(), password: "secret".to_owned() };
    let options = SourceOptions { credentials: Some(credentials), ..source_options() };
    let way = Way::to(server.address());
    let challenge = "Bearer realm=\"http://realm.example/token\", Basic realm=\"test\"".to_owned();
    way.fault("", Fault::Guard("Basic dXNlcjpzZWNyZXQ=".to_owned(), challenge));
    let mut source = RegistrySource::open(&refer(&way.reference("os:1")), options).unwrap();
    verify_with(&mut source, "1", &[public]).unwrap();
}

#[test]
fn what_a_registry_packs_unasked_is_named() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(119));
    image.push(&server.reference("os:1"), &key);
    let way = Way::to(server.address());
    let mut source = source(&way.reference("os:1"));
    let answer = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz";
    way.fault("manifests/1", Fault::Answer(answer.to_owned()));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(error.to_string().contains("Content-Encoding: gzip"), "{error}");
    way.behave();
    // The same by a proxy that doesn't say so.
    way.fault("manifests/1", Fault::Body(b"\x1f\x8b\x08\0\0\0\0\0".to_vec()));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::UnpackManifest(_)), "{error}");
    way.behave(); // The twin.
    verify_with(&mut source, "1", &[public]).unwrap();
}

#[test]
fn a_token_that_ran_out_is_asked_for_again() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(110));
    image.push(&server.reference("os:1"), &key);
    let realm = Way::to(server.address());
    let way = guarded(&server, &realm, "first");
    let mut source = source(&way.reference("os:1"));
    verify_with(&mut source, "1", &[public]).unwrap();
    way.behave();
    realm.behave();
    let challenge = format!("Bearer realm=\"http://{}\",service=\"test\"", realm.reference("token"));
    way.fault("", Fault::Guard("Bearer second".to_owned(), challenge));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::Registry(_)), "no token is to be had: {error}");
    let body = "{\"access_token\":\"second\"}";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    realm.fault("pull", Fault::Answer(answer)); // The twin.
    verify_with(&mut source, "1", &[public]).unwrap();
}

#[test]
fn a_redirect_is_followed_without_the_credentials_and_never_to_plain_http_elsewhere() {
    let (server, (key, public), image) = (Server::with_password(), pair(), Image::new(111));
    let open = Server::start();
    image.push(&open.reference("os:1"), &key);
    let credentials = Some(Credentials { user: "user".to_owned(), password: "secret".to_owned() });
    let options = astromesh_oci::Options { credentials: credentials.clone(), ..desk::options() };
    astromesh_oci::push(&refer(&server.reference("os:1")), &image.artifact, &key, &options, &mut |_| ())
        .unwrap();
    // Its blobs are somewhere else, where nobody needs a password.
    let (way, storage) = (Way::to(server.address()), Way::to(open.address()));
    let options = SourceOptions { credentials, ..source_options() };
    let mut source = RegistrySource::open(&refer(&way.reference("os:1")), options).unwrap();
    let verified = verify_with(&mut source, "1", &[public]).unwrap();
    let root = root(&verified);
    let dir = tempfile::tempdir().unwrap();
    let send_to = |place: &str| {
        way.behave();
        let head =
            format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
        way.fault(root.to_string(), Fault::Answer(head));
    };
    let into = dir.path().join("root");
    for place in ["http://storage.example/x", "ftp://127.0.0.1/x", "//127.0.0.1/x", ""] {
        send_to(place);
        let error = fetch(&verified, &mut source, &into).unwrap_err();
        assert!(
            matches!(error, FetchError::Source(SourceError::Registry(RegistryError::Answer { .. }))),
            "{error}"
        );
    }
    send_to(&format!("/v2/os/blobs/{root}")); // To itself, for ever.
    assert!(fetch(&verified, &mut source, &into).unwrap_err().to_string().contains("more than 5 times"));
    send_to(&format!("http://{}", storage.reference(&format!("v2/os/blobs/{root}")))); // The twin.
    fetch(&verified, &mut source, &into).unwrap();
    assert!(fs::read(&into).unwrap() == image.file("root.erofs"));
    let asked = way.requests(&root.to_string());
    assert!(asked.iter().all(|asked| asked.authorization.is_some()));
    let asked = storage.requests(&root.to_string());
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
}

#[test]
fn a_server_whose_certificate_nobody_trusted_signed_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(112));
    image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let body = image.file("root.erofs");
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), &body].concat();
    let (tls, other) = (Tls::serve(answer), Tls::serve(Vec::new()));
    let with = |root: &str| {
        let options = SourceOptions { roots: roots_from_pem(root.as_bytes()).unwrap(), ..source_options() };
        RegistrySource::open(&refer(&way.reference("os:1")), options).unwrap()
    };
    let verified = verify_with(&mut with(&tls.root), "1", &[public]).unwrap();
    let place = format!("https://localhost:{}/blob", tls.address.port());
    let head = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
    way.fault(root(&verified).to_string(), Fault::Answer(head));
    let into = dir.path().join("root");
    let error = fetch(&verified, &mut with(&other.root), &into).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    fetch(&verified, &mut with(&tls.root), &into).unwrap(); // The twin.
    assert!(fs::read(&into).unwrap() == body);
}

#[test]
fn a_registry_elsewhere_is_not_spoken_to_without_certificates() {
    let reference = refer("registry.example/os:1");
    let open = |options| RegistrySource::open(&reference, options).err();
    assert!(matches!(open(SourceOptions::default()), Some(RegistryError::Prepare(_))));
    // The twins: with a certificate, and in a test's closed network.
    let roots = roots_from_pem(Tls::serve(Vec::new()).root.as_bytes()).unwrap();
    assert!(open(SourceOptions { roots, ..SourceOptions::default() }).is_none());
    assert!(open(SourceOptions { plain_http: true, ..SourceOptions::default() }).is_none());
}

#[test]
fn a_rate_is_kept_and_a_silent_registry_is_given_up_on() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(113));
    image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let timed = |options, name: &str| {
        let mut source = RegistrySource::open(&refer(&server.reference("os:1")), options).unwrap();
        let verified = verify_with(&mut source, "1", &[public]).unwrap();
        let start = Instant::now();
        fetch(&verified, &mut source, &dir.path().join(name)).unwrap();
        start.elapsed()
    };
    let slow = SourceOptions { rate: std::num::NonZeroU64::new(2_000_000), ..source_options() };
    assert!(timed(slow, "slow") >= Duration::from_millis(1490), "3 MB at 2 MB/s");
    assert!(timed(source_options(), "fast") < Duration::from_millis(1490), "the twin");

    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let idle = Duration::from_millis(300);
    let reference = format!("{}/os:1", silent.local_addr().unwrap());
    let options = SourceOptions { idle, ..source_options() };
    let mut source = RegistrySource::open(&refer(&reference), options).unwrap();
    let start = Instant::now();
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::Registry(RegistryError::Reach { .. })), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_manifest_that_never_ends_is_given_up_on_by_the_node_too() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(114));
    image.push(&server.reference("os:1"), &key);
    let way = Way::to(server.address());
    way.fault("/manifests/1", Fault::Endless);
    let mut source = source(&way.reference("os:1"));
    let error = verify_with(&mut source, "1", &[public]).unwrap_err();
    let bound = manifest::MAX_MANIFEST;
    assert!(
        matches!(error, VerifyError::Registry(RegistryError::Bound { limit, .. }) if limit == bound),
        "{error}"
    );
    way.behave(); // The twin.
    verify_with(&mut source, "1", &[public]).unwrap();
}

/// A registry's image and its signature, written to a directory by somebody else's client.
fn layout(server: &Server, digest: Digest, dir: &Path) {
    let home = tempfile::tempdir().unwrap();
    for tag in ["1".to_owned(), digest.signature_tag()] {
        let (from, to) = (server.reference(&format!("os:{tag}")), format!("{}:{tag}", dir.display()));
        succeed("oras", home.path(), &["cp", "--from-plain-http", "--to-oci-layout", &from, &to]);
    }
}

#[test]
fn a_layout_that_oras_wrote_is_taken_like_a_registry() {
    let (server, (key, public), (_, stranger)) = (Server::start(), pair(), pair());
    let image = Image::new(115);
    let pushed = image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("layout");
    layout(&server, pushed.digest, &at);
    let mut source = LayoutSource::open(&at).unwrap();
    for name in ["1".to_owned(), pushed.digest.to_string()] {
        let verified = verify_with(&mut source, &name, &[public]).unwrap();
        assert_eq!(verified.digest(), pushed.digest);
        let into = dir.path().join("root");
        fs::write(&into, &image.file("root.erofs")[..1000]).unwrap();
        fetch(&verified, &mut source, &into).unwrap();
        assert!(fs::read(&into).unwrap() == image.file("root.erofs"));
    }
    let error = verify_with(&mut source, "1", &[stranger]).unwrap_err();
    assert!(matches!(error, VerifyError::MatchSignature { .. }), "{error}");
    for missing in ["2".to_owned(), Digest::of(b"").to_string()] {
        let error = verify_with(&mut source, &missing, &[public]).unwrap_err();
        assert!(matches!(error, VerifyError::FindImage(_)), "{error}");
    }
}

#[test]
fn a_layout_whose_files_were_changed_linked_or_lost_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(116));
    let pushed = image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("layout");
    layout(&server, pushed.digest, &at);
    let verified = verify_with(&mut LayoutSource::open(&at).unwrap(), "1", &[public]).unwrap();
    let blob = |digest: Digest| at.join("blobs/sha256").join(digest.hex());
    let root = blob(root(&verified));
    let (into, away) = (dir.path().join("root"), dir.path().join("away"));
    let taken = || fetch(&verified, &mut LayoutSource::open(&at).unwrap(), &into);

    let mut changed = image.file("root.erofs");
    changed[2_000_000] ^= 1;
    fs::write(&root, &changed).unwrap();
    assert!(matches!(taken(), Err(FetchError::MatchLayer { .. })));
    fs::write(&root, &changed[..1_000_000]).unwrap();
    assert!(matches!(taken(), Err(FetchError::ReceiveLayer { .. })));
    // The right bytes, but behind a link.
    fs::write(&away, image.file("root.erofs")).unwrap();
    fs::remove_file(&root).unwrap();
    std::os::unix::fs::symlink(&away, &root).unwrap();
    assert!(matches!(taken(), Err(FetchError::Source(SourceError::Layout(LayoutError::ReadFile { .. })))));
    fs::remove_file(&root).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &root, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(matches!(taken(), Err(FetchError::Source(SourceError::Layout(LayoutError::ReadFile { .. })))));
    fs::remove_file(&root).unwrap();
    assert!(matches!(taken(), Err(FetchError::Source(SourceError::Layout(LayoutError::ReadFile { .. })))));
    fs::write(&root, image.file("root.erofs")).unwrap(); // The twin.
    taken().unwrap();

    // The directory of all blobs, behind a link; the twin was that it is there.
    fs::rename(at.join("blobs"), dir.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("blobs"), at.join("blobs")).unwrap();
    assert!(matches!(LayoutSource::open(&at), Err(LayoutError::ReadFile { .. })));
}

#[test]
fn an_index_that_is_none_too_long_or_ambiguous_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(117));
    let pushed = image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("layout");
    layout(&server, pushed.digest, &at);
    let good = fs::read_to_string(at.join("index.json")).unwrap();
    let with = |text: &str| {
        fs::write(at.join("index.json"), text).unwrap();
        LayoutSource::open(&at)
    };
    for wrong in ["", "[]", "{}", &good.replace("\"schemaVersion\":2", "\"schemaVersion\":1")] {
        assert!(matches!(with(wrong), Err(LayoutError::Parse { .. })), "{wrong}");
    }
    let long = format!("{good}{}", " ".repeat(1024 * 1024));
    assert!(matches!(with(&long), Err(LayoutError::Bound { .. })));
    // The tag of the signature is made the image's, too.
    let twice = good.replace(&pushed.digest.signature_tag(), "1");
    let error = verify_with(&mut with(&twice).unwrap(), "1", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::Layout(LayoutError::Decide { .. })), "{error}");
    verify_with(&mut with(&good).unwrap(), "1", &[public]).unwrap(); // The twin.
    // What others keep beside it is passed over; who asks for just that is told why it isn't read.
    let others = "{\"mediaType\":\"x\",\"digest\":\"sha512:00\",\"size\":1,\"annotations\":null},{},\
        {\"mediaType\":\"x\",\"digest\":\"sha512:00\",\"size\":1,\"annotations\":{\"org.opencontainers.image.ref.name\":\"2\"}},";
    let beside = good.replacen("\"manifests\":[", &format!("\"manifests\":[{others}"), 1);
    verify_with(&mut with(&beside).unwrap(), "1", &[public]).unwrap();
    let error = verify_with(&mut with(&beside).unwrap(), "2", &[public]).unwrap_err();
    assert!(matches!(error, VerifyError::Layout(LayoutError::ReadEntry { .. })), "{error}");
    with(&good).unwrap();
    let mark = at.join("oci-layout");
    fs::write(&mark, fs::read_to_string(&mark).unwrap().replace("1.0.0", "2.0.0")).unwrap();
    assert!(matches!(LayoutSource::open(&at), Err(LayoutError::Parse { .. })));
}

#[test]
fn no_asynchronous_runtime_is_below_the_part_for_the_node() {
    let tree = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args([
            "tree",
            "--locked",
            "--package",
            "astromesh-oci",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ]);
        command.args(more).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let node = tree(&["--no-default-features"]);
    for banned in ["tokio", "reqwest", "oci-client", "hyper", "webpki-roots", "rustls-native-certs"] {
        assert!(!node.iter().any(|name| name == banned), "{banned}");
    }
    assert!(node.iter().any(|name| name == "ureq"));
    assert!(tree(&[]).iter().any(|name| name == "tokio"), "the twin: at the desk it is");
}
