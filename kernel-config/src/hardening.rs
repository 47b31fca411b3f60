//! What kernel-hardening-checker, written by others, has against the built configuration and the command line.
//!
//! Each failure of its groups `kspp` (the recommendations of the Kernel Self-Protection Project) and `defconfig` (what
//! the kernel turns on by default) is mended or stands in `hardening.toml` with a reason. Anything else fails: a failure
//! without a reason, and a reason without a failure, so that the list never excuses what is long mended. The other
//! groups (grsec, clipos and so on) would switch off what this kernel is for, BPF and tracing, and are not asked.

use crate::build::{BuildError, Source, newest, output};
use astromesh_rootfs::{Cache, CacheError, FetchError, fetch_debian, sha256_hex};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pin of the checker's package.
const CHECKER_LOCK: &str = include_str!("../hardening-checker.lock");
/// The accepted failures.
const ACCEPTED: &str = include_str!("../hardening.toml");
/// The groups whose failures count.
const GROUPS: [&str; 2] = ["kspp", "defconfig"];
/// Runs the checker from where it was unpacked, apart from everything that the host has for Python.
const START: &str =
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from kernel_hardening_checker import main; main()";

/// The configuration could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// The pin is not one.
    #[error("kernel-config/hardening-checker.lock can't be read ({0}): run `cargo xtask lock`")]
    ParseLock(toml::de::Error),
    /// The list is not one.
    #[error("kernel-config/hardening.toml is not a list of accepted failures: {0}")]
    ParseAccepted(String),
    /// The checker could not be brought here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The checker, or dpkg, failed.
    #[error(transparent)]
    Run(#[from] BuildError),
    /// A file on the way.
    #[error("{path} can't be used ({source}): check free space and permissions of the cache")]
    UseFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What the checker wrote is not what its version writes.
    #[error("the checker's answer can't be read ({0}): if its pin moved, its format may have too")]
    ParseAnswer(String),
    /// The configuration fails.
    #[error(
        "the kernel is less hardened than agreed:\n{0}\nmend x86_64.config or the command line, or correct hardening.toml"
    )]
    Weaker(String),
}

/// One check of the checker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The symbol with its `CONFIG_`, or the parameter of the command line.
    pub option_name: String,
    /// `kconfig`, `cmdline` or `version`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is good for, in the checker's words.
    pub reason: String,
    /// Who recommends it.
    pub decision: String,
    /// What it should be.
    pub desired_val: String,
    /// What it is, in the checker's words.
    pub check_result: String,
    /// Whether that is enough.
    pub check_result_bool: bool,
}

impl Finding {
    /// The option and what is asked of it, as `CONFIG_KFENCE=y`. The checker asks more than one thing of some options
    /// (`mitigations`), and accepting one must not excuse the others.
    pub fn wish(&self) -> String {
        format!("{}={}", self.option_name, self.desired_val)
    }
}

/// The accepted failures: what [`Finding::wish`] gives, to reason.
pub type Accepted = BTreeMap<String, String>;

/// What keeps findings and list from agreeing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A failure that no reason stands for.
    Unexplained(Finding),
    /// A reason for what does not fail.
    Stale(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexplained(finding) => {
                write!(f, "{} ({}): {}", finding.wish(), finding.decision, finding.check_result)
            }
            Self::Stale(wish) => write!(f, "{wish}: is in hardening.toml and does not fail: take it out"),
        }
    }
}

/// Checks the configuration file `config` and a command line; returns how many failures are accepted.
pub fn check(
    cache: &Path,
    config: &Path,
    cmdline: &str,
    progress: &dyn Fn(&str),
) -> Result<usize, HardeningError> {
    let accepted = parse_accepted(ACCEPTED)?;
    let found = ask(cache, config, cmdline, progress)?;
    let faults = faults(&found, &accepted);
    if faults.is_empty() {
        return Ok(accepted.len());
    }
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    Err(HardeningError::Weaker(lines.join("\n")))
}

/// Runs the pinned checker.
fn ask(
    cache: &Path,
    config: &Path,
    cmdline: &str,
    progress: &dyn Fn(&str),
) -> Result<Vec<Finding>, HardeningError> {
    let cache = Cache::open(cache)?;
    let lock: Source = toml::from_str(CHECKER_LOCK).map_err(HardeningError::ParseLock)?;
    let key = &sha256_hex(CHECKER_LOCK.as_bytes())[..32];
    let checker = cache.directory::<HardeningError>("hardening-checkers", key, |dir| {
        let deb = fetch_debian(&cache, &lock.suite, &lock.package(), progress)?;
        output("dpkg", Command::new("dpkg").arg("-x").arg(deb).arg(dir))?;
        Ok(())
    })?;
    let scratch = cache.scratch()?;
    // It chooses how to read a file by the end of its name, and wants exactly one line of parameters.
    let (config_file, line) = (scratch.path().join("built.config"), scratch.path().join("cmdline"));
    fs::copy(config, &config_file).map(drop).map_err(used(config))?;
    fs::write(&line, format!("{cmdline}\n")).map_err(used(&line))?;
    let mut command = Command::new("python3");
    command.args(["-I", "-B", "-c", START]).arg(checker.join("usr/lib/python3/dist-packages"));
    command.arg("-c").arg(config_file).arg("-l").arg(line).args(["-m", "json"]);
    parse(&output("python3", &mut command)?)
}

/// Reads the checker's JSON, strictly: a field that is new or gone means that its verdicts may mean something else.
pub fn parse(json: &str) -> Result<Vec<Finding>, HardeningError> {
    let refuse = |problem: String| HardeningError::ParseAnswer(problem);
    let found: Vec<Finding> = serde_json::from_str(json).map_err(|error| refuse(error.to_string()))?;
    for finding in &found {
        let word = if finding.check_result_bool { "OK" } else { "FAIL" };
        if !finding.check_result.starts_with(word) {
            let Finding { option_name, check_result, .. } = finding;
            return Err(refuse(format!("{option_name}: {check_result:?} does not begin with {word}")));
        }
    }
    // An answer that looked at nothing would agree with any configuration.
    for (group, kind) in GROUPS.iter().flat_map(|group| [(group, "kconfig"), (group, "cmdline")]) {
        if !found.iter().any(|finding| finding.decision == *group && finding.kind == kind) {
            return Err(refuse(format!("it has no {kind} check of the group {group}")));
        }
    }
    Ok(found)
}

/// Reads the list: groups of options with one reason each.
pub fn parse_accepted(text: &str) -> Result<Accepted, HardeningError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        accept: Vec<Group>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        options: Vec<String>,
        reason: String,
    }
    let list: List =
        toml::from_str(text).map_err(|error| HardeningError::ParseAccepted(error.to_string()))?;
    let mut accepted = Accepted::new();
    for group in list.accept {
        if group.reason.trim().is_empty() {
            return Err(HardeningError::ParseAccepted(format!("{:?} have no reason", group.options)));
        }
        for option in group.options {
            if accepted.insert(option.clone(), group.reason.clone()).is_some() {
                return Err(HardeningError::ParseAccepted(format!("{option} is there twice")));
            }
        }
    }
    Ok(accepted)
}

/// Failures without a reason, and reasons without a failure.
pub fn faults(found: &[Finding], accepted: &Accepted) -> Vec<Fault> {
    let failures = found
        .iter()
        .filter(|finding| GROUPS.contains(&finding.decision.as_str()) && !finding.check_result_bool);
    let mut failed = BTreeSet::new();
    let mut faults = Vec::new();
    for finding in failures {
        if !accepted.contains_key(&finding.wish()) {
            faults.push(Fault::Unexplained(finding.clone()));
        }
        failed.insert(finding.wish());
    }
    let stale = accepted.keys().filter(|wish| !failed.contains(*wish));
    faults.extend(stale.map(|wish| Fault::Stale(wish.clone())));
    faults
}

/// The text of `hardening-checker.lock` with the newest version that its suite offers.
pub fn newest_checker(cache: &Cache) -> Result<String, HardeningError> {
    let lock: Source = toml::from_str(CHECKER_LOCK).map_err(HardeningError::ParseLock)?;
    Ok(newest(cache, &lock, CHECKER_LOCK)?)
}

fn used(path: &Path) -> impl FnOnce(std::io::Error) -> HardeningError {
    let path = path.to_owned();
    move |source| HardeningError::UseFile { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn finding(option: &str, kind: &str, decision: &str, ok: bool) -> Value {
        json!({
            "option_name": option, "type": kind, "reason": "self_protection", "decision": decision,
            "desired_val": "y", "check_result": if ok { "OK" } else { "FAIL: is not found" }, "check_result_bool": ok,
        })
    }

    /// An answer with every group in it, and `more`.
    fn answer(more: &[Value]) -> Value {
        let mut all = vec![
            finding("CONFIG_A", "kconfig", "kspp", true),
            finding("CONFIG_B", "kconfig", "defconfig", true),
            finding("a", "cmdline", "kspp", true),
            finding("b", "cmdline", "defconfig", true),
        ];
        all.extend_from_slice(more);
        Value::Array(all)
    }

    fn faults_of(more: &[Value], accepted: &str) -> Vec<Fault> {
        faults(&parse(&answer(more).to_string()).unwrap(), &parse_accepted(accepted).unwrap())
    }

    const NONE: &str = "accept = []";
    const C: &str = "[[accept]]\noptions = [\"CONFIG_C=y\"]\nreason = \"because\"\n";

    #[test]
    fn a_failure_without_a_reason_is_a_fault_and_with_one_it_is_none() {
        let failure = [finding("CONFIG_C", "kconfig", "kspp", false)];
        let faults = faults_of(&failure, NONE);
        assert!(matches!(&faults[..], [Fault::Unexplained(one)] if one.option_name == "CONFIG_C"));
        assert!(faults[0].to_string().contains("is not found"));
        assert_eq!(faults_of(&failure, C), []);
    }

    #[test]
    fn a_reason_for_what_does_not_fail_is_a_fault() {
        assert_eq!(
            faults_of(&[finding("CONFIG_C", "kconfig", "kspp", true)], C),
            [Fault::Stale("CONFIG_C=y".to_owned())]
        );
        assert_eq!(faults_of(&[], C), [Fault::Stale("CONFIG_C=y".to_owned())]);
        assert_eq!(faults_of(&[finding("CONFIG_C", "kconfig", "kspp", false)], C), []);
    }

    #[test]
    fn a_reason_excuses_only_the_value_that_it_stands_for() {
        let mut other = finding("CONFIG_C", "kconfig", "defconfig", false);
        let both = [finding("CONFIG_C", "kconfig", "kspp", false), other.clone()];
        assert_eq!(faults_of(&both, C), []);
        other["desired_val"] = json!("n");
        let both = [finding("CONFIG_C", "kconfig", "kspp", false), other];
        assert!(matches!(&faults_of(&both, C)[..], [Fault::Unexplained(one)] if one.desired_val == "n"));
    }

    #[test]
    fn failures_of_other_groups_are_not_asked_and_excuse_no_entry() {
        let other = [finding("CONFIG_C", "kconfig", "grsec", false)];
        assert_eq!(faults_of(&other, NONE), []);
        assert_eq!(faults_of(&other, C).len(), 1);
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        assert!(parse(&answer(&[]).to_string()).is_ok());
        assert!(parse("[]").is_err() && parse("").is_err() && parse("{}").is_err());
        for missing in 0..4 {
            let mut answer = answer(&[]);
            answer.as_array_mut().unwrap().remove(missing);
            assert!(parse(&answer.to_string()).is_err(), "without check {missing}");
        }
        for (field, value) in
            [("new", json!(1)), ("check_result_bool", json!(null)), ("check_result", json!("FAIL: x"))]
        {
            let mut answer = answer(&[]);
            answer[0][field] = value;
            assert!(parse(&answer.to_string()).is_err(), "{field}");
        }
        let mut answer = answer(&[]);
        answer[0].as_object_mut().unwrap().remove("decision");
        assert!(parse(&answer.to_string()).is_err());
    }

    #[test]
    fn a_list_with_an_option_twice_or_without_a_reason_is_refused() {
        assert!(parse_accepted(C).is_ok());
        assert!(parse_accepted(&(C.to_owned() + C)).is_err());
        assert!(parse_accepted(&C.replace("because", " ")).is_err());
        assert!(parse_accepted(&C.replace("reason", "why")).is_err());
    }

    #[test]
    fn our_own_list_is_one_and_the_pin_too() {
        assert!(!parse_accepted(ACCEPTED).unwrap().is_empty());
        assert!(toml::from_str::<Source>(CHECKER_LOCK).is_ok());
    }
}
