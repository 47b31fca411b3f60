//! `cargo xtask fuzz`: every fuzz target, for some seconds each.
//!
//! The targets are libFuzzer's, as `cargo fuzz` has them. Its nightly compiler is needed for the sanitizers alone, and the
//! code under test has no `unsafe`; what guides the search, counting edges and comparisons, the stable compiler does too.

use crate::cargo::status;
use crate::{compile, deps, project};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub struct FuzzArguments {
    /// Only the target of this name
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

impl Default for FuzzArguments {
    fn default() -> Self {
        Self { target: None, seconds: 5 }
    }
}

/// The crates with targets.
const PROJECTS: [&str; 4] = ["proto/fuzz", "oci/fuzz", "verity/fuzz", "init/link/fuzz"];

/// The target that has a defect on purpose.
const TWIN: &str = "twin";
/// What an input must begin with to meet it.
const TWINS_DEFECT: &[u8] = b"boot";

/// How the compiler is told to count: LLVM's SanitizerCoverage, in libFuzzer's form.
const COVERAGE: &str = "--cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module \
                        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Bin>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

/// Their folders: each a workspace of its own.
pub fn places() -> impl Iterator<Item = PathBuf> {
    PROJECTS.into_iter().map(|place| project().join(place))
}

/// Runs cargo in each of them, which the workspace's own commands pass over. What they share with it is compiled once.
pub fn in_each(arguments: &[&str]) -> Result<()> {
    for place in places() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&place).args(arguments);
        if std::env::var_os("CARGO_TARGET_DIR").is_none() {
            cargo.env("CARGO_TARGET_DIR", project().join("target"));
        }
        status(&mut cargo).with_context(|| format!("in {}", place.display()))?;
    }
    Ok(())
}

/// The command, and the step of the tests.
pub fn run(arguments: &FuzzArguments) -> Result<()> {
    deps::install()?;
    let mut chosen = Vec::new();
    for place in places() {
        let programs = build(&place)?;
        for target in targets(&place)? {
            if arguments.target.as_ref().is_none_or(|only| *only == target) {
                chosen.push((programs.join(&target), target));
            }
        }
    }
    ensure!(!chosen.is_empty(), "there is no fuzz target {:?}", arguments.target);
    at_once(&chosen, |(program, target)| fuzz(program, target, arguments.seconds))
}

/// Does something with each, as many at once as there are cores: a target has one thread. The first error is kept, and
/// those that are under way end.
fn at_once<T: Sync>(all: &[T], act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Ok(()));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = act(one) {
                        next.store(all.len(), Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.is_ok() {
                            *failed = Err(error);
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn targets(place: &Path) -> Result<Vec<String>> {
    let path = place.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("{} names no targets", path.display()))?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

/// Builds the targets of a crate, and tells in which folder they are.
fn build(place: &Path) -> Result<PathBuf> {
    // With a target named, so that build scripts and macros are compiled as always.
    let folder = project().join("target/fuzz");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(place).args(["build", "--release"]).env("RUSTFLAGS", COVERAGE);
    compile::build_for(compile::TARGET, &folder, &mut cargo)?;
    Ok(folder.join(compile::TARGET).join("release"))
}

/// Runs one target on what earlier runs found and on what it thinks of. The twin's defect must be found, and no other.
fn fuzz(program: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = project().join("target/fuzz/corpus").join(target);
    let found = tempfile::tempdir()?;
    fs::create_dir_all(&corpus).with_context(|| format!("{} can't be made", corpus.display()))?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.subsec_nanos().max(1));
    // The twin has four bytes to guess, which takes a second or so, and must not fail for want of time.
    let seconds = if target == TWIN { seconds.max(120) } else { seconds };
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-seed={seed}"));
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", found.path().display()));
    if target != TWIN {
        command.arg(&corpus);
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{} can't be started", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let runs: u64 = runs.and_then(|runs| runs.trim().parse().ok()).unwrap_or(0);
    let input = fs::read_dir(found.path())?.flatten().next().map(|entry| entry.path());
    if target == TWIN {
        // The input that it kept, not what it says.
        let bytes = input.map(fs::read).transpose()?.unwrap_or_default();
        ensure!(bytes.starts_with(TWINS_DEFECT), "the defect of the twin is not found:\n{said}");
        println!("{target:16} its defect is found");
        return Ok(());
    }
    if !output.status.success() {
        let kept = project().join("out").join(format!("fuzz-{target}"));
        if let Some(input) = input {
            fs::create_dir_all(project().join("out"))?;
            fs::copy(input, &kept)?;
        }
        bail!("{target} fails (seed {seed}); the input is {}:\n{said}", kept.display());
    }
    ensure!(runs > 0, "{target} ran nothing:\n{said}");
    println!("{target:16} {runs} inputs in {seconds} s");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_a_failure_is_told() {
        let all: Vec<usize> = (0..50).collect();
        let done = Mutex::new(Vec::new());
        let note = |one: &usize| {
            done.lock().unwrap().push(*one);
            Ok(())
        };
        at_once(&all, note).unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, all);
        let failed = at_once(&all, |one| if *one == 7 { bail!("seven") } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
