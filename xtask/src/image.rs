//! From source to a bootable image in `out/`: kernel, init, root, hash tree, unified kernel image, disk.

use crate::compile::{build_preboot, build_static};
use crate::progress::Progress;
use crate::{initrd, project, sbom};
use anyhow::{Context as _, Result};
use astromesh_kernel::Step;
use astromesh_qemu::node::Image;
use astromesh_qemu::release::Release;
use astromesh_rootfs::command_line::command_line;
use astromesh_rootfs::{BuildOptions, Cache, RootImage, Tools, disk, esp, lock::DebianLock, uki};
use astromesh_verity::{BLOCK_SIZE, RootHash, Salt, Superblock, Uuid, partition_uuids};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// UUID in the verity superblock. Fixed: the root hash is what identifies a root.
const VERITY_UUID: Uuid = Uuid::from_u128(0xa57e_0c1e_0e0f_5000_8002_0000_0076_7274);

/// Builds everything.
pub fn build() -> Result<Image> {
    let progress = Progress::new();
    let out = project().join("out");
    fs::create_dir_all(&out).with_context(|| format!("{} can't be made", out.display()))?;

    let cache = Cache::default_path()?;
    let kernel = astromesh_kernel::build(&cache, &|step| match step {
        Step::Note(text) => progress.note(&text),
        Step::Compiling { done, total, remaining } => progress.fraction("kernel", done, total, remaining),
    })?;
    progress.note("building init");
    let init = build_static("init", None)?;
    let root = astromesh_rootfs::build(&BuildOptions::new(&out, env!("CARGO_PKG_VERSION"))?, &|text| {
        progress.note(text);
    })?;
    progress.note("putting the disk together");
    let image = assemble(&out, &Parts::of(&kernel.bzimage, &init, &root))?;
    let json = serde_json::to_vec_pretty(&image)?;
    fs::write(out.join("image.json"), json).context("out/image.json can't be written")?;
    progress.note("writing the bill of materials");
    sbom::write(&image, &kernel, &tools()?)?;
    Ok(image)
}

/// The release with the root's tree in its initramfs and everything else as it is: what `bench start` compares with.
pub fn in_memory(release: &Image) -> Result<Image> {
    let init = build_static("init", Some("tree-in-memory"))?;
    let initrd = project().join("out/in-memory.zst");
    initrd::write_with_tree(&init, &release.stage, &initrd)?;
    Ok(Image { init, initrd, ..release.clone() })
}

/// The build's own pinned tools.
pub fn tools() -> Result<Tools> {
    let cache = Cache::open(&Cache::default_path()?)?;
    Ok(Tools::open(&cache, &DebianLock::load()?, &|_| ())?)
}

/// What a bootable disk is put together from.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The bzImage.
    pub kernel: &'a Path,
    /// PID 1.
    pub init: &'a Path,
    /// The root.
    pub root: &'a RootImage,
    /// The version that boot loader, slots and os-release tell.
    pub version: &'a str,
    /// Another root hash than the root's: for gates that boot what is wrong on purpose.
    pub name: Option<RootHash>,
    /// The defect that a twin of `init` is to have.
    pub twin: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Of the version that this source is.
    pub fn of(kernel: &'a Path, init: &'a Path, root: &'a RootImage) -> Self {
        Self { kernel, init, root, version: env!("CARGO_PKG_VERSION"), name: None, twin: None }
    }
}

/// Puts a bootable disk around a root.
pub fn assemble(out: &Path, parts: &Parts<'_>) -> Result<Image> {
    let copy = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = out.join(name);
        fs::copy(from, &to).with_context(|| format!("{} can't be written", to.display()))?;
        Ok(to)
    };
    let kernel = copy(parts.kernel, "bzImage")?;
    let init = copy(parts.init, "init")?;
    let initrd = out.join("initrd.zst");
    initrd::write(&init, &initrd)?;
    let Parts { root, version, name, twin, .. } = *parts;
    let release = release(out, &kernel, &initrd, &root.erofs, version, name, twin)?;

    let ids = partition_uuids(&release.root_hash.parse()?);
    let tools = tools()?;
    let loader = tools.file(esp::LOADER);
    let preboot = copy(&build_preboot(None)?, "preboot.efi")?;
    let esp = out.join("esp.fat");
    let uki_name = release.uki_name();
    let files = esp::Files { preboot: &preboot, loader: &loader, uki: &release.uki, uki_name: &uki_name };
    esp::make(&files, &esp)?;
    let var = out.join("var.ext4");
    disk::make_var(&tools, &var)?;
    let disk = out.join("disk.raw");
    disk::assemble(
        &disk::Contents {
            esp: &esp,
            version,
            root: &root.erofs,
            root_partuuid: &ids.root.to_string(),
            verity: &release.verity,
            verity_partuuid: &ids.verity.to_string(),
            var: &var,
        },
        &disk,
    )?;
    for part in [esp, var] {
        fs::remove_file(part).ok();
    }
    Ok(Image {
        kernel,
        uki: release.uki,
        preboot,
        loader,
        initrd,
        init,
        disk,
        root: root.erofs.clone(),
        verity: release.verity,
        stage: root.stage.clone(),
        manifest: root.manifest.clone(),
        root_hash: release.root_hash,
    })
}

/// Makes the files of a release around a root, in `out`: its hash tree, and the one program that names its root hash, or
/// the root hash `name`; with the defect `twin`, if the `init` in the initramfs is a twin.
pub fn release(
    out: &Path,
    kernel: &Path,
    initrd: &Path,
    root: &Path,
    version: &str,
    name: Option<RootHash>,
    twin: Option<&str>,
) -> Result<Release> {
    fs::create_dir_all(out).with_context(|| format!("{} can't be made", out.display()))?;
    let verity = out.join("root.verity");
    let root_hash = name.unwrap_or(hash_tree(root, &verity)?);
    let stub = tools()?.file(uki::STUB);
    let uki = out.join("astromesh.efi");
    let twin = twin.map_or_else(String::new, |twin| format!(" twin={twin}"));
    let (cmdline, os_release) = (command_line(&root_hash) + &twin, astromesh_rootfs::os_release(version));
    let parts = uki::Parts { stub: &stub, kernel, initrd, cmdline: &cmdline, os_release: &os_release };
    uki::make(&parts, &uki)?;
    let root_hash = root_hash.to_string();
    Ok(Release { version: version.to_owned(), uki, root: root.to_owned(), verity, root_hash })
}

/// Writes the hash tree of `root` and returns its root hash. The salt is fixed, like the UUID it is made of: the same
/// root has the same hash wherever it is built, and who can choose a root's content has the signing key anyway.
fn hash_tree(root: &Path, out: &Path) -> Result<RootHash> {
    let data = File::open(root).with_context(|| format!("{} can't be read", root.display()))?;
    let blocks = data.metadata()?.len() / BLOCK_SIZE as u64;
    let salt = Salt::new(VERITY_UUID.as_bytes())?;
    let superblock = Superblock::new(VERITY_UUID, blocks, salt)?;
    let mut tree = File::create(out).with_context(|| format!("{} can't be written", out.display()))?;
    let hash = astromesh_verity::format(&data, &superblock, &mut tree)?;
    tree.sync_all()?;
    Ok(hash)
}
