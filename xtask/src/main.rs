//! The developer's commands: `cargo xtask --help`.
//!
//! Everything a fresh machine needs is installed by these commands and nothing is left to be done by hand. Nothing
//! here runs on the node.

mod bench;
mod bytes;
mod cargo;
mod compile;
mod deps;
mod figures;
mod formats;
mod fuzz;
mod hardening;
mod image;
#[cfg(test)]
mod imports;
mod initrd;
mod lanes;
#[cfg(test)]
mod processes;
mod progress;
mod project;
mod push;
mod repro;
mod run;
mod sbom;
mod size;
mod soak;
#[cfg(test)]
mod specification;
mod statistics;
mod steps;
mod test;
mod updates;
mod variants;
#[cfg(test)]
mod walls;

use anyhow::Result;
use astromesh_rootfs::lock::DebianLock;
use clap::{Parser, Subcommand};
use project::project;
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
    Test(test::TestArguments),
    /// Run one gate, by name: phase0, phase1, phase2, phase3
    Gate {
        /// Name of the gate
        name: String,
        /// Only tests whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// phase2: boot 25 power cuts of a recorded update instead of 3
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
    /// Let a node stand for hours with a full /var, a pulled cable and a busy agent: nothing may grow
    Soak(soak::SoakArguments),
    /// Fill docs/figures.md from the saved figures in bench/
    Figures(figures::FiguresArguments),
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
        Command::Test(arguments) => test::everything(&arguments),
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
            sbom::check::check()
        }
        Command::Hardening => {
            deps::install()?;
            hardening::check()
        }
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Figures(arguments) => figures::run(&arguments),
        Command::Push(arguments) => push::push(&arguments),
        Command::Keys { dir } => push::make_keys(&dir),
        Command::Deps => deps::install(),
        Command::Lock => {
            deps::install()?;
            let progress = progress::Progress::new();
            let cache = astromesh_rootfs::Cache::open(&astromesh_rootfs::Cache::default_path()?)?;
            astromesh_rootfs::relock::update(&cache, &|text| progress.note(text))?;
            progress.note("asking for the newest emulator, registry and registry's clients");
            lock_tools(&cache, astromesh_qemu::emulator::LOCK)?;
            lock_tools(&cache, "oci/tests/tools.lock")?;
            progress.note("asking for the newest kernel source");
            let source = astromesh_kernel::newest_source(&cache)?;
            std::fs::write(project().join("kernel-config/source.lock"), source)?;
            progress.note("asking for the newest kernel-hardening-checker");
            let checker = astromesh_kernel::hardening::newest_checker(&cache)?;
            Ok(std::fs::write(project().join("kernel-config/hardening-checker.lock"), checker)?)
        }
    }
}

/// Rewrites the pins of one lock file of programs that are never in the image.
fn lock_tools(cache: &astromesh_rootfs::Cache, path: &str) -> Result<()> {
    let path = project().join(path);
    let mut lock = DebianLock::parse(&std::fs::read_to_string(&path)?)?;
    astromesh_rootfs::renew_tools(cache, astromesh_rootfs::SUITE, &mut lock)?;
    Ok(std::fs::write(path, lock.render())?)
}
