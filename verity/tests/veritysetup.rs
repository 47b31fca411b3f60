//! Promise: the hash area is byte for byte the one of `veritysetup format`, with the same root hash, and
//! `veritysetup verify` accepts it. The mutation twins show that both sides notice a single flipped byte.
//!
//! The real `veritysetup` (Debian: cryptsetup-bin) must be installed; without it these tests fail, they don't skip.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod random;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use astromesh_verity::{BLOCK_SIZE, RootHash, Salt, Superblock, format, superblock, tree::Tree};
use random::Random;

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// One image and our hash area for it, in a directory that ends with the test.
struct Image {
    directory: tempfile::TempDir,
    data: PathBuf,
    hash: PathBuf,
    superblock: Superblock,
    root_hash: RootHash,
}

impl Image {
    fn new(blocks: usize, salt: Salt) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, hash) = (directory.path().join("data"), directory.path().join("hash"));
        fs::write(&data, Random(blocks as u64).bytes(blocks * BLOCK_SIZE)).unwrap();
        let superblock = Superblock::new(UUID.parse().unwrap(), blocks as u64, salt).unwrap();
        let mut out = File::create(&hash).unwrap();
        let root_hash = format(&File::open(&data).unwrap(), &superblock, &mut out).unwrap();
        Self { directory, data, hash, superblock, root_hash }
    }

    fn verify(&self, root_hash: RootHash) -> bool {
        let root_hash = root_hash.to_string();
        run(&["verify".as_ref(), &self.data, &self.hash, root_hash.as_ref()]).status.success()
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
}

fn run(arguments: &[&Path]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new("veritysetup")
        .args(arguments)
        .env("PATH", path)
        .output()
        .expect("these tests need the real veritysetup: install Debian's cryptsetup-bin")
}

fn salts() -> Vec<Salt> {
    // None; one byte; shorter than, exactly and longer than SHA-256's 64-byte block; the most that fits.
    [0, 1, 32, 64, 65, Salt::MAX].map(|length| Salt::new(&Random(9).bytes(length)).unwrap()).to_vec()
}

fn assert_same_as_veritysetup(blocks: usize, salt: &Salt) {
    let image = Image::new(blocks, salt.clone());
    let theirs = image.directory.path().join("theirs");
    let salt_option = format!("--salt={salt}");
    let uuid_option = format!("--uuid={UUID}");
    let output = run(&[
        "format".as_ref(),
        "--hash=sha256".as_ref(),
        "--data-block-size=4096".as_ref(),
        "--hash-block-size=4096".as_ref(),
        salt_option.as_ref(),
        uuid_option.as_ref(),
        &image.data,
        &theirs,
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let what = format!("{blocks} blocks, salt {salt}");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let root_hash = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
    assert_eq!(image.root_hash.to_string(), root_hash, "{what}");
    // Not assert_eq: a failure would print megabytes.
    assert!(fs::read(&image.hash).unwrap() == fs::read(&theirs).unwrap(), "{what}: the hash areas differ");
    assert!(image.verify(image.root_hash), "{what}: veritysetup verify refuses our tree");
    let parsed = Superblock::parse_prefix(&fs::read(&theirs).unwrap());
    assert_eq!(parsed, Ok(image.superblock), "{what}");
}

#[test]
fn small_images_have_the_hash_area_of_veritysetup_with_every_salt() {
    for blocks in [1, 2, 127, 128, 129] {
        for salt in salts() {
            assert_same_as_veritysetup(blocks, &salt);
        }
    }
}

#[test]
fn an_image_that_fills_two_levels_has_the_hash_area_of_veritysetup() {
    for salt in [Salt::default(), salts().remove(2)] {
        assert_same_as_veritysetup(16384, &salt);
    }
}

#[test]
fn an_image_that_opens_a_third_level_has_the_hash_area_of_veritysetup() {
    for salt in [Salt::default(), salts().remove(2)] {
        assert_same_as_veritysetup(16385, &salt);
    }
}

#[test]
fn a_flipped_byte_in_the_data_is_refused_and_changes_our_root_hash() {
    for blocks in [1, 2, 129] {
        let image = Image::new(blocks, salts().remove(2));
        for at in [0, blocks * BLOCK_SIZE / 2, blocks * BLOCK_SIZE - 1] {
            assert!(image.verify(image.root_hash), "before the flip");
            Image::flip(&image.data, at);
            assert!(!image.verify(image.root_hash), "{blocks} blocks: byte {at} of the data");
            let tree = Tree::build(&File::open(&image.data).unwrap(), &image.superblock).unwrap();
            assert_ne!(tree.root_hash(), image.root_hash, "{blocks} blocks: byte {at} of the data");
            Image::flip(&image.data, at);
        }
    }
}

#[test]
fn a_flipped_byte_in_the_tree_is_refused() {
    let image = Image::new(129, salts().remove(2));
    // Top level, both blocks of the lowest, and the zero padding behind the last digest.
    for at in [BLOCK_SIZE, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE, 4 * BLOCK_SIZE - 1] {
        assert!(image.verify(image.root_hash), "before the flip");
        Image::flip(&image.hash, at);
        assert!(!image.verify(image.root_hash), "byte {at} of the hash area");
        Image::flip(&image.hash, at);
    }
}

#[test]
fn a_flipped_byte_in_the_salt_or_the_root_hash_is_refused() {
    let image = Image::new(2, salts().remove(2));
    let mut wrong = *image.root_hash.as_bytes();
    wrong[31] ^= 1;
    assert!(!image.verify(RootHash::new(wrong)));
    Image::flip(&image.hash, 88);
    assert!(!image.verify(image.root_hash));
}

#[test]
fn a_superblock_that_veritysetup_made_for_another_algorithm_is_refused() {
    let image = Image::new(2, Salt::default());
    let theirs = image.directory.path().join("theirs");
    assert!(run(&["format".as_ref(), "--hash=sha512".as_ref(), &image.data, &theirs]).status.success());
    let refused = Superblock::parse_prefix(&fs::read(&theirs).unwrap());
    assert_eq!(refused, Err(superblock::SuperblockError::Algorithm));
}
