//! Releases that are newer than this source, and good or bad in one way each: what the gate of updates installs.
//! Described in `out/gate.json`, in the field `updates`.
//!
//! They are cheap: all but the last three have a root of a few files, which is cached, and share the release's kernel and
//! `init`. What is wrong with one is one line of [`build`].

use crate::bytes::{find, incompressible};
use crate::compile::{build_preboot, build_static};
use crate::image::{self, Parts};
use crate::{initrd, project};
use anyhow::{Context as _, Result, bail};
use astromesh_qemu::node::Image;
use astromesh_qemu::release::{Release, Updates};
use astromesh_rootfs::{RootImage, variant};
use std::fs;
use std::path::{Path, PathBuf};

/// The versions of the stand-ins: the one that is there, its update, and the update's update.
const OLD: &str = "0.1.0";
const NEW: &str = "0.2.0";
const NEWER: &str = "0.3.0";

/// Length of the file that the stand-in reads before it serves: a few blocks.
const SEED_BYTES: usize = 16 * 4096;

/// Builds them around the release, whose root is `base`; `twins` is the `init` that can have a defect.
pub fn build(release: &Image, base: &RootImage, twins: &Path) -> Result<Updates> {
    let out = project().join("out/updates");
    let program = build_static("astromesh-stand-in", None)?;
    let seed = incompressible(SEED_BYTES);
    let stand_in = |behaviour: &str, version: &str, name: &str| -> Result<RootImage> {
        let stand_in = variant::StandIn { program: &program, behaviour, seed: &seed };
        Ok(variant::with_stand_in(base, &stand_in, version, &out.join(name))?)
    };
    let old = stand_in("healthy", OLD, "base")?;
    let root = stand_in("healthy", NEW, "healthy")?;
    let newer = stand_in("healthy", NEWER, "newer")?;
    let unhealthy = stand_in("unhealthy", NEW, "unhealthy")?;
    let crash = stand_in("crash", NEW, "crash")?;

    let parts = Parts { version: OLD, ..Parts::of(&release.kernel, &release.init, &old) };
    let base_image = image::assemble(&out.join("base"), &parts)?;
    let (kernel, plain) = (&release.kernel, &base_image.initrd);
    let make =
        |name: &str, version: &str, kernel: &Path, initrd: &Path, root: &RootImage| -> Result<Release> {
            image::release(&out.join(name), kernel, initrd, &root.erofs, version, None, None)
        };
    let healthy = make("healthy", NEW, kernel, plain, &root)?;
    let newer = make("newer", NEWER, kernel, plain, &newer)?;
    // Outside of its root the stand-in ends at once, which is what this PID 1 is to do.
    let panic = packed(&out.join("panic"), &program)?;
    let twin = |name: &str, version: &str, root: &RootImage, defect: &str| -> Result<Release> {
        let initrd = packed(&out.join(name), twins)?;
        image::release(&out.join(name), kernel, &initrd, &root.erofs, version, None, Some(defect))
    };
    let broken = damaged_kernel(kernel, &out.join("no-kernel"))?;
    let twin_base = |name: &str, defect: &str| -> Result<Image> {
        let parts = Parts { version: OLD, twin: Some(defect), ..Parts::of(&release.kernel, twins, &old) };
        let place = out.join(name);
        fs::create_dir_all(&place).with_context(|| format!("{} can't be made", place.display()))?;
        image::assemble(&place, &parts)
    };
    let real = release.as_release(env!("CARGO_PKG_VERSION"));
    let lost = without_agents(&out.join("real-unhealthy"))?;
    let real_unhealthy = variant::with_version_and_launcher(base, NEW, &lost, &out.join("real-unhealthy"))?;
    let real_next = variant::with_version(base, NEW, &out.join("real-next"))?;
    Ok(Updates {
        unhealthy: make("unhealthy", NEW, kernel, plain, &unhealthy)?,
        unhealthy_kept: twin("unhealthy-kept", NEW, &unhealthy, "bless-always")?,
        crash: make("crash", NEW, kernel, plain, &crash)?,
        panic: make("panic", NEW, kernel, &panic, &root)?,
        hang: twin("hang", NEW, &root, "hang-early")?,
        stuck: twin("stuck", NEW, &root, "hang-take-drive")?,
        stuck_for_ever: twin("stuck-for-ever", NEW, &root, "hang-take-drive-for-ever")?,
        impatient_preboot: build_preboot(Some("short-watchdog"))?,
        no_kernel: make("no-kernel", NEW, &broken, plain, &root)?,
        corrupt: Release { root: corrupt(&root.erofs, &seed, &out.join("corrupt"))?, ..healthy.clone() },
        swapped: Release { verity: newer.verity.clone(), ..healthy.clone() },
        real_next: make("real-next", NEW, kernel, &release.initrd, &real_next)?,
        real_unhealthy: make("real-unhealthy", NEW, kernel, &release.initrd, &real_unhealthy)?,
        believing: twin_base("believing", "believe-anyone")?,
        credulous: twin_base("credulous", "believe-fetched")?,
        base: base_image,
        healthy,
        newer,
        real,
    })
}

/// The release's launcher, looking for agents where there are none.
fn without_agents(out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let path = project().join("rootfs/launcher/launch.py");
    let text = fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
    let (before, after) = text.split_once("\ngc.disable()\n").context("the launcher begins otherwise")?;
    let lost = out.join("launch.py");
    let text =
        format!("{before}\nos.environ[\"ASTROMESH_CONFIG_DIR\"] = \"/usr/share\"\ngc.disable()\n{after}");
    fs::write(&lost, text)?;
    Ok(lost)
}

/// An initramfs with another PID 1.
fn packed(out: &Path, init: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let initrd = out.join("initrd.zst");
    initrd::write(init, &initrd)?;
    Ok(initrd)
}

/// The kernel with its compressed part overwritten: firmware takes it for a program and starts it, and it can't unpack
/// itself.
fn damaged_kernel(kernel: &Path, out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let mut bytes = fs::read(kernel)?;
    // Documentation/arch/x86/boot.rst: where the compressed part begins (`payload_offset`, from the end of the real-mode
    // sectors on) and how long it is.
    let word = |at: usize| -> Result<usize> {
        let word = bytes.get(at..at + 4).context("the kernel has no setup header")?;
        Ok(u32::from_le_bytes(word.try_into()?) as usize)
    };
    let setup_sectors = usize::from(*bytes.get(0x1f1).context("the kernel has no setup header")?);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    let middle = start + word(0x24c)? / 2;
    let Some(damaged) = bytes.get_mut(middle..middle + 4096) else {
        bail!("the compressed part of {} lies outside of it", kernel.display());
    };
    damaged.fill(0xff);
    let broken = out.join("bzImage");
    fs::write(&broken, bytes)?;
    Ok(broken)
}

/// The root with one byte of `seed` changed, which the runtime reads at each start.
fn corrupt(root: &Path, seed: &[u8], out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let offset = find(root, seed)?;
    let mut bytes = fs::read(root)?;
    bytes[offset] ^= 1;
    let corrupt = out.join("root.erofs");
    fs::write(&corrupt, bytes)?;
    Ok(corrupt)
}
