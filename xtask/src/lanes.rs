//! Runs the tests of gates side by side, so that no lane is idle while a test is left.
//!
//! cargo runs one test program after the other, and each ends with one lane that waits for the last test of the other.
//! Here every test of every program is a process of its own, and the ones that took longest last time begin first
//! (`bench/tests.json`). What a test printed is shown when it fails, and kept in `target/gate-logs/`.
//!
//! It refuses a filter that matches no test.

use crate::project;
use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a test may take: several times the longest on a slow machine. One that is still running then is killed.
const LONGEST: Duration = Duration::from_mins(25);

/// How often a lane looks whether its test has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A test of a gate.
#[derive(Debug, Clone)]
struct Test {
    program: PathBuf,
    /// File and name, as in `phase0::a_machine_config_on_a_labelled_drive_is_found`.
    name: String,
    /// The name by which its program knows it.
    inside: String,
}

/// What ran.
#[derive(Debug, Default)]
pub struct Ran {
    /// Seconds of each test, by its name.
    pub seconds: BTreeMap<String, f64>,
    /// Names of those that failed.
    pub failed: Vec<String>,
}

/// Seconds of each test in the run that was saved last.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Saved(BTreeMap<String, f64>);

impl Saved {
    fn path() -> PathBuf {
        project().join("bench/tests.json")
    }

    /// Reads them; where there are none, no test has a past.
    pub fn load() -> Self {
        fs::read(Self::path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers those of `ran`, rounded to a second so that small changes make no difference in the file.
    pub fn save(ran: &Ran) -> Result<()> {
        let rounded =
            Self(ran.seconds.iter().map(|(name, seconds)| (name.clone(), seconds.round())).collect());
        let text = serde_json::to_string_pretty(&rounded)? + "\n";
        fs::write(Self::path(), text).context("bench/tests.json can't be written")
    }

    /// Seconds of a test; of one that is not known, as many as a long one takes, so that it begins early.
    fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(120.0)
    }
}

/// Builds the test programs `files` of the `qemu` crate, and runs those tests whose name contains `only`.
pub fn run(files: &[&str], only: Option<&str>, lanes: usize, environment: &[(&str, PathBuf)]) -> Result<Ran> {
    let mut tests = Vec::new();
    for (file, program) in build(files)? {
        for inside in list(&program)? {
            let name = format!("{file}::{inside}");
            if only.is_none_or(|only| name.contains(only)) {
                tests.push(Test { program: program.clone(), name, inside });
            }
        }
    }
    ensure!(!tests.is_empty(), "no test's name contains {:?}: nothing was tested", only.unwrap_or_default());
    let saved = Saved::load();
    // Taken from the end: the longest first.
    tests.sort_by(|one, other| saved.of(&one.name).total_cmp(&saved.of(&other.name)));
    let logs = project().join("target/gate-logs");
    fs::create_dir_all(&logs)?;

    let count = tests.len();
    let (queue, ran) = (Mutex::new(tests), Mutex::new(Ran::default()));
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        for _ in 0..lanes.min(count) {
            scope.spawn(|| {
                while let Some(test) = take() {
                    let began = Instant::now();
                    let log = logs.join(format!("{}.log", test.name.replace("::", "-")));
                    let result = one(&test, &log, environment);
                    let seconds = began.elapsed().as_secs_f64();
                    let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
                    ran.seconds.insert(test.name.clone(), seconds);
                    let number = ran.seconds.len();
                    match result {
                        Ok(()) => println!("[{number}/{count}] {seconds:5.1} s  ok      {}", test.name),
                        Err(reason) => {
                            println!("[{number}/{count}] {seconds:5.1} s  FAILED  {}: {reason:#}", test.name);
                            println!("{}", fs::read_to_string(&log).unwrap_or_default());
                            ran.failed.push(test.name.clone());
                        }
                    }
                }
            });
        }
    });
    let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} passed, {} failed", ran.seconds.len() - ran.failed.len(), ran.failed.len());
    Ok(ran)
}

/// Runs one test to its end.
fn one(test: &Test, log: &Path, environment: &[(&str, PathBuf)]) -> Result<()> {
    let out = File::create(log).with_context(|| format!("{} can't be made", log.display()))?;
    let mut command = Command::new(&test.program);
    command.args(["--exact", &test.inside, "--nocapture", "--test-threads=1"]);
    command.current_dir(project().join("qemu")).stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(out).envs(environment.iter().map(|(name, value)| (name, value)));
    let mut child = command.spawn().context("it can't be started")?;
    let deadline = Instant::now() + LONGEST;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{status}"),
            None if Instant::now() > deadline => {
                // Its machines die with it: the kernel kills a QEMU whose starter is gone.
                child.kill()?;
                child.wait()?;
                bail!("it was still running after {} s", LONGEST.as_secs());
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

/// A line of cargo's report, as far as it matters here.
#[derive(Deserialize)]
struct Built {
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds test programs; the name and the place of each.
fn build(files: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project()).args([
        "test",
        "--no-run",
        "--locked",
        "--quiet",
        "--package",
        "astromesh-qemu",
    ]);
    cargo.args(["--message-format=json-render-diagnostics"]);
    cargo.args(files.iter().flat_map(|file| ["--test", file]));
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo can't be started")?;
    ensure!(output.status.success(), "the gates' tests can't be built");
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().filter_map(|line| {
        let built: Built = serde_json::from_str(line).ok()?;
        Some((built.target?.name, built.executable?))
    });
    let built: Vec<_> = built.filter(|(name, _)| files.contains(&name.as_str())).collect();
    ensure!(built.len() == files.len(), "cargo built {} of {} test programs", built.len(), files.len());
    Ok(built)
}

/// The tests of a program, without the ignored ones.
fn list(program: &Path) -> Result<Vec<String>> {
    let names = |more: &[&str]| -> Result<Vec<String>> {
        let output = Command::new(program).args(["--list", "--format", "terse"]).args(more).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    };
    let ignored = names(&["--ignored"])?;
    Ok(names(&[])?.into_iter().filter(|name| !ignored.contains(name)).collect())
}
