//! The developer's commands: `cargo xtask --help`.
//!
//! Everything a fresh machine needs is installed by these commands and nothing is left to be done by hand. Nothing
//! here runs on the node.

mod bench;
mod deps;
mod formats;
mod fuzz;
mod hardening;
mod image;
mod initrd;
mod progress;
mod push;
mod repro;
mod run;
mod sbom;
mod size;
#[cfg(test)]
mod specification;
mod test;
mod updates;
mod variants;
#[cfg(test)]
mod walls;

use anyhow::Result;
use astromesh_rootfs::lock::DebianLock;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Build, run and test Astromesh OS.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, boot it in QEMU, ask the agent one question, stay on the console
    Run(run::RunArguments),
    /// Unit tests, lints, every gate, the size budget: what CI runs
    Test,
    /// Run one gate, by name: phase0, phase1, phase2, phase2
    Gate {
        /// Name of the gate
        name: String,
        /// Only tests whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// phase2: cut power at 25 random moments instead of 5
        #[arg(long)]
        full: bool,
    },
    /// Build kernel, init, root and disk into out/
    Build,
    /// Build the image in the formats of the clouds, with checksums, into out/images/
    Image(formats::ImageArguments),
    /// Build twice, in different surroundings, and demand the same bits
    Repro(repro::ReproArguments),
    /// Report what the image weighs against its budget
    Size(size::SizeArguments),
    /// Check the bill of materials, out/sbom.spdx.json: complete, and valid by a validator of others
    Sbom,
    /// Check the kernel's configuration with kernel-hardening-checker against kernel-config/hardening.toml
    Hardening,
    /// Run every fuzz target for some seconds
    Fuzz(fuzz::FuzzArguments),
    /// Measure: `boot`, in guest instructions; `start`, in wall time; `peer`, against Debian with the same runtime
    Bench(bench::BenchArguments),
    /// Push what `build` left in out/ to a registry, signed
    Push(push::PushArguments),
    /// Make a key pair to sign images with
    Keys {
        /// Folder to write it to
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Install what the host lacks
    Deps,
    /// Pin the newest packages: rewrites the lock files
    Lock,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test => test::everything(),
        Command::Gate { name, only, full } => test::gate(&name, only.as_deref(), full),
        Command::Build => {
            deps::install()?;
            image::build().map(drop)
        }
        Command::Image(arguments) => formats::write(&arguments),
        Command::Repro(arguments) => repro::run(&arguments),
        Command::Size(arguments) => size::report(&arguments),
        Command::Sbom => {
            deps::install()?;
            sbom::check()
        }
        Command::Hardening => {
            deps::install()?;
            hardening::check()
        }
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Push(arguments) => push::push(&arguments),
        Command::Keys { dir } => push::make_keys(&dir),
        Command::Deps => deps::install(),
        Command::Lock => {
            deps::install()?;
            let progress = progress::Progress::new();
            let cache = astromesh_rootfs::Cache::open(&astromesh_rootfs::Cache::default_path()?)?;
            astromesh_rootfs::lock::update(&cache, &|text| progress.note(text))?;
            progress.note("asking for the newest registry and its clients");
            lock_test_tools(&cache)?;
            progress.note("asking for the newest kernel source");
            let source = astromesh_kernel::newest_source(&cache)?;
            std::fs::write(project().join("kernel-config/source.lock"), source)?;
            progress.note("asking for the newest kernel-hardening-checker");
            let checker = astromesh_kernel::hardening::newest_checker(&cache)?;
            Ok(std::fs::write(project().join("kernel-config/hardening-checker.lock"), checker)?)
        }
    }
}

/// Rewrites the pins of the programs that the tests of `oci` are made with.
fn lock_test_tools(cache: &astromesh_rootfs::Cache) -> Result<()> {
    let path = project().join("oci/tests/tools.lock");
    let mut lock = DebianLock::parse(&std::fs::read_to_string(&path)?)?;
    for package in &mut lock.packages {
        *package = astromesh_rootfs::newest_debian(cache, "trixie", &package.name)?;
    }
    Ok(std::fs::write(path, lock.render())?)
}

/// The project's folder.
fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}
