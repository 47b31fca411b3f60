//! `cargo xtask test`: everything CI runs, in the order in which it fails fastest; and gates by themselves.

use crate::fuzz::{self, FuzzArguments};
use crate::repro::{self, ReproArguments};
use crate::size::{self, SizeArguments};
use crate::{bench, deps, formats, hardening, image, project, run, sbom, variants};
use anyhow::{Context as _, Result, bail};
use std::process::Command;
use std::time::Instant;

/// The gates, and the test files of the `qemu` crate that each runs.
const GATES: &[(&str, &[&str])] = &[
    ("phase0", &["phase0"]),
    ("phase1", &["phase1", "cloud"]),
    ("phase2", &["phase2_boot", "phase2", "phase2_power"]),
];

/// Everything.
pub fn everything() -> Result<()> {
    deps::install()?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
        // By itself: in the workspace's build it would get what others ask its dependencies for.
        cargo(&["clippy", "--package", "astromesh-pid1", "--locked", "--quiet", "--", "-D", "warnings"])?;
        let firmware = ["--package", image::PREBOOT, "--features", "firmware", "--target", image::FIRMWARE];
        cargo(&[&["clippy", "--locked", "--quiet"], &firmware[..], &["--", "-D", "warnings"]].concat())
    })?;
    step("licences, sources, bans", deny)?;
    step("image", || image::build().map(drop))?;
    step("unit tests", || cargo(&["test", "--workspace", "--locked", "--quiet", "--lib", "--bins"]))?;
    step("integration tests", || {
        for (package, tests) in OTHER_TESTS {
            let mut arguments = vec!["test", "--package", package, "--locked", "--quiet"];
            arguments.extend(tests.iter().flat_map(|test| ["--test", test]));
            cargo(&arguments)?;
        }
        Ok(())
    })?;
    // Exits with an error below one and a half times veritysetup's speed.
    step("verity race", || {
        cargo(&["run", "--release", "--locked", "--quiet", "-p", "astromesh-verity", "--example", "race"])
    })?;
    step("fuzz targets", || fuzz::run(&FuzzArguments::default()))?;
    step("bill of materials", sbom::check)?;
    step("kernel hardening", hardening::check)?;
    step("size", || size::report(&SizeArguments::default()))?;
    step("run", run::once)?;
    for (name, _) in GATES {
        step(&format!("gate {name}"), || gate(name, None, false))?;
    }
    step("report", report)
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
const OTHER_TESTS: &[(&str, &[&str])] = &[
    ("astromesh-verity", &["hostile_bytes", "partition_table", "veritysetup"]),
    ("astromeshctl", &["client", "command", "image"]),
    ("astromesh-oci", &["delta", "registry", "source"]),
    ("astromesh-rootfs", &["launcher", "promises", "sbom", "sysupdate"]),
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
    variants::build(&image, name == "phase2")?;
    if name == "phase1" {
        formats::convert(&image, astromesh_rootfs::formats::ALL)?;
    }
    if name == "phase1" && only.is_none() {
        // More than any component has left, less than the whole.
        size::demand_refusal(&image, 2_000_000)?;
        println!("two million bytes more break the build");
        repro::run(&ReproArguments { keep_kernel: true })?;
    }
    build_relay()?;
    cargo(&["build", "--quiet", "--locked", "--package", "astromeshctl"])?;
    let out = project().join("out");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(project()).args(["test", "--locked", "--package", "astromesh-qemu"]);
    command.args(files.iter().flat_map(|file| ["--test", file]));
    command.args(["--", &format!("--test-threads={}", machines_at_once())]);
    command.args(only);
    command.env("ASTROMESH_GATE", out.join("gate.json"));
    // A gate pushes with the command that people push with.
    let xtask = std::env::current_exe().context("the command has no file")?;
    command.env("ASTROMESH_CTL", xtask.with_file_name("astromeshctl")).env("ASTROMESH_XTASK", xtask);
    if full {
        command.env("ASTROMESH_POWER_CUTS", "25");
    }
    status(&mut command)
}

/// How many machines a gate runs at once: each keeps about one core busy, and has 1 GiB.
fn machines_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

/// Builds the program that carries a guest's connections: cargo builds a binary of another package only when asked.
pub fn build_relay() -> Result<()> {
    cargo(&["build", "--quiet", "--locked", "--package", "astromesh-qemu", "--bin", "astromesh-relay"])
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {name}");
    let started = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    println!("== {name}: {} s", started.elapsed().as_secs());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    status(Command::new(env!("CARGO")).current_dir(project()).args(arguments))
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.stdin(std::process::Stdio::null()).status().context("cargo can't be started")?;
    if !status.success() {
        bail!("cargo ended with {status}");
    }
    Ok(())
}
