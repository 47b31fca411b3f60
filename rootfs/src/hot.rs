//! Which files of the image a boot reads, in the order of their first use, for `init`'s prefetcher.
//!
//! The list is recorded from the staged tree on the host: the launcher runs behind strace until it says that it is
//! ready, and each file that it opened and that lies in the tree is kept once. The list is data: a stale entry costs a
//! few bytes read in vain, a missing one a read that waits, and neither changes what the node does.

use crate::run::RunError;
use crate::source::source_dir;
use crate::tools::through_linker;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the runtime may take to get ready under strace.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The list could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// strace is not on this host.
    #[error(transparent)]
    StartTrace(#[from] RunError),
    /// The runtime did not get ready.
    #[error(
        "the runtime of {0} did not get ready under strace: start it by hand as src/hot.rs does and read its errors"
    )]
    AwaitReady(PathBuf),
    /// A file on the way.
    #[error("recording the hot files failed ({0})")]
    RecordFiles(#[from] io::Error),
}

/// Runs the launcher of the staged tree and rewrites `hot-files.txt`. Needs strace on the host.
///
/// The address is loopback with a port of the kernel's choice, so nothing outside of this host can reach it.
pub fn record(stage: &Path) -> Result<Vec<String>, HotError> {
    let stage = fs::canonicalize(stage)?;
    let scratch = tempfile::tempdir()?;
    let trace = scratch.path().join("trace");
    let ready = scratch.path().join("ready");
    let inner = through_linker(&stage, &stage.join("usr/bin/python3.13"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat,execve", "-o"]).arg(&trace);
    command.arg(inner.get_program()).args(inner.get_args());
    command.args(["-I", "-S", "-B"]).arg(stage.join("usr/lib/astromesh/launch.pyc"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("ASTROMESH_CONFIG_DIR", scratch.path()).env("ASTROMESH_PERSIST_AGENTS", "0");
    // The launcher writes to descriptor 1 like to any other pipe or file.
    command.env("ASTROMESH_LISTEN", "127.0.0.1:0").env("NOTIFY_FD", "1");
    command.stdin(Stdio::null()).stdout(fs::File::create(&ready)?).stderr(Stdio::null());
    let started = |source| RunError::StartTool { program: "strace".into(), source };
    let mut child = command.spawn().map_err(started)?;
    let begun = Instant::now();
    while fs::read(&ready)?.is_empty() && begun.elapsed() < READY_TIMEOUT && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let is_ready = !fs::read(&ready)?.is_empty();
    // Killing strace would leave the runtime running: the traced process is named on each line of the trace.
    let text = fs::read_to_string(&trace)?;
    if let Some(pid) = text.split_whitespace().next().filter(|pid| pid.parse::<u32>().is_ok()) {
        crate::run::checked(Command::new("kill").args(["-TERM", pid])).ok();
    }
    child.wait()?;
    if !is_ready {
        return Err(HotError::AwaitReady(stage));
    }
    let files = files_in_order(&text, &stage);
    fs::write(source_dir().join("hot-files.txt"), files.join("\n") + "\n")?;
    Ok(files)
}

/// The files below `stage` that the trace shows opened, once each, as absolute paths in the image.
fn files_in_order(trace: &str, stage: &Path) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let opened =
        trace.lines().filter(|line| !line.contains("= -1")).filter_map(|line| line.split('"').nth(1));
    let inside = opened.filter_map(|path| {
        // Resolves the links of merged /usr, so that each file has one name.
        let path = fs::canonicalize(path).ok()?;
        let path = path.strip_prefix(stage).ok()?;
        stage.join(path).is_file().then(|| Path::new("/").join(path).display().to_string())
    });
    inside.filter(|path| seen.insert(path.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_listed_once_where_it_was_first_opened() {
        let dir = tempfile::tempdir().unwrap();
        let stage = fs::canonicalize(dir.path()).unwrap();
        for file in ["b", "a"] {
            fs::write(stage.join(file), "x").unwrap();
        }
        let line = |name: &str, result: &str| {
            format!("7 openat(AT_FDCWD, \"{}/{name}\", O_RDONLY) = {result}\n", stage.display())
        };
        let trace = [line("b", "3"), line("gone", "-1 ENOENT"), line("a", "3"), line("b", "4")].concat();
        assert_eq!(files_in_order(&(trace + "7 openat(AT_FDCWD, \"/etc\", 0) = 5\n"), &stage), ["/b", "/a"]);
    }
}
