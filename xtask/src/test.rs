//! `cargo xtask test`: everything CI runs, in the order in which it fails fastest; and gates by themselves.

use crate::cargo::{build_relay, cargo, status};
use crate::compile;
use crate::fuzz::{self, FuzzArguments};
use crate::lanes::{self, Ran, Saved};
use crate::repro::{self, ReproArguments};
use crate::size::{self, SizeArguments};
use crate::steps::Steps;
use crate::{bench, deps, formats, hardening, image, project, run, sbom, variants};
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_qemu::node::Image;
use astromesh_qemu::{Accelerator, Emulator};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The gates, and the test files of the `qemu` crate that each runs.
pub const GATES: &[(&str, &[&str])] = &[
    ("phase0", &["phase0"]),
    ("phase1", &["phase1", "phase1_disk", "cloud"]),
    ("phase2", &["phase2_boot", "phase2", "phase2_power"]),
    ("phase3", &["phase3_trust"]),
];

/// What `cargo xtask test` can be told.
#[derive(Args)]
pub struct TestArguments {
    /// Remember how long each step and each test of a gate took, in bench/time.json and bench/tests.json
    #[arg(long)]
    save: bool,
}

/// Everything.
pub fn everything(arguments: &TestArguments) -> Result<()> {
    let mut steps = Steps::begin()?;
    steps.step("tools", || deps::install().and_then(|()| Ok(Emulator::open().map(drop)?)))?;
    steps.step("format", || {
        cargo(&["fmt", "--all", "--check"])?;
        fuzz::in_each(&["fmt", "--check"])
    })?;
    steps.step("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
        // By itself: in the workspace's build it would get what others ask its dependencies for.
        cargo(&["clippy", "--package", "astromesh-pid1", "--locked", "--quiet", "--", "-D", "warnings"])?;
        let firmware =
            ["--package", compile::PREBOOT, "--features", "firmware", "--target", compile::FIRMWARE];
        cargo(&[&["clippy", "--locked", "--quiet"], &firmware[..], &["--", "-D", "warnings"]].concat())
    })?;
    steps.step("licences, sources, bans", deny)?;
    let image = steps.step("image", image::build)?;
    steps.step("unit tests", || cargo(&["test", "--workspace", "--locked", "--quiet", "--lib", "--bins"]))?;
    steps.step("integration tests", || {
        for (package, tests) in OTHER_TESTS {
            let mut arguments = vec!["test", "--package", package, "--locked", "--quiet"];
            arguments.extend(tests.iter().flat_map(|test| ["--test", test]));
            cargo(&arguments)?;
        }
        Ok(())
    })?;
    // Exits with an error below one and a half times veritysetup's speed.
    steps.step("verity race", || {
        cargo(&["run", "--release", "--locked", "--quiet", "-p", "astromesh-verity", "--example", "race"])
    })?;
    steps.step("fuzz targets", || fuzz::run(&FuzzArguments::default()))?;
    steps.step("bill of materials", sbom::check::check)?;
    steps.step("kernel hardening", hardening::check)?;
    steps.step("size", || {
        size::report(&SizeArguments::default())?;
        refuses_what_is_too_large(&image)
    })?;
    steps.step("run", run::once)?;
    steps.step("second build", || repro::run(&ReproArguments { keep_kernel: true }))?;
    steps.step("images of the gates", || {
        variants::build(&image, None)?;
        formats::convert(&image, astromesh_rootfs::formats::ALL)
    })?;
    let files: Vec<&str> = GATES.iter().flat_map(|(_, files)| files.iter().copied()).collect();
    let ran = steps.step("gates", || boot(&files, None, false))?;
    steps.step("report", report)?;
    lanes(&ran);
    ensure!(ran.failed.is_empty(), "failed: {}", ran.failed.join(", "));
    steps.end(arguments.save)?;
    if arguments.save {
        Saved::save(&ran)?;
    }
    Ok(())
}

/// What each gate cost, in seconds of its lanes.
fn lanes(ran: &Ran) {
    println!("\n## Gates\n\n| gate | tests | seconds of all its tests |\n|---|--:|--:|");
    for (gate, files) in GATES {
        let of_gate = |name: &str| files.iter().any(|file| name.starts_with(&format!("{file}::")));
        let seconds: Vec<f64> =
            ran.seconds.iter().filter(|(name, _)| of_gate(name)).map(|(_, seconds)| *seconds).collect();
        println!("| {gate} | {} | {:.0} |", seconds.len(), seconds.iter().sum::<f64>());
    }
}

/// What the image weighs and what its boot costs, and what of that changed, as Markdown: the end of CI's output.
fn report() -> Result<()> {
    println!("\n## Size\n");
    size::report(&SizeArguments { markdown: true, ..SizeArguments::default() })?;
    println!("\n## Boot\n");
    bench::report()
}

/// Which cargo-deny: pinned, because its verdict is part of the tests.
const CARGO_DENY: &str = "0.20.2";

/// Checks `deny.toml`. The advisories of cargo-deny need a download of their own and are not asked for.
fn deny() -> Result<()> {
    let root = astromesh_rootfs::Cache::default_path()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        println!("building cargo-deny, once: a few minutes");
        let mut install = Command::new(env!("CARGO"));
        install
            .args(["install", "--quiet", "--locked", "--version", CARGO_DENY, "--root"])
            .arg(&root)
            .arg("cargo-deny");
        status(&mut install)?;
    }
    let mut check = Command::new(program);
    check.current_dir(project()).args(["--log-level", "error", "--offline", "--locked"]);
    // The one program whose dependencies are behind a feature.
    check.args(["--features", "astromesh-preboot/firmware"]);
    status(check.args(["check", "licenses", "bans", "sources"]))
}

/// Integration tests that boot no image of ours.
pub const OTHER_TESTS: &[(&str, &[&str])] = &[
    ("init", &["updates"]),
    ("astromesh-verity", &["grow", "hostile_bytes", "partition_table", "veritysetup"]),
    ("astromeshctl", &["client", "command", "image"]),
    ("astromesh-link", &["servers"]),
    ("astromesh-net", &["links"]),
    ("astromesh-oci", &["bundles", "delta", "registry", "source"]),
    ("astromesh-rootfs", &["checkers", "documents", "launcher", "promises", "sbom", "sysupdate"]),
    ("astromesh-qemu", &["machine", "closed_network", "provider"]),
];

/// Builds what a gate boots, and runs it.
pub fn gate(name: &str, only: Option<&str>, full: bool) -> Result<()> {
    let Some((_, files)) = GATES.iter().find(|(gate, _)| *gate == name) else {
        let known: Vec<_> = GATES.iter().map(|(gate, _)| *gate).collect();
        bail!("there is no gate {name:?}; there are: {}", known.join(", "));
    };
    deps::install()?;
    let image = image::build()?;
    variants::build(&image, Some(name))?;
    if name == "phase1" {
        formats::convert(&image, astromesh_rootfs::formats::ALL)?;
        if only.is_none() {
            refuses_what_is_too_large(&image)?;
            repro::run(&ReproArguments { keep_kernel: true })?;
        }
    }
    let ran = boot(files, only, full)?;
    ensure!(ran.failed.is_empty(), "failed: {}", ran.failed.join(", "));
    Ok(())
}

/// More than any component has left, and less than the whole has, breaks the build.
fn refuses_what_is_too_large(image: &Image) -> Result<()> {
    size::demand_refusal(image, 2_000_000)?;
    println!("two million bytes more break the build");
    Ok(())
}

/// Runs the tests of these files, for which everything is built.
fn boot(files: &[&str], only: Option<&str>, full: bool) -> Result<Ran> {
    // Nodes that were put aside belong to one run: the guests' clocks go on from then.
    let snapshots = project().join("out/snapshots");
    if snapshots.is_dir() {
        std::fs::remove_dir_all(&snapshots).context("out/snapshots can't be removed")?;
    }
    // Times and some races differ between them, so that a log without this word says little.
    println!("machines run on {:?}", Accelerator::detect());
    build_relay()?;
    cargo(&["build", "--quiet", "--locked", "--package", "astromeshctl"])?;
    // A gate pushes with the command that people push with.
    let xtask = named(&std::env::current_exe().context("the command has no file")?);
    let mut environment = vec![
        ("ASTROMESH_GATE", project().join("out/gate.json")),
        ("ASTROMESH_CTL", xtask.with_file_name("astromeshctl")),
        ("ASTROMESH_XTASK", xtask),
    ];
    if full {
        environment.push(("ASTROMESH_POWER_CUTS", "25".into()));
    }
    lanes::run(files, only, machines_at_once(), &environment)
}

/// The path of a program that runs. A step before may have built it again: then the kernel puts a mark behind the name of
/// the old file, and the new one has the name.
fn named(running: &Path) -> PathBuf {
    let name = running.file_name().unwrap_or_default().to_string_lossy();
    running.with_file_name(name.strip_suffix(" (deleted)").unwrap_or(&name))
}

/// How many machines run at once: one more than there are cores, since each waits for about half of its time (with one for
/// each of two cores, both were idle for half of the gates). Each has 1 GiB.
fn machines_at_once() -> usize {
    std::env::var("ASTROMESH_LANES")
        .ok()
        .and_then(|lanes| lanes.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_again_has_its_old_name() {
        for running in ["/target/debug/xtask", "/target/debug/xtask (deleted)"] {
            assert_eq!(named(Path::new(running)), Path::new("/target/debug/xtask"));
        }
    }
}
