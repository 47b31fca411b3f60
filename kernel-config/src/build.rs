//! The build itself: unpack, configure, check, make; or a look-up when all that decides the bits is as it was.

use crate::{check, pace};
use astromesh_rootfs::lock::{DebianPackage, Purpose};
use astromesh_rootfs::{Cache, CacheError, FetchError, fetch_debian, newest_debian, sha256_hex};
use serde::Deserialize;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the building host needs beyond a Debian base system: `(package, why)`.
pub const HOST_PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "compiles the kernel"),
    ("flex", "the kernel's configuration parser is made with it"),
    ("bison", "the kernel's configuration parser is made with it"),
    ("bc", "the kernel's build calculates with it"),
    ("libelf-dev", "the kernel's objtool reads object files with it"),
    ("libssl-dev", "the kernel's certificate tools are linked to it"),
    ("dwarves", "pahole turns debug information into BTF"),
    ("xz-utils", "the kernel's source is packed with it"),
    ("zstd", "the kernel is compressed with it"),
];

/// Raised when the steps below change, so that an older cached kernel is not taken for a new one.
const RECIPE: u32 = 2;

/// Lines that make prints for this configuration: what a percentage is reckoned from. Counted once; being a little
/// off makes an estimate a little off.
const LINES: u64 = 2700;

/// What is going on, for a progress display.
#[derive(Debug, Clone)]
pub enum Step {
    /// A step of unknown length began.
    Note(String),
    /// The compilation is this far.
    Compiling {
        /// Lines seen.
        done: u64,
        /// Lines expected.
        total: u64,
        /// What remains, by the pace so far; `None` when there is none yet.
        remaining: Option<Duration>,
    },
}

/// A built kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The bootable file.
    pub bzimage: PathBuf,
    /// The configuration it was built with.
    pub config: PathBuf,
    /// The pinned version.
    pub version: String,
    /// How long the build took when it was made, in seconds.
    pub built_in: u64,
}

/// The kernel could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The lock file is not one.
    #[error("kernel-config/source.lock can't be read: {0}")]
    ParseLock(toml::de::Error),
    /// The source could not be brought here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A tool could not be started.
    #[error("{tool} can't be started ({source}): run `cargo xtask deps`")]
    StartTool {
        /// Which.
        tool: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tool failed.
    #[error("{tool} failed; the end of its output:\n{tail}")]
    FinishTool {
        /// Which.
        tool: &'static str,
        /// The last lines.
        tail: String,
    },
    /// The configuration did not take effect.
    #[error(
        "the kernel's configuration is not what x86_64.config asks for:\n{0}\nmend the fragment: a dependency is missing, or something selects the symbol"
    )]
    CheckConfig(String),
    /// A result could not be kept.
    #[error("{path} can't be kept: {source}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A pinned package of the archive, as `source.lock` names one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The package's name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// `all`, since neither a source nor a Python program is compiled.
    pub arch: String,
    /// The suite that offers it.
    pub suite: String,
    /// Of the .deb file, lower-case hex.
    pub sha256: String,
}

impl Source {
    /// As the fetching functions take it.
    pub(crate) fn package(&self) -> DebianPackage {
        DebianPackage {
            name: self.name.clone(),
            version: self.version.clone(),
            arch: self.arch.clone(),
            sha256: self.sha256.clone(),
            purpose: Purpose::Tool,
        }
    }
}

/// The pin of the kernel's source.
pub fn source() -> Result<Source, BuildError> {
    toml::from_str(crate::SOURCE_LOCK).map_err(BuildError::ParseLock)
}

/// Pins the newest version of the source that the archive offers: the new text of `source.lock`.
pub fn newest_source(cache: &Cache) -> Result<String, BuildError> {
    newest(cache, &source()?, crate::SOURCE_LOCK)
}

/// `lock`, which pins `source`, with the newest version that its suite offers.
pub(crate) fn newest(cache: &Cache, source: &Source, lock: &str) -> Result<String, BuildError> {
    let newest = newest_debian(cache, &source.suite, &source.name)?;
    let header = lock.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
    Ok(format!(
        "{header}\nname = {:?}\nversion = {:?}\narch = {:?}\nsuite = {:?}\nsha256 = {:?}\n",
        newest.name, newest.version, newest.arch, source.suite, newest.sha256
    ))
}

/// Builds the kernel, or finds it in the cache.
pub fn build(cache: &Path, progress: &(dyn Fn(Step) + Sync)) -> Result<Kernel, BuildError> {
    let source = source()?;
    let last = took_last(cache);
    let cache = Cache::open(cache)?;
    let compiler = output("gcc", Command::new("gcc").arg("--version"))?;
    let key = format!("{RECIPE}\n{}\n{}\n{compiler}", source.sha256, check::canonical(crate::FRAGMENT));
    let key = &sha256_hex(key.as_bytes())[..32];
    let dir = cache.directory::<BuildError>("kernels", key, |dir| {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let expected = match last {
            Some(seconds) => format!("the last one took {} min here", seconds.div_ceil(60)),
            None => "how long it takes is said once a part of it is done".to_owned(),
        };
        progress(Step::Note(format!("building the kernel {} on {jobs} cores: {expected}", source.version)));
        let note = |text: &str| progress(Step::Note(text.to_owned()));
        let deb = fetch_debian(&cache, &source.suite, &source.package(), &note)?;
        let started = Instant::now();
        let scratch = cache.scratch()?;
        make(&deb, scratch.path(), dir, jobs, progress)?;
        put(&dir.join("seconds"), started.elapsed().as_secs().to_string().as_bytes())
    })?;
    let seconds = fs::read_to_string(dir.join("seconds")).unwrap_or_default();
    Ok(Kernel {
        bzimage: dir.join("bzImage"),
        config: dir.join("config"),
        version: source.version,
        built_in: seconds.trim().parse().unwrap_or(0),
    })
}

/// How many seconds the newest kernel in the cache took to build.
fn took_last(cache: &Path) -> Option<u64> {
    let kernels = fs::read_dir(cache.join("kernels")).ok()?.flatten();
    let (_, seconds) = kernels
        .filter_map(|kernel| {
            let path = kernel.path().join("seconds");
            Some((fs::metadata(&path).ok()?.modified().ok()?, fs::read_to_string(path).ok()?))
        })
        .max()?;
    seconds.trim().parse().ok()
}

fn make(
    deb: &Path,
    scratch: &Path,
    out: &Path,
    jobs: usize,
    progress: &(dyn Fn(Step) + Sync),
) -> Result<(), BuildError> {
    progress(Step::Note("unpacking the kernel's source".to_owned()));
    output("dpkg", Command::new("dpkg").arg("-x").arg(deb).arg(scratch))?;
    let packed = fs::read_dir(scratch.join("usr/src")).ok().and_then(|entries| {
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("xz".as_ref()))
    });
    let packed = packed.unwrap_or_default();
    let source = scratch.join("source");
    fs::create_dir(&source).map_err(|cause| BuildError::Keep { path: source.clone(), source: cause })?;
    output(
        "tar",
        Command::new("tar").args(["--strip-components=1", "-xf"]).arg(&packed).arg("-C").arg(&source),
    )?;

    let build = scratch.join("build");
    let fragment = scratch.join("fragment");
    put(&fragment, crate::FRAGMENT.as_bytes())?;
    let command = |target: &str| {
        let mut command = Command::new("make");
        command.arg("-C").arg(&source).arg(format!("O={}", build.display())).arg(target);
        command.arg(format!("-j{jobs}")).stdin(Stdio::null());
        // Nothing of the building machine in the result.
        command.env("KBUILD_BUILD_USER", "astromesh").env("KBUILD_BUILD_HOST", "build");
        command.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_VERSION", "1");
        // The time stamp is a local time to the script that packs the kernel's own initramfs: east of Greenwich it would lie
        // before 1970, west of it the bits would be others.
        command.env("LC_ALL", "C").env("TZ", "UTC");
        // Debug information names the folders, and the build ID, which stays in the kernel, is a sum over it too.
        let named = |folder: &Path, name: &str| format!("-ffile-prefix-map={}={name}", folder.display());
        let maps = format!("{} {}", named(&source, "/linux"), named(&build, "/linux-build"));
        command.arg(format!("KCFLAGS={maps}")).arg(format!("KAFLAGS={maps}"));
        command
    };
    output("make", command("allnoconfig").env("KCONFIG_ALLCONFIG", &fragment))?;
    let config = fs::read_to_string(build.join(".config")).unwrap_or_default();
    let wrong = check::differences(crate::FRAGMENT, &config);
    if !wrong.is_empty() {
        let lines: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        return Err(BuildError::CheckConfig(lines.join("\n")));
    }
    compile(&mut command("bzImage"), progress)?;
    let copy = |from: &str, to: &str| {
        let to = out.join(to);
        fs::copy(build.join(from), &to).map(drop).map_err(|source| BuildError::Keep { path: to, source })
    };
    copy("arch/x86/boot/bzImage", "bzImage")?;
    copy(".config", "config")
}

/// Runs make, counting its lines.
fn compile(command: &mut Command, progress: &(dyn Fn(Step) + Sync)) -> Result<(), BuildError> {
    let start = |source| BuildError::StartTool { tool: "make", source };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let started = Instant::now();
    let errors = std::thread::spawn(move || {
        let mut lines: Vec<String> = Vec::new();
        for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok))
        {
            lines.push(line);
            if lines.len() > 60 {
                lines.remove(0);
            }
        }
        lines.join("\n")
    });
    let mut done = 0;
    for _ in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok)) {
        done += 1;
        if done % 10 == 0 {
            let total = LINES.max(done + 1);
            progress(Step::Compiling {
                done,
                total,
                remaining: pace::remaining(done, total, started.elapsed()),
            });
        }
    }
    let status = child.wait().map_err(start)?;
    let tail = errors.join().unwrap_or_default();
    if status.success() { Ok(()) } else { Err(BuildError::FinishTool { tool: "make", tail }) }
}

pub(crate) fn output(tool: &'static str, command: &mut Command) -> Result<String, BuildError> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| BuildError::StartTool { tool, source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(BuildError::FinishTool { tool, tail: text + &String::from_utf8_lossy(&output.stderr) })
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    fs::write(path, bytes).map_err(|source| BuildError::Keep { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_newest_kernel_is_what_the_next_may_take() {
        let cache = std::env::temp_dir().join(format!("astromesh-kernels-{}", std::process::id()));
        assert_eq!(took_last(&cache), None);
        let now = std::time::SystemTime::now();
        for (name, seconds, age) in [("a", "471", 60), ("b", "1200\n", 10), ("c", "9", 3600)] {
            let folder = cache.join("kernels").join(name);
            fs::create_dir_all(&folder).unwrap();
            put(&folder.join("seconds"), seconds.as_bytes()).unwrap();
            let file = fs::File::options().append(true).open(folder.join("seconds")).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(took_last(&cache), Some(1200));
        fs::remove_dir_all(&cache).unwrap();
    }
}
