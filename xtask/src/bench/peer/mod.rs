//! `cargo xtask bench peer`: ours against what a user would pick instead, Debian with systemd and the same runtime.
//!
//! The peer is built here (`recipe.rs` says of what and why, `build.rs` how), boots on the same board, and has to answer
//! the same question through the same provider before any of its figures counts. Boots alternate between the two, so that
//! what else this machine does falls on both.
//!
//! It refuses to measure a peer whose byte code is not used, and to call a goal reached that is not.

mod build;
mod command;
mod figures;
mod machine;
mod picture;
mod recipe;
mod report;
mod rows;
mod table;
mod tree;

use super::arguments::BenchArguments;
use crate::progress::Progress;
use crate::{cargo, deps, image, project};
use anyhow::{Context as _, Result};
use astromesh_qemu::node::Image;
use astromesh_qemu::{Accelerator, Emulator};
use astromesh_rootfs::{Components, RootImage, variant};
use build::{Built, compressed};
use figures::{Comparison, Machine, Side};
use machine::{PeerMachine, Way};
use std::fs;
use std::path::Path;

/// What building the peer needs beyond the other commands.
const HOST_PACKAGES: &[(&str, &str)] = &[
    ("mmdebstrap", "builds the Debian that the image is compared with"),
    ("zstd", "compresses both, to compare like with like"),
];

/// The command.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    let packages: Vec<_> = HOST_PACKAGES.iter().chain(picture::HOST_PACKAGES).copied().collect();
    deps::install_all(&packages)?;
    if arguments.runs == 0 {
        // What was kept, shown anew: for whoever changes the table or the picture.
        let kept = fs::read(project().join("bench/peer.json")).context("bench/peer.json can't be read")?;
        return show(&read(&kept)?, arguments);
    }
    let image = image::build()?;
    cargo::build_relay()?;
    let out = project().join("out/peer");
    fs::create_dir_all(&out).with_context(|| format!("{} can't be made", out.display()))?;
    let probe = probe(&image, &out)?;
    let peer = build::build(&Progress::new())?;
    let provider = machine::provider()?;
    let disk = peer.disk(provider.ca_pem(), &image.loader, &out)?;
    let machine = PeerMachine::new(&peer, disk);

    let (mut ours, mut theirs) = weighed(&image, &peer.built)?;
    for run in 1..=arguments.runs {
        for (way, by) in [(Way::Firmware, "by UEFI"), (Way::Direct, "direct")] {
            eprintln!("  pair {run} of {}, {by}", arguments.runs);
            ours.add(machine::ours(&image, way, &provider)?, way == Way::Firmware);
            theirs.add(machine.boot(way, &provider)?, way == Way::Firmware);
        }
    }
    eprintln!("  asking the probe what listens");
    ours.sockets = machine::sockets(&probe, &provider)?;
    eprintln!("  one more boot of each, with every instruction counted; this takes a few minutes");
    ours.instructions = machine::count_ours(&image)?;
    theirs.instructions = machine.count(&provider)?;
    fs::remove_file(&machine.disk).ok();

    let figures = Comparison {
        machine: this_machine()?,
        without_root: bytes(&image.loader)? + bytes(&image.uki)? + bytes(&image.verity)?,
        ours,
        peer: theirs,
        built: peer.built,
    };
    show(&figures, arguments)
}

/// The saved comparison as Markdown.
pub fn saved(json: &[u8]) -> Result<String> {
    Ok(table::markdown(&read(json)?))
}

fn read(json: &[u8]) -> Result<Comparison> {
    serde_json::from_slice(json)
        .context("bench/peer.json is of another version: run `cargo xtask bench peer --save`")
}

/// Writes figures and picture, to `bench/` where they are to be kept and to `out/` otherwise, and prints them.
fn show(figures: &Comparison, arguments: &BenchArguments) -> Result<()> {
    let json = serde_json::to_string_pretty(figures)? + "\n";
    let kept = project().join(if arguments.save { "bench" } else { "out" });
    fs::create_dir_all(&kept).with_context(|| format!("{} can't be made", kept.display()))?;
    fs::write(kept.join("peer.json"), &json)
        .with_context(|| format!("{} can't be written", kept.display()))?;
    picture::write(figures, &kept.join("peer.png"))?;
    if arguments.json {
        print!("{json}");
    } else {
        println!("{}\nThe picture is {}", table::markdown(figures), kept.join("peer.png").display());
    }
    Ok(())
}

/// What needs no boot: sizes, programs, set-user-ID bits.
fn weighed(image: &Image, built: &Built) -> Result<(Side, Side)> {
    let four = [&image.loader, &image.uki, &image.root, &image.verity];
    let mut installed = 0;
    let scratch = tempfile::tempdir()?;
    for file in four {
        installed += bytes(file)?;
        let name = file.file_name().context("a file of the image has no name")?;
        fs::copy(file, scratch.path().join(name))?;
    }
    let stage = tree::weigh(&image.stage)?;
    let ours = Side {
        installed,
        compressed: compressed(scratch.path(), &["."])?,
        // `init` is in the initramfs, beside the root.
        executables: stage.executables + 1,
        setuid: stage.setuid,
        ..Side::default()
    };
    let loader =
        image.loader.parent().zip(image.loader.file_name()).context("the boot loader has no folder")?;
    let theirs = Side {
        installed: built.weight.bytes + bytes(&image.loader)?,
        compressed: built.compressed + compressed(loader.0, &[&loader.1.to_string_lossy()])?,
        executables: built.weight.executables,
        setuid: built.weight.setuid,
        ..Side::default()
    };
    Ok((ours, theirs))
}

/// The image with the gates' probe in the runtime's place.
fn probe(release: &Image, out: &Path) -> Result<Image> {
    let base = RootImage {
        erofs: release.root.clone(),
        manifest: release.manifest.clone(),
        stage: release.stage.clone(),
        components: Components::default(),
    };
    let out = out.join("probe");
    let root = variant::with_launcher(&base, &project().join("qemu/tests/probe/launch.py"), &[], &out)?;
    image::assemble(&out, &image::Parts::of(&release.kernel, &release.init, &root))
}

fn this_machine() -> Result<Machine> {
    Ok(Machine {
        accelerator: if Accelerator::detect() == Accelerator::Kvm { "kvm" } else { "tcg" }.to_owned(),
        qemu: Emulator::open()?.version()?,
        host_processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

fn bytes(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("{} can't be read", file.display()))?.len())
}
