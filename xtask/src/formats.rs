//! `cargo xtask image`: the disk in every format, with checksums, in `out/images/`.

use crate::progress::Progress;
use crate::{deps, image, project};
use anyhow::{Context as _, Result};
use astromesh_qemu::node::Image;
use astromesh_rootfs::formats::{self, Format};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::PathBuf;

#[derive(Args)]
pub struct ImageArguments {
    /// Only these formats; all of them unless said
    #[arg(long = "format", value_enum)]
    formats: Vec<Name>,
}

/// A format on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The disk itself
    Raw,
    /// QEMU, KVM, OpenStack
    Qcow2,
    /// Azure
    Vhd,
    /// VMware, EC2
    Vmdk,
    /// Google Compute Engine
    Gce,
}

impl From<Name> for Format {
    fn from(name: Name) -> Self {
        match name {
            Name::Raw => Self::Raw,
            Name::Qcow2 => Self::Qcow2,
            Name::Vhd => Self::Vhd,
            Name::Vmdk => Self::Vmdk,
            Name::Gce => Self::GceTar,
        }
    }
}

/// The command.
pub fn write(arguments: &ImageArguments) -> Result<()> {
    deps::install()?;
    let image = image::build()?;
    let chosen: Vec<Format> = if arguments.formats.is_empty() {
        formats::ALL.to_vec()
    } else {
        arguments.formats.iter().map(|&name| name.into()).collect()
    };
    for file in convert(&image, &chosen)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// Where they lie.
pub fn directory() -> PathBuf {
    project().join("out/images")
}

/// Writes the image in these formats, and `SHA256SUMS` beside them; returns the images.
pub fn convert(image: &Image, chosen: &[Format]) -> Result<Vec<PathBuf>> {
    let progress = Progress::new();
    let out = directory();
    fs::create_dir_all(&out).with_context(|| format!("{} can't be made", out.display()))?;
    let mut files = Vec::new();
    for &format in chosen {
        let name = format!("astromesh-{}-x86_64.{}", env!("CARGO_PKG_VERSION"), format.extension());
        progress.note(&format!("writing {name}"));
        let file = out.join(name);
        format.write(&image.disk, &file)?;
        files.push(file);
    }
    fs::write(out.join("SHA256SUMS"), formats::checksums(&files)?).context("SHA256SUMS can't be written")?;
    Ok(files)
}
