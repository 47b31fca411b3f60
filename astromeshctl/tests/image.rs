//! The promise: `image pull` and `image verify` take an image that a given key has signed and no other, and say by their
//! exit codes why not.

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

#[path = "../../oci/tests/desk/mod.rs"]
mod desk;

use desk::server::Server;
use desk::{Image, listing, pair};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_astromeshctl"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env_remove("ASTROMESH_REGISTRY_USER").env_remove("ASTROMESH_REGISTRY_PASSWORD");
    // A proxy of the environment is for the way out: asked for loopback, this one would refuse.
    command
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .env_remove("NO_PROXY");
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_image_is_pulled_and_described() {
    let (server, (key, public), image) = (Server::start(), pair(), Image::new(30));
    let reference = server.reference("os:1");
    let pushed = image.push(&reference, &key);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("image.pub"), public.to_pem()).unwrap();

    let output = run(folder.path(), &["image", "verify", &reference, "--key", "image.pub"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains(&pushed.digest.to_string()) && said.contains("root.erofs"), "{said}");
    assert_eq!(listing(folder.path()), ["image.pub"], "verify writes nothing");

    let arguments = ["image", "pull", &reference, "--key", "image.pub", "--out", "new", "-o", "json"];
    let output = run(folder.path(), &arguments);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    image.assert_whole(&folder.path().join("new"));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["digest"], pushed.digest.to_string());
    assert_eq!(said["signed_by"], public.fingerprint().to_string());
    assert_eq!(said["annotations"]["org.opencontainers.image.version"], "0.1.0");
    assert_eq!(said["layers"][1]["kind"], "root");
    assert_eq!(said["layers"][1]["file"], "new/root.erofs");
    let told = text(&output.stderr);
    assert!(told.contains("is signed by") && told.contains("root.erofs: 3000000 bytes"), "{told}");
}

#[test]
fn each_way_of_not_getting_an_image_has_its_exit_code() {
    let (mut server, (key, public), image) = (Server::start(), pair(), Image::new(31));
    let reference = server.reference("os:1");
    let pushed = image.push(&reference, &key);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("right.pub"), public.to_pem()).unwrap();
    fs::write(folder.path().join("wrong.pub"), pair().1.to_pem()).unwrap();
    let pull = |reference: &str, keys: &[&str], expected: i32, words: &str| {
        let mut arguments = vec!["image", "pull", reference, "--out", "new"];
        arguments.extend(keys.iter().flat_map(|key| ["--key", key]));
        let output = run(folder.path(), &arguments);
        let said = text(&output.stderr);
        assert_eq!(code(&output), expected, "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    };
    pull(&reference, &["wrong.pub"], 4, "not signed by a key that is trusted");
    pull(&server.reference("os:2"), &["right.pub"], 2, "is not there");
    pull(&reference, &["none.pub"], 2, "can't read the key");
    pull(&reference, &[], 2, "--key");
    pull("os:1", &["right.pub"], 2, "names no registry");
    assert!(!folder.path().join("new").exists());

    let blob = server.blob(pushed.manifest.layers[1].digest);
    let mut bytes = image.file("root.erofs");
    bytes[0] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    pull(&reference, &["right.pub"], 4, "was signed");
    fs::write(&blob, image.file("root.erofs")).unwrap();
    server.kill();
    pull(&reference, &["right.pub"], 3, "can't reach the registry");
    server.again(); // The twin of all of them, with two keys of which one has signed.
    pull(&reference, &["wrong.pub", "right.pub"], 0, "is signed by");
    image.assert_whole(&folder.path().join("new"));
}
