//! `cargo run --release -p astromesh-verity --example race`: our `format` against `veritysetup format`.
//!
//! Both hash the same 1 GiB from the page cache and write a new hash file through to the disk, three times each and
//! interleaved, so that whatever else the machine does slows both. Prints one line of JSON. Exits with failure below
//! 1.5 times as fast, or if the two ever disagree on a byte: a race against a tool that does something else means
//! nothing. Half of the lead is the second core: with one core, or with the other one busy, the ratio is about 1.4.

#[path = "../tests/random/mod.rs"]
mod random;

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use astromesh_verity::{BLOCK_SIZE, Salt, Superblock, format};
use random::Random;

const BLOCKS: u64 = 1 << 18;
const ROUNDS: usize = 3;
/// Promised in the specification for a machine with two cores.
const WANTED: f64 = 1.5;
const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (data, ours, theirs) =
        (directory.path().join("data"), directory.path().join("ours"), directory.path().join("theirs"));
    let mut random = Random(1);
    let mut file = File::create(&data)?;
    for _ in 0..BLOCKS / 256 {
        file.write_all(&random.bytes(256 * BLOCK_SIZE))?;
    }
    // Written back before the race, so that the kernel doesn't do it during one side's turn.
    file.sync_all()?;
    let superblock = Superblock::new(UUID.parse()?, BLOCKS, Salt::new(&random.bytes(32))?)?;

    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        their_times.push(veritysetup(&data, &theirs, &superblock)?);
        remove(&ours)?;
        let start = Instant::now();
        let mut out = File::create(&ours)?;
        format(&File::open(&data)?, &superblock, &mut out)?;
        out.sync_all()?; // veritysetup does so too.
        our_times.push(start.elapsed());
    }
    let same = fs::read(&ours)? == fs::read(&theirs)?;
    let (ours, theirs) = (median(our_times), median(their_times));
    let ratio = theirs / ours;
    println!(
        r#"{{"bytes":{},"rounds":{ROUNDS},"veritysetup_s":{theirs:.3},"ours_s":{ours:.3},"ratio":{ratio:.2},"wanted":{WANTED},"same_bytes":{same}}}"#,
        BLOCKS * BLOCK_SIZE as u64,
    );
    Ok(if same && ratio >= WANTED { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn veritysetup(data: &Path, hash: &Path, superblock: &Superblock) -> Result<Duration, Box<dyn Error>> {
    remove(hash)?;
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let start = Instant::now();
    let output = Command::new("veritysetup")
        .args(["format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .arg(format!("--salt={}", superblock.salt()))
        .arg(format!("--uuid={UUID}"))
        .args([data, hash])
        .env("PATH", path)
        .output()
        .map_err(|error| format!("running veritysetup failed: {error}; install Debian's cryptsetup-bin"))?;
    let time = start.elapsed();
    if !output.status.success() {
        return Err(format!("veritysetup failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(time)
}

/// Both sides write a new file each time: truncating an old one is work that only one side would do.
fn remove(path: &Path) -> io::Result<()> {
    if path.exists() { fs::remove_file(path) } else { Ok(()) }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}
