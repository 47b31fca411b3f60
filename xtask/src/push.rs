//! `cargo xtask push` and `cargo xtask keys`: what the last build left in `out/`, signed, into a registry.
//!
//! What an artifact is made of is the table [`FILES`]. Nothing is built here, so that what is pushed is what was tested.

use crate::progress::Progress;
use crate::{project, size};
use anyhow::{Context as _, Result, bail};
use astromesh_oci::{Artifact, ChunkIndex, Credentials, FileName, Kind, Options, SigningKey, keys, manifest};
use astromesh_qemu::node::Image;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub struct PushArguments {
    /// REGISTRY/REPOSITORY:TAG; HTTPS, but plain HTTP on 127.0.0.0/8 and localhost. An account is taken from
    /// ASTROMESH_REGISTRY_USER and ASTROMESH_REGISTRY_PASSWORD
    #[arg(value_name = "REF")]
    reference: astromesh_oci::Reference,
    /// Private key to sign with, as `cargo xtask keys` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Days after which no node installs it any more; without, it does not expire
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    expires_in: Option<u32>,
}

/// The layers of an artifact: what, and the file in `out/`, which is its name where it is pulled, too.
const FILES: [(Kind, &str); 7] = [
    (Kind::Uki, "astromesh.efi"),
    (Kind::Root, "root.erofs"),
    (Kind::Verity, "root.verity"),
    (Kind::Disk, DISK),
    (Kind::Sbom, crate::sbom::NAME),
    (Kind::Size, SIZE),
    (Kind::Chunks, CHUNKS),
];
const DISK: &str = "disk.raw.zst";
const SIZE: &str = "size.json";
const CHUNKS: &str = "image.chunks";

/// The command.
pub fn push(arguments: &PushArguments) -> Result<()> {
    let progress = Progress::new();
    // Before the work: a key that can't be read is found out at once.
    let key = SigningKey::load(&arguments.key)?;
    let out = project().join("out");
    let image = Image::load(&out.join("image.json"))?;
    progress.note("compressing the disk");
    compress(&image.disk, &out.join(DISK))?;
    fs::write(out.join(SIZE), size::json(&image)?).context("out/size.json can't be written")?;
    progress.note("cutting UKI and root into chunks");
    let chunks = ChunkIndex::of_files([(Kind::Uki, &*image.uki), (Kind::Root, &*image.root)])
        .context("UKI or root can't be read: run `cargo xtask build`")?;
    fs::write(out.join(CHUNKS), chunks.encode()?).context("out/image.chunks can't be written")?;
    let mut annotations = annotations(&image)?;
    if let Some(days) = arguments.expires_in {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("this host's clock is before 1970")?;
        let end = now.as_secs() + u64::from(days) * 24 * 3600;
        annotations.insert(manifest::EXPIRES.to_owned(), end.to_string());
    }
    let artifact = Artifact { layers: layers(&image, &out)?, annotations };
    let options = Options { credentials: Credentials::from_environment(), ..Options::default() };
    let pushed = astromesh_oci::push(&arguments.reference, &artifact, &key, &options, &mut |text| {
        progress.note(text);
    })?;
    drop(progress);
    println!("{}/{}@{}", arguments.reference.registry(), arguments.reference.repository(), pushed.digest);
    println!("signed by {}", key.public_key().fingerprint());
    Ok(())
}

/// Makes a key pair in `dir`.
pub fn make_keys(dir: &Path) -> Result<()> {
    let (private, public) = keys::write_pair(dir)?;
    println!("{}: signs images; keep it secret", private.display());
    println!("{}: give it to whoever pulls images", public.display());
    Ok(())
}

/// Where each layer of the artifact is.
fn layers(image: &Image, out: &Path) -> Result<Vec<(Kind, FileName, PathBuf)>> {
    let mut layers = Vec::new();
    for (kind, name) in FILES {
        let path = match kind {
            Kind::Root => image.root.clone(),
            Kind::Verity => image.verity.clone(),
            Kind::Uki => image.uki.clone(),
            _ => out.join(name),
        };
        if !path.is_file() {
            bail!("{} is not there: run `cargo xtask build`", path.display());
        }
        let name = FileName::parse(name).context("a name of the table FILES is no plain file name")?;
        layers.push((kind, name, path));
    }
    Ok(layers)
}

/// What the image says of itself; each value is read from what was built.
fn annotations(image: &Image) -> Result<BTreeMap<String, String>> {
    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("{} can't be read: run `cargo xtask build`", path.display()))
    };
    let contents: Value = serde_json::from_slice(&read(&image.manifest)?)
        .with_context(|| format!("{} is no manifest", image.manifest.display()))?;
    let kernel = kernel_version(&read(&image.kernel)?)
        .with_context(|| format!("{} is no bzImage that says its version", image.kernel.display()))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let runtime = contents["wheels"]
        .as_array()
        .and_then(|wheels| text(&wheels.iter().find(|wheel| wheel["name"] == "astromesh")?["version"]));
    let missing = || format!("{} names no version", image.manifest.display());
    Ok(BTreeMap::from([
        (manifest::VERSION.to_owned(), text(&contents["version"]).with_context(missing)?),
        (manifest::RUNTIME.to_owned(), runtime.with_context(missing)?),
        (manifest::KERNEL.to_owned(), kernel),
        (manifest::ROOT_HASH.to_owned(), image.root_hash.clone()),
        (manifest::ARCHITECTURE.to_owned(), "x86_64".to_owned()),
    ]))
}

/// The version in a kernel's setup header: `kernel_version` at 0x20e is where the text stands, less 0x200
/// (Documentation/arch/x86/boot.rst).
fn kernel_version(bytes: &[u8]) -> Option<String> {
    if bytes.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?);
    let text = bytes.get(usize::from(pointer).checked_add(0x200)?..)?;
    let end = text.iter().take(128).position(|byte| *byte == b' ' || *byte == 0)?;
    let version = std::str::from_utf8(&text[..end]).ok()?;
    (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic())).then(|| version.to_owned())
}

/// Compresses a file with zstd; one thread, so that the number of processors doesn't decide the bytes.
fn compress(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("zstd");
    command.args(["-q", "-f", "-10", "--single-thread", "-o"]).arg(to).arg(from);
    if !command.status().context("zstd can't be started: run `cargo xtask deps`")?.success() {
        bail!("zstd could not compress {}", from.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x600_u16.to_le_bytes());
        bytes[0x800..0x800 + version.len()].copy_from_slice(version);
        bytes
    }

    #[test]
    fn the_kernels_version_is_read_from_its_header() {
        assert_eq!(kernel_version(&header(b"6.12.117 (who@where) #1\0")).as_deref(), Some("6.12.117"));
    }

    #[test]
    fn what_is_no_kernel_has_no_version() {
        assert_eq!(kernel_version(&[]), None);
        assert_eq!(kernel_version(&header(b"")), None);
        assert_eq!(kernel_version(&header(&[b'x'; 200])), None);
        assert_eq!(kernel_version(&header(b"6.12\x1b[31m \0")), None);
        let mut other = header(b"6.12 \0");
        other[0x202] = b'x';
        assert_eq!(kernel_version(&other), None);
        let mut outside = header(b"6.12 \0");
        outside[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(kernel_version(&outside), None);
    }

    #[test]
    fn every_kind_of_layer_has_one_plain_file_name() {
        assert_eq!(FILES.map(|(kind, _)| kind), Kind::ALL);
        assert!(FILES.iter().all(|(_, name)| FileName::parse(name).is_some()));
    }
}
