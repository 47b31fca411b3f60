//! What the tests of this crate and of `astromeshctl image` share: Debian's own registry and clients, a way to the
//! registry that can be made hostile, and an image to push.
//!
//! Everything listens on 127.0.0.1 only, and the clients are given a proxy that isn't there for every other address.

#![allow(dead_code, clippy::unwrap_used)] // Two test programs share it, and each uses a part.

pub mod hostile;
pub mod server;

use astromesh_oci::keys::{self, PublicKey, SigningKey};
use astromesh_oci::{
    Artifact, FileName, Kind, Options, Patience, Pushed, Reference, RegistrySource, SourceOptions, manifest,
};
use astromesh_rootfs::Cache;
use astromesh_rootfs::Tools;
use astromesh_rootfs::lock::DebianLock;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A program of the pinned packages, unpacked privately.
pub fn tool(name: &str) -> PathBuf {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    let tools = TOOLS.get_or_init(|| {
        let cache = Cache::open(&Cache::default_path().unwrap()).unwrap();
        let lock = DebianLock::parse(include_str!("../tools.lock")).unwrap();
        Tools::open(&cache, &lock, &|text| eprintln!("{text}")).unwrap()
    });
    tools.file(&format!("usr/bin/{name}"))
}

/// Runs a client that isn't ours, at home in `home` and with no way out but loopback.
pub fn run(name: &str, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool(name));
    command.current_dir(home).args(arguments).stdin(Stdio::null()).env_clear();
    command.env("HOME", home).env("TUF_ROOT", home.join("tuf")).env("COSIGN_PASSWORD", "");
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
    command.env("NO_PROXY", "127.0.0.0/8").output().unwrap()
}

/// The same, for a client that has to succeed.
pub fn succeed(name: &str, home: &Path, arguments: &[&str]) -> String {
    let output = run(name, home, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A key pair.
pub fn pair() -> (SigningKey, PublicKey) {
    let (private, public) = keys::generate().unwrap();
    (SigningKey::from_pem(private.as_bytes()).unwrap(), public)
}

/// As patient as a test can be.
pub fn options() -> Options {
    Options { idle: Duration::from_secs(10), pause: Duration::from_millis(50), ..Options::default() }
}

/// An image of ours in a folder, of bytes that mean nothing.
pub struct Image {
    /// Where its files are.
    pub dir: tempfile::TempDir,
    /// What is pushed.
    pub artifact: Artifact,
}

/// Name, kind and size of the layers of [`Image`]. Root and verity have the same size, so that one can stand in for the
/// other.
pub const LAYERS: [(&str, Kind, usize); 5] = [
    ("astromesh.efi", Kind::Uki, 300_000),
    ("root.erofs", Kind::Root, 3_000_000),
    ("root.verity", Kind::Verity, 3_000_000),
    ("disk.raw.zst", Kind::Disk, 1_000_000),
    ("size.json", Kind::Size, 20),
];

impl Image {
    /// Another seed, other bytes.
    pub fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut layers = Vec::new();
        for (at, (name, kind, size)) in LAYERS.into_iter().enumerate() {
            let path = dir.path().join(name);
            fs::write(&path, noise(seed + 1000 * at as u64, size)).unwrap();
            layers.push((kind, FileName::parse(name).unwrap(), path));
        }
        let annotations = BTreeMap::from([(manifest::VERSION.to_owned(), "0.1.0".to_owned())]);
        Self { dir, artifact: Artifact { layers, annotations } }
    }

    /// Pushes it.
    pub fn push(&self, reference: &str, key: &SigningKey) -> Pushed {
        astromesh_oci::push(&refer(reference), &self.artifact, key, &options(), &mut |_| ()).unwrap()
    }

    /// The bytes of one of its files.
    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    /// Asserts that `dir` holds exactly its files.
    pub fn assert_whole(&self, dir: &Path) {
        let mut names: Vec<_> = LAYERS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        names.sort();
        assert_eq!(listing(dir), names);
        for name in names {
            assert!(fs::read(dir.join(&name)).unwrap() == self.file(&name), "{name} differs");
        }
    }
}

/// The sorted names of what is in a folder; none where there is no folder.
pub fn listing(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Parses a reference.
pub fn refer(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Bytes that don't compress and don't repeat (xorshift64*).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// How a source speaks with a registry on loopback, as patient as a test can be.
pub fn source_options() -> SourceOptions {
    let Options { idle, fruitless, attempts, pause, .. } = options();
    SourceOptions { idle, patience: Patience { fruitless, attempts, pause }, ..SourceOptions::default() }
}

/// A source of the repository of this reference.
pub fn source(reference: &str) -> RegistrySource {
    RegistrySource::open(&refer(reference), source_options()).unwrap()
}
