//! The promise: what a registry holds of ours can be had and checked with other people's clients, and our client takes an
//! image whole, signed and unchanged, or not at all.
//!
//! Registry and other clients are Debian's. Each refusal has its twin in the same test, marked "twin": the same bytes
//! from the same registry, with the one thing put right that the refusal is about, are written.

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod desk;

use astromesh_oci::manifest::{EMPTY_MEDIA_TYPE, MAX_MANIFEST};
use astromesh_oci::{
    Credentials, Digest, FileName, Kind, Options, Progress, PublicKey, PullError, Pulled, PushError, Pushed,
    RegistryError, VerifyError, manifest, pull, push, verify,
};
use desk::hostile::{Fault, Way};
use desk::server::Server;
use desk::{Image, LAYERS, listing, noise, options, pair, refer, run, succeed};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn fetch(reference: &str, key: PublicKey, dest: &Path) -> Result<Pulled, PullError> {
    pull(&refer(reference), &[key], dest, &options(), &mut |_| ())
}

fn layer(pushed: &Pushed, name: &str) -> Digest {
    pushed.manifest.layers.iter().find(|layer| layer.name.as_str() == name).unwrap().digest
}

fn partial(pushed: &Pushed) -> String {
    format!(".partial-{}", pushed.digest.hex())
}

#[test]
fn what_is_pushed_is_what_is_pulled() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(1));
    let dir = tempfile::tempdir().unwrap();
    let pushed = image.push(&server.reference("team/os:0.1.0"), &key);
    let pulled = fetch(&server.reference("team/os:0.1.0"), public, &dir.path().join("new")).unwrap();
    image.assert_whole(&dir.path().join("new"));
    assert_eq!(pulled.verified.digest(), pushed.digest);
    assert_eq!(pulled.verified.manifest().annotations, image.artifact.annotations);
    assert_eq!(pulled.verified.key(), public);
    // By digest too.
    let pinned = server.reference(&format!("team/os@{}", pushed.digest));
    fetch(&pinned, public, &dir.path().join("pinned")).unwrap();
    image.assert_whole(&dir.path().join("pinned"));
}

#[test]
fn the_same_files_pushed_again_are_the_same_image_and_no_layer_is_sent() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(2));
    let reference = refer(&server.reference("os:1"));
    let mut notes = Vec::new();
    let first = image.push(&server.reference("os:1"), &key);
    let second =
        push(&reference, &image.artifact, &key, &options(), &mut |text| notes.push(text.to_owned())).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(notes.iter().filter(|note| note.ends_with("is there already")).count(), LAYERS.len());
    assert!(verify(&reference, &[public], &options()).is_ok());
}

#[test]
fn a_pull_into_a_folder_that_has_it_all_asks_for_no_layer() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(3));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        fetch(&way.reference("os:1"), public, dir.path()).unwrap();
        image.assert_whole(dir.path());
    }
    assert_eq!(way.asked(&layer(&pushed, "root.erofs").to_string()).len(), 1);
}

#[test]
fn oras_pulls_the_same_files() {
    let (server, (key, _), image) = (Server::start(), pair(), Image::new(4));
    image.push(&server.reference("os:1"), &key);
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = out.path().display().to_string();
    succeed("oras", home.path(), &["pull", "--plain-http", "-o", &folder, &server.reference("os:1")]);
    image.assert_whole(out.path());
}

#[test]
fn cosign_accepts_our_signature_and_no_other_key() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(5));
    let pushed = image.push(&server.reference("os:1"), &key);
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("right.pub"), public.to_pem()).unwrap();
    fs::write(home.path().join("wrong.pub"), pair().1.to_pem()).unwrap();
    let reference = server.reference("os:1");
    let arguments = |key| {
        ["verify", "--key", key, "--insecure-ignore-tlog=true", "--allow-http-registry", reference.as_str()]
    };
    let said = succeed("cosign", home.path(), &arguments("right.pub"));
    assert!(said.contains(&pushed.digest.to_string()), "{said}");
    let refused = run("cosign", home.path(), &arguments("wrong.pub"));
    assert!(!refused.status.success());
}

#[test]
fn a_signature_by_cosign_is_accepted_and_an_image_without_one_is_not() {
    let (server, (key, ours), image) = (Server::start(), pair(), Image::new(6));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (home, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    // A copy without its signature, made by a client that knows nothing of signatures.
    let copy = server.reference("copy:1");
    succeed(
        "oras",
        home.path(),
        &["cp", "--from-plain-http", "--to-plain-http", &server.reference("os:1"), &copy],
    );
    let error = fetch(&copy, ours, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::FindSignature { .. })), "{error}");
    assert!(error.to_string().contains("is not signed"), "{error}");
    assert!(!dest.exists());

    // The twin: the same copy, signed.
    succeed("cosign", home.path(), &["generate-key-pair"]);
    let public = PublicKey::load(&home.path().join("cosign.pub")).unwrap();
    let signed = server.reference(&format!("copy@{}", pushed.digest));
    let mut arguments = vec!["sign", "--yes", "--key", "cosign.key", "--tlog-upload=false"];
    arguments.extend(["--allow-http-registry", &signed]);
    succeed("cosign", home.path(), &arguments);
    fetch(&copy, public, &dest).unwrap();
    image.assert_whole(&dest);

    // Another push adds a signature and keeps that one.
    image.push(&copy, &key);
    for key in [ours, public] {
        assert_eq!(verify(&refer(&copy), &[key], &options()).unwrap().key(), key);
    }
}

#[test]
fn an_image_that_another_key_signed_is_refused() {
    let (server, (key, public), (_, stranger), image) = (Server::start(), pair(), pair(), Image::new(7));
    image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("new");
    let error = fetch(&server.reference("os:1"), stranger, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::MatchSignature { .. })), "{error}");
    assert!(!dest.exists());
    let none = pull(&refer(&server.reference("os:1")), &[], &dest, &options(), &mut |_| ()).unwrap_err();
    assert!(matches!(none, PullError::Verify(VerifyError::Trust)), "{none}");
    assert!(!dest.exists());
    // The twin: the same registry, and the key among those that are trusted.
    pull(&refer(&server.reference("os:1")), &[stranger, public], &dest, &options(), &mut |_| ()).unwrap();
    image.assert_whole(&dest);
}

#[test]
fn the_signature_of_another_image_is_refused() {
    let (server, (key, public)) = (Server::start(), pair());
    let (wanted, other) = (Image::new(8), Image::new(9));
    let wanted_at = wanted.push(&server.reference("os:1"), &key);
    let other_at = other.push(&server.reference("os:2"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    let path = |digest: &Digest| format!("/v2/os/manifests/{}", digest.signature_tag());
    way.fault(path(&wanted_at.digest), Fault::Serve(path(&other_at.digest)));
    let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
    assert!(error.to_string().contains("for another image"), "{error}");
    assert!(!dest.exists());
    way.behave(); // The twin.
    fetch(&way.reference("os:1"), public, &dest).unwrap();
    wanted.assert_whole(&dest);
}

#[test]
fn a_signature_whose_payload_was_changed_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(10));
    let pushed = image.push(&server.reference("os:1"), &key);
    let payload = astromesh_oci::signature::payload(&server.reference("os"), pushed.digest);
    let blob = server.blob(Digest::of(&payload));
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("new");
    let mut changed = payload.clone();
    changed[0] ^= 1;
    fs::write(&blob, &changed).unwrap();
    let error = fetch(&server.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::MatchSignature { .. })), "{error}");
    assert!(!dest.exists());
    fs::write(&blob, &payload).unwrap(); // The twin.
    fetch(&server.reference("os:1"), public, &dest).unwrap();
    image.assert_whole(&dest);
}

#[test]
fn another_manifest_in_the_place_of_a_signed_one_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(11));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    // Root and hash tree exchanged: two signed layers, each under the other's name.
    let mut swapped = pushed.manifest.clone();
    let (root, verity) = (swapped.layers[1].digest, swapped.layers[2].digest);
    (swapped.layers[1].digest, swapped.layers[2].digest) = (verity, root);
    let bytes = swapped.encode().unwrap();
    way.fault("/manifests/1", Fault::Body(bytes.clone()));
    way.fault(format!("/manifests/{}", pushed.digest), Fault::Body(bytes.clone()));
    let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::FindSignature { .. })), "{error}");
    let pinned = way.reference(&format!("os@{}", pushed.digest));
    let error = fetch(&pinned, public, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::MatchDigest { .. })), "{error}");
    assert!(!dest.exists());

    // The twin: the same manifest from the same registry, once the key's owner has signed it.
    let mut artifact = image.artifact.clone();
    let (root, verity) = (artifact.layers[1].2.clone(), artifact.layers[2].2.clone());
    (artifact.layers[1].2, artifact.layers[2].2) = (verity, root);
    let second = push(&refer(&server.reference("os:2")), &artifact, &key, &options(), &mut |_| ()).unwrap();
    assert_eq!(second.digest, Digest::of(&bytes));
    fetch(&way.reference("os:1"), public, &dest).unwrap();
    assert!(fs::read(dest.join("root.erofs")).unwrap() == image.file("root.verity"));
}

#[test]
fn a_swapped_layer_is_refused_and_nothing_is_put_in_place() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(12));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    let path = |name| format!("/v2/os/blobs/{}", layer(&pushed, name));
    way.fault(path("root.erofs"), Fault::Serve(path("root.verity")));
    let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(&error, PullError::MatchLayer { name, .. } if name == "root.erofs"), "{error}");
    assert_eq!(listing(&dest), [partial(&pushed)]);
    assert_eq!(
        listing(&dest.join(partial(&pushed))),
        ["astromesh.efi"],
        "what came before it, and was right"
    );
    way.behave(); // The twin.
    fetch(&way.reference("os:1"), public, &dest).unwrap();
    image.assert_whole(&dest);
}

#[test]
fn a_changed_byte_in_a_layer_is_refused() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(13));
    let pushed = image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("new");
    let mut bytes = image.file("root.erofs");
    bytes[1_234_567] ^= 1;
    fs::write(server.blob(layer(&pushed, "root.erofs")), &bytes).unwrap();
    let error = fetch(&server.reference("os:1"), public, &dest).unwrap_err();
    let PullError::MatchLayer { found, .. } = &error else { panic!("{error}") };
    assert_eq!(*found, Digest::of(&bytes));
    assert_eq!(listing(&dest), [partial(&pushed)]);

    // The twin: the very same bytes, signed. It is the digest in the signed manifest that refuses.
    let changed = Image::new(13);
    fs::write(changed.dir.path().join("root.erofs"), &bytes).unwrap();
    changed.push(&server.reference("os:2"), &key);
    fetch(&server.reference("os:2"), public, &dir.path().join("twin")).unwrap();
    changed.assert_whole(&dir.path().join("twin"));
}

#[test]
fn a_truncated_layer_is_refused_and_its_rest_is_taken_later() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(14));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    let root = layer(&pushed, "root.erofs");
    fs::write(server.blob(root), &image.file("root.erofs")[..1_000_000]).unwrap();
    let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
    assert!(
        matches!(&error, PullError::ReceiveLayer { received: 1_000_000, size: 3_000_000, .. }),
        "{error}"
    );
    assert_eq!(listing(&dest), [partial(&pushed)]);
    // The twin: the blob is whole again.
    fs::write(server.blob(root), image.file("root.erofs")).unwrap();
    fetch(&way.reference("os:1"), public, &dest).unwrap();
    image.assert_whole(&dest);
    assert_eq!(way.asked(&root.to_string()).last(), Some(&Some("bytes=1000000-".to_owned())));
}

#[test]
fn a_connection_that_breaks_again_and_again_is_taken_up_where_it_broke() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(15));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let root = layer(&pushed, "root.erofs").to_string();
    way.fault(root.clone(), Fault::Cut(700_000, 3));
    fetch(&way.reference("os:1"), public, dir.path()).unwrap();
    image.assert_whole(dir.path());
    let asked = way.asked(&root);
    assert_eq!(asked.len(), 4, "{asked:?}");
    // How many of the bytes before a break arrive is up to the system; that each attempt goes on is not.
    let starts: Vec<u64> = asked
        .iter()
        .map(|range| {
            range.as_deref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
        })
        .collect();
    assert!(starts[0] == 0 && starts.is_sorted() && starts[3] > 0, "{starts:?}");
}

#[test]
fn a_line_that_breaks_too_often_is_given_up_on() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(16));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let root = layer(&pushed, "root.erofs").to_string();
    way.fault(root.clone(), Fault::Cut(1000, u32::MAX));
    let few = Options { attempts: 4, ..options() };
    let reference = refer(&way.reference("os:1"));
    let error = pull(&reference, &[public], dir.path(), &few, &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::ReceiveLayer { .. }), "{error}");
    assert_eq!(way.asked(&root).len(), 4);
    assert_eq!(listing(dir.path()), [partial(&pushed)]);
    way.behave(); // The twin.
    pull(&reference, &[public], dir.path(), &few, &mut |_| ()).unwrap();
    image.assert_whole(dir.path());
}

#[test]
fn a_registry_that_dies_and_comes_back_is_waited_for() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(17));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let root = layer(&pushed, "root.erofs").to_string();
    let server = Arc::new(Mutex::new(server));
    let dying = server.clone();
    way.fault(root.clone(), Fault::Then(900_000, Box::new(move || dying.lock().unwrap().kill())));
    let mut broken = 0;
    let reference = refer(&way.reference("os:1"));
    pull(&reference, &[public], dir.path(), &options(), &mut |progress| {
        if let Progress::Broken { .. } = progress {
            broken += 1;
            if broken == 2 {
                server.lock().unwrap().again();
            }
        }
    })
    .unwrap();
    assert_eq!(broken, 2, "once when it died, once when it was gone");
    image.assert_whole(dir.path());
}

#[test]
fn a_registry_that_dies_for_good_leaves_nothing_in_place_and_the_next_pull_goes_on() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(18));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let (dest, root) = (dir.path().join("new"), layer(&pushed, "root.erofs").to_string());
    let server = Arc::new(Mutex::new(server));
    let dying = server.clone();
    way.fault(root.clone(), Fault::Then(900_000, Box::new(move || dying.lock().unwrap().kill())));
    let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::ReceiveLayer { .. }), "{error}");
    assert_eq!(listing(&dest), [partial(&pushed)]);
    let there = fs::metadata(dest.join(partial(&pushed)).join("root.erofs")).unwrap().len();
    assert!((1..=900_000).contains(&there), "{there}");

    server.lock().unwrap().again();
    fetch(&way.reference("os:1"), public, &dest).unwrap();
    image.assert_whole(&dest);
    assert_eq!(way.asked(&root).last(), Some(&Some(format!("bytes={there}-"))));
}

#[test]
fn what_an_earlier_pull_left_is_not_trusted() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(19));
    let pushed = image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    let parts = dir.path().join(partial(&pushed));
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("root.erofs"), noise(99, 1_000_000)).unwrap();
    fs::write(parts.join("root.verity"), noise(99, 3_000_001)).unwrap();
    fetch(&server.reference("os:1"), public, dir.path()).unwrap();
    image.assert_whole(dir.path());

    // A link in the place of a part is not followed.
    let dest = dir.path().join("linked");
    fs::create_dir_all(dest.join(partial(&pushed))).unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, dest.join(partial(&pushed)).join("root.erofs")).unwrap();
    let error = fetch(&server.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::UseFile { .. }), "{error}");
    assert_eq!(fs::read_to_string(victim).unwrap(), "kept");
}

#[test]
fn a_file_in_the_way_is_never_replaced() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(20));
    image.push(&server.reference("os:1"), &key);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("size.json"), "mine").unwrap();
    let error = fetch(&server.reference("os:1"), public, dir.path()).unwrap_err();
    assert!(matches!(error, PullError::KeepFile(_)), "{error}");
    assert_eq!(listing(dir.path()), ["size.json"]);
    assert_eq!(fs::read_to_string(dir.path().join("size.json")).unwrap(), "mine");
    // The twin: what is there is what would be put there.
    fs::write(dir.path().join("size.json"), image.file("size.json")).unwrap();
    fetch(&server.reference("os:1"), public, dir.path()).unwrap();
    image.assert_whole(dir.path());
}

#[test]
fn a_second_pull_of_the_same_image_into_the_same_folder_is_refused_while_one_runs() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(21));
    let reference = server.reference("os:1");
    let pushed = image.push(&reference, &key);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(partial(&pushed))).unwrap();
    let held = fs::File::open(dir.path().join(partial(&pushed))).unwrap();
    held.lock().unwrap();
    let error = fetch(&reference, public, dir.path()).unwrap_err();
    assert!(matches!(error, PullError::Lock(_)), "{error}");
    drop(held); // The twin.
    fetch(&reference, public, dir.path()).unwrap();
    image.assert_whole(dir.path());
}

#[test]
fn a_manifest_that_never_ends_is_given_up_on_at_its_bound() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(22));
    let pushed = image.push(&server.reference("os:1"), &key);
    let (way, dir) = (Way::to(server.address()), tempfile::tempdir().unwrap());
    let dest = dir.path().join("new");
    for name in ["1".to_owned(), pushed.digest.signature_tag()] {
        way.fault(format!("/manifests/{name}"), Fault::Endless);
        let error = fetch(&way.reference("os:1"), public, &dest).unwrap_err();
        let bound =
            VerifyError::Registry(RegistryError::Bound { registry: String::new(), limit: MAX_MANIFEST });
        let PullError::Verify(found) = &error else { panic!("{error}") };
        assert_eq!(std::mem::discriminant(found), std::mem::discriminant(&bound), "{error}");
        assert!(error.to_string().contains("65536 bytes"), "{error}");
        assert!(!dest.exists());
        way.behave();
    }
    fetch(&way.reference("os:1"), public, &dest).unwrap(); // The twin.
    image.assert_whole(&dest);
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(23));
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("new");
    let error = fetch(&server.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::Verify(VerifyError::FindImage(_))), "{error}");
    let pushed = image.push(&server.reference("os:1"), &key);
    // A layer that the registry has lost isn't waited for.
    let blob = server.blob(layer(&pushed, "root.erofs"));
    fs::rename(&blob, blob.with_extension("away")).unwrap();
    let error = fetch(&server.reference("os:1"), public, &dest).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Answer { .. })), "{error}");
    assert_eq!(listing(&dest), [partial(&pushed)]);
    fs::rename(blob.with_extension("away"), &blob).unwrap(); // The twin.
    fetch(&server.reference("os:1"), public, &dest).unwrap();
    image.assert_whole(&dest);
}

#[test]
fn a_registry_that_is_not_there_is_said_to_be_not_there() {
    let (mut server, (key, public), image) = (Server::start(), pair(), Image::new(24));
    let reference = server.reference("os:1");
    image.push(&reference, &key);
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let error = verify(&refer(&reference), &[public], &options()).unwrap_err();
    assert!(matches!(error, VerifyError::Registry(RegistryError::Reach { .. })), "{error}");
    let error = push(&refer(&reference), &image.artifact, &key, &options(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, PushError::Registry(RegistryError::Reach { .. })), "{error}");
    server.again(); // The twin.
    fetch(&reference, public, dir.path()).unwrap();
}

#[test]
fn a_registry_with_a_password_lets_in_who_has_it() {
    let (server, (key, public), image) = (Server::with_password(), pair(), Image::new(25));
    let reference = refer(&server.reference("os:1"));
    let with = |password: &str| {
        let credentials = Credentials { user: "user".to_owned(), password: password.to_owned() };
        Options { credentials: Some(credentials), ..options() }
    };
    let dir = tempfile::tempdir().unwrap();
    for wrong in [options(), with("guess")] {
        let error = push(&reference, &image.artifact, &key, &wrong, &mut |_| ()).unwrap_err();
        assert!(matches!(error, PushError::Registry(RegistryError::Authenticate { .. })), "{error}");
    }
    push(&reference, &image.artifact, &key, &with("secret"), &mut |_| ()).unwrap();
    for wrong in [options(), with("guess")] {
        let error = pull(&reference, &[public], dir.path(), &wrong, &mut |_| ()).unwrap_err();
        let PullError::Verify(VerifyError::Registry(RegistryError::Authenticate { .. })) = error else {
            panic!("{error}");
        };
    }
    pull(&reference, &[public], dir.path(), &with("secret"), &mut |_| ()).unwrap();
    image.assert_whole(dir.path());
}

#[test]
fn no_container_runtime_is_told_that_it_is_a_container_image() {
    let (server, (key, _), image) = (Server::start(), pair(), Image::new(26));
    let pushed = image.push(&server.reference("os:1"), &key);
    let home = tempfile::tempdir().unwrap();
    for tag in ["1".to_owned(), pushed.digest.signature_tag()] {
        let reference = server.reference(&format!("os:{tag}"));
        let text = succeed("oras", home.path(), &["manifest", "fetch", "--plain-http", &reference]);
        assert!(text.contains(EMPTY_MEDIA_TYPE) && text.contains("\"artifactType\""), "{text}");
        // What makes a manifest a container image's: a configuration, layers that are archives, a platform.
        for word in ["oci.image.config", "vnd.docker", "oci.image.layer", ".tar", "platform"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn a_tag_is_not_set_before_its_image_is_signed() {
    let (server, (key, public)) = (Server::start(), pair());
    let (before, after) = (Image::new(28), Image::new(29));
    before.push(&server.reference("os:1"), &key);
    let digest = after.push(&server.reference("elsewhere:1"), &key).digest;
    let way = Way::to(server.address());
    way.fault(digest.signature_tag(), Fault::Missing);
    let through = refer(&way.reference("os:1"));
    let error = push(&through, &after.artifact, &key, &options(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, PushError::Registry(RegistryError::Answer { .. })), "{error}");
    let dir = tempfile::tempdir().unwrap();
    fetch(&server.reference("os:1"), public, &dir.path().join("before")).unwrap();
    before.assert_whole(&dir.path().join("before"));
    way.behave(); // The twin: the same push through the same way.
    push(&through, &after.artifact, &key, &options(), &mut |_| ()).unwrap();
    fetch(&server.reference("os:1"), public, &dir.path().join("after")).unwrap();
    after.assert_whole(&dir.path().join("after"));
}

#[test]
fn what_is_too_large_or_badly_named_is_not_even_pushed() {
    let (server, (key, _), image) = (Server::start(), pair(), Image::new(27));
    let reference = refer(&server.reference("os:1"));
    let mut artifact = image.artifact.clone();
    let large = image.dir.path().join("large");
    fs::File::create(&large).unwrap().set_len(Kind::Size.limit() + 1).unwrap();
    artifact.layers[4].2 = large.clone();
    let error = push(&reference, &artifact, &key, &options(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, PushError::MakeManifest(manifest::ManifestError::LimitSize(_))), "{error}");
    artifact.layers[4] = (Kind::Sbom, FileName::parse("root.erofs").unwrap(), large);
    let error = push(&reference, &artifact, &key, &options(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, PushError::MakeManifest(manifest::ManifestError::CountLayers(_))), "{error}");
    artifact.layers[4].1 = FileName::parse("sbom.json").unwrap();
    push(&reference, &artifact, &key, &options(), &mut |_| ()).unwrap(); // The twin.
}
