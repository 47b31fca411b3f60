//! The promise: a machine that has most of an image fetches the rest, and whatever it has, whatever the registry and the
//! chunk index say, the file is the signed one or isn't there.
//!
//! How much moved is counted on the way to the registry, not taken from who fetched. Each refusal has its twin in the same
//! test, marked "twin".

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod desk;

use astromesh_oci::{
    Artifact, ChunkIndex, Digest, FetchError, Fetched, FileName, Kind, Progress, PublicKey, Pushed,
    RegistrySource, Seed, SourceOptions, Verified, fetch_index, fetch_layer, verify_with,
};
use desk::hostile::{Fault, Way};
use desk::server::Server;
use desk::{noise, pair, refer, source_options};
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const MIB: usize = 1024 * 1024;

/// An image with an index in a registry behind a way that counts.
struct Case {
    dir: tempfile::TempDir,
    server: Server,
    way: Way,
    public: PublicKey,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Case {
    /// Pushes `bytes` as the layer of this kind, and an index that says how `indexed` is cut.
    fn lying(kind: Kind, bytes: Vec<u8>, indexed: &[u8]) -> Self {
        let (server, (key, public), dir) = (Server::start(), pair(), tempfile::tempdir().unwrap());
        let (layer, other, chunks) =
            (dir.path().join("layer"), dir.path().join("other"), dir.path().join("chunks"));
        fs::write(&layer, &bytes).unwrap();
        fs::write(&other, indexed).unwrap();
        fs::write(&chunks, ChunkIndex::of_files([(kind, &*other)]).unwrap().encode().unwrap()).unwrap();
        let name = |text| FileName::parse(text).unwrap();
        let layers = vec![(kind, name("layer"), layer), (Kind::Chunks, name("image.chunks"), chunks)];
        let artifact = Artifact { layers, ..Artifact::default() };
        let reference = refer(&server.reference("os:1"));
        let pushed: Pushed =
            astromesh_oci::push(&reference, &artifact, &key, &desk::options(), &mut |_| ()).unwrap();
        let (way, digest) = (Way::to(server.address()), pushed.manifest.layers[0].digest);
        Self { dir, server, way, public, digest, bytes }
    }

    fn new(kind: Kind, bytes: Vec<u8>) -> Self {
        let indexed = bytes.clone();
        Self::lying(kind, bytes, &indexed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A seed that holds these bytes.
    fn seed(&self, name: &str, bytes: &[u8]) -> Seed {
        fs::write(self.path(name), bytes).unwrap();
        Seed::new(File::open(self.path(name)).unwrap(), bytes.len() as u64)
    }

    fn open(&self) -> (RegistrySource, Verified) {
        self.open_with(source_options())
    }

    fn open_with(&self, options: SourceOptions) -> (RegistrySource, Verified) {
        let mut source = RegistrySource::open(&refer(&self.way.reference("os:1")), options).unwrap();
        let verified = verify_with(&mut source, "1", &[self.public]).unwrap();
        (source, verified)
    }

    /// Fetches with the index, into the file `new`.
    fn fetch(&self, kind: Kind, seeds: &mut [Seed]) -> Result<Fetched, FetchError> {
        let (mut source, verified) = self.open();
        let mut told = |_: Progress<'_>| ControlFlow::Continue(());
        let index = fetch_index(&verified, &mut source, &mut told)?.unwrap();
        fetch_layer(&verified, kind, &mut source, &self.path("new"), Some(&index), seeds, &mut told)
    }

    /// Bytes of the layer that passed the way.
    fn moved(&self) -> usize {
        self.way.sent(&self.digest.to_string())
    }

    fn assert_whole(&self) {
        assert!(fs::read(self.path("new")).unwrap() == self.bytes);
    }
}

/// 20 MiB with a part of 300 KiB replaced and 5 KiB inserted: the old bytes and the new.
fn changed() -> (Vec<u8>, Vec<u8>) {
    let old = noise(1, 20 * MIB);
    let mut new = old.clone();
    new[5 * MIB..5 * MIB + 300 * 1024].copy_from_slice(&noise(2, 300 * 1024));
    new.splice(12 * MIB..12 * MIB, noise(3, 5 * 1024));
    (old, new)
}

#[test]
fn a_change_moves_little_more_than_the_change() {
    let (old, new) = changed();
    let case = Case::new(Kind::Root, new);
    let mut seeds = [case.seed("old", &old)];
    let fetched = case.fetch(Kind::Root, &mut seeds).unwrap();
    case.assert_whole();
    let (moved, size) = (case.moved(), case.bytes.len());
    eprintln!("{moved} of {size} bytes moved, {fetched:?}");
    assert!(moved * 100 < size * 15, "{moved} of {size}");
    assert!(moved >= 305 * 1024, "what is new has to move");
    assert!(case.way.requests(&case.digest.to_string()).len() > 1);
    assert_eq!(case.way.connections(), 1, "one for all parts");
    assert_eq!((fetched.moved, fetched.reused), (moved as u64, (size - moved) as u64));

    // The twin: without anything to take it from, all of it moves.
    fs::remove_file(case.path("new")).unwrap();
    case.fetch(Kind::Root, &mut []).unwrap();
    case.assert_whole();
    assert_eq!(case.moved() - moved, size);
}

#[test]
fn a_kernel_image_is_found_in_the_partition_that_holds_it() {
    let uki = noise(4, 3 * MIB + 12_345);
    let case = Case::new(Kind::Uki, uki.clone());
    // A partition of 64 MiB: something, nothing for long, the file at a cluster, nothing again.
    let mut partition = File::create_new(case.path("esp")).unwrap();
    partition.set_len(64 * MIB as u64).unwrap();
    partition.write_all(&noise(5, 70_000)).unwrap();
    partition.seek(SeekFrom::Start(20 * MIB as u64 + 4096)).unwrap();
    partition.write_all(&uki).unwrap();
    let seed = |length: usize| [Seed::new(File::open(case.path("esp")).unwrap(), length as u64)];
    case.fetch(Kind::Uki, &mut seed(64 * MIB)).unwrap();
    case.assert_whole();
    let moved = case.moved();
    assert!(moved < 200_000, "the cuts before and after it differ: {moved}");
    // The twin: the same partition, looked at only up to where it begins.
    fs::remove_file(case.path("new")).unwrap();
    case.fetch(Kind::Uki, &mut seed(20 * MIB)).unwrap();
    case.assert_whole();
    assert_eq!(case.moved() - moved, uki.len());
}

#[test]
fn zeros_are_not_fetched() {
    let mut bytes = noise(6, 2 * MIB);
    bytes.extend(vec![0; 8 * MIB]);
    bytes.extend(noise(7, MIB));
    let case = Case::new(Kind::Root, bytes);
    case.fetch(Kind::Root, &mut []).unwrap();
    case.assert_whole();
    assert!(case.moved() < 3 * MIB + 300_000, "{}", case.moved());
}

#[test]
fn a_registry_that_sends_whole_blobs_only_gives_the_right_bytes() {
    let (old, new) = changed();
    let case = Case::new(Kind::Root, new);
    case.way.fault(case.digest.to_string(), Fault::Whole);
    let mut seeds = [case.seed("old", &old)];
    let fetched = case.fetch(Kind::Root, &mut seeds).unwrap();
    case.assert_whole();
    assert_eq!(fetched, Fetched { moved: case.bytes.len() as u64, reused: 0 });
    case.way.behave(); // The twin.
    fs::remove_file(case.path("new")).unwrap();
    assert!(case.fetch(Kind::Root, &mut seeds).unwrap().reused > 0);
}

#[test]
fn after_a_break_only_the_rest_moves() {
    let case = Case::new(Kind::Root, noise(8, 6 * MIB));
    case.way.fault(case.digest.to_string(), Fault::Cut(4 * MIB, u32::MAX));
    let patience = astromesh_oci::Patience { attempts: 1, ..source_options().patience };
    let fetch = |attempts: SourceOptions, into: &Path| {
        let (mut source, verified) = case.open_with(attempts);
        let mut told = |_: Progress<'_>| ControlFlow::Continue(());
        let index = fetch_index(&verified, &mut source, &mut told).unwrap().unwrap();
        fetch_layer(&verified, Kind::Root, &mut source, into, Some(&index), &mut [], &mut told)
    };
    let error = fetch(SourceOptions { patience, ..source_options() }, &case.path("new")).unwrap_err();
    let FetchError::ReceiveLayer { received, .. } = error else { panic!("{error}") };
    assert!(received > MIB as u64, "what came is kept: {received}");
    case.way.behave();
    let before = case.moved();
    let fetched = fetch(source_options(), &case.path("new")).unwrap();
    case.assert_whole();
    assert_eq!(case.moved() - before, 6 * MIB - usize::try_from(received).unwrap());
    assert_eq!(fetched.reused, received);

    // Breaks that are mended meanwhile: the same bytes, and hardly more of them.
    case.way.fault(case.digest.to_string(), Fault::Cut(2 * MIB, 2));
    let before = case.moved();
    fs::remove_file(case.path("new")).unwrap();
    fetch(source_options(), &case.path("new")).unwrap();
    case.assert_whole();
    assert!(case.moved() - before >= 6 * MIB);
    // The first part of an earlier attempt without an index, and rubbish behind it, are taken up too.
    let mut part = case.bytes[..3 * MIB].to_vec();
    part.extend(noise(9, 4 * MIB));
    fs::write(case.path("new"), part).unwrap();
    let before = case.moved();
    fetch(source_options(), &case.path("new")).unwrap();
    case.assert_whole();
    assert!(case.moved() - before < 3 * MIB + 200_000, "{}", case.moved() - before);
}

#[test]
fn a_fetch_that_is_stopped_leaves_what_it_has() {
    let case = Case::new(Kind::Root, noise(10, 4 * MIB));
    let (mut source, verified) = case.open();
    let index = fetch_index(&verified, &mut source, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    let mut told = |what: Progress<'_>| match what {
        Progress::Layer { received, .. } if received > 2 * MIB as u64 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let into = case.path("new");
    let error =
        fetch_layer(&verified, Kind::Root, &mut source, &into, Some(&index), &mut [], &mut told).unwrap_err();
    assert!(matches!(error, FetchError::Stop(_)), "{error}");
    let fetched = case.fetch(Kind::Root, &mut []).unwrap();
    case.assert_whole();
    assert!(fetched.reused > 2 * MIB as u64);
}

#[test]
fn an_index_that_lies_ends_in_an_error_and_nothing_in_place() {
    let (old, mut new) = (noise(11, 4 * MIB), noise(11, 4 * MIB));
    new[2 * MIB] ^= 1;
    // The old image's index beside the new one's bytes. A chunk that comes is not what it says.
    let case = Case::lying(Kind::Root, new.clone(), &old);
    let error = case.fetch(Kind::Root, &mut []).unwrap_err();
    assert!(matches!(error, FetchError::MatchIndex { .. }), "{error}");
    assert!(!case.path("new").exists());
    // All that it says is here already; together it is not what was signed.
    let mut seeds = [case.seed("old", &old)];
    let error = case.fetch(Kind::Root, &mut seeds).unwrap_err();
    assert!(matches!(error, FetchError::MatchIndex { .. }), "{error}");
    assert!(error.to_string().contains("fetch without the index"), "{error}");
    assert!(!case.path("new").exists());
    // The twins: without the index, and with the right one.
    let (mut source, verified) = case.open();
    let (into, mut told) = (case.path("new"), |_: Progress<'_>| ControlFlow::Continue(()));
    fetch_layer(&verified, Kind::Root, &mut source, &into, None, &mut [], &mut told).unwrap();
    case.assert_whole();
    let case = Case::new(Kind::Root, new);
    let mut seeds = [case.seed("old", &old)];
    case.fetch(Kind::Root, &mut seeds).unwrap();
    case.assert_whole();

    // An index of another size, and bytes that are none.
    let case = Case::lying(Kind::Root, noise(12, MIB), &noise(12, MIB + 1));
    let error = case.fetch(Kind::Root, &mut []).unwrap_err();
    assert!(matches!(error, FetchError::MatchIndex { .. }), "{error}");
    assert!(!case.path("new").exists());
}

#[test]
fn a_chunk_index_that_was_changed_on_the_way_is_refused() {
    let case = Case::new(Kind::Root, noise(13, MIB));
    let (mut source, verified) = case.open();
    let layer = verified.manifest().layers.iter().find(|layer| layer.kind == Kind::Chunks).unwrap();
    let mut bytes = fs::read(case.server.blob(layer.digest)).unwrap();
    bytes[20] ^= 1;
    case.way.fault(layer.digest.to_string(), Fault::Body(bytes));
    let mut told = |_: Progress<'_>| ControlFlow::Continue(());
    let error = fetch_index(&verified, &mut source, &mut told).unwrap_err();
    assert!(matches!(error, FetchError::MatchLayer { .. }), "{error}");
    case.way.behave(); // The twin.
    assert!(fetch_index(&verified, &mut source, &mut told).unwrap().is_some());
}

#[test]
fn another_part_than_was_asked_for_is_refused() {
    let (old, new) = changed();
    let case = Case::new(Kind::Root, new);
    let head =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n0123456789";
    case.way.fault(case.digest.to_string(), Fault::Answer(head.to_owned()));
    let mut seeds = [case.seed("old", &old)];
    let error = case.fetch(Kind::Root, &mut seeds).unwrap_err();
    assert!(error.to_string().contains("another part"), "{error}");
    case.way.behave(); // The twin: and what the seed gave is still there.
    case.fetch(Kind::Root, &mut []).unwrap();
    case.assert_whole();
    assert!(case.moved() * 100 < case.bytes.len() * 15);
}

#[test]
fn a_seed_that_ends_early_or_a_file_that_is_none_is_no_surprise() {
    let case = Case::new(Kind::Root, noise(14, MIB));
    // Said to be longer than it is.
    let mut seeds = [case.seed("old", &case.bytes[..MIB / 2])];
    seeds[0] = Seed::new(File::open(case.path("old")).unwrap(), u64::MAX);
    let fetched = case.fetch(Kind::Root, &mut seeds).unwrap();
    assert!(fetched.reused > MIB as u64 / 3);
    case.assert_whole();

    let (mut source, verified) = case.open();
    let mut told = |_: Progress<'_>| ControlFlow::Continue(());
    let (link, victim) = (case.path("link"), case.path("victim"));
    fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    for into in [&*link, Path::new("/dev/full"), case.dir.path()] {
        let error =
            fetch_layer(&verified, Kind::Root, &mut source, into, None, &mut [], &mut told).unwrap_err();
        assert!(matches!(error, FetchError::UseFile { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(victim).unwrap(), "kept");
}
