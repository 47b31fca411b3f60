//! Images that are wrong, or talkative, on purpose: what the gates boot beside the release. Described in
//! `out/gate.json`.

use crate::bytes::{find, incompressible};
use crate::compile::build_static;
use crate::image::{self, Parts};
use crate::{formats, project, updates};
use anyhow::{Context as _, Result};
use astromesh_qemu::node::{GateImages, Image};
use astromesh_rootfs::{Components, RootImage, variant};
use std::fs;

/// Length of the file that nobody reads: a few blocks.
const COLD_BYTES: usize = 16 * 4096;

/// Builds them around the release, for one gate or for all. What only one gate boots, and what takes another build of `init`,
/// is built for that gate alone.
pub fn build(release: &Image, gate: Option<&str>) -> Result<GateImages> {
    let is_for = |name: &str| gate.is_none_or(|gate| gate == name);
    let out = project().join("out");
    let base = RootImage {
        erofs: release.root.clone(),
        manifest: release.manifest.clone(),
        stage: release.stage.clone(),
        components: Components::default(),
    };
    let cold = incompressible(COLD_BYTES);
    let source = project().join("qemu/tests/probe/launch.py");
    let root = variant::with_launcher(&base, &source, &cold, &out.join("probe"))?;
    let parts = Parts::of(&release.kernel, &release.init, &root);
    let probe = image::assemble(&out.join("probe"), &parts)?;

    let offset = find(&root.erofs, &cold)?;

    // The probe's root under the PARTUUIDs of another root hash: it is found, and must not be mounted.
    let mislabelled_out = out.join("mislabelled");
    fs::create_dir_all(&mislabelled_out)?;
    let name = Some(release.root_hash.parse()?);
    let mislabelled = image::assemble(&mislabelled_out, &Parts { name, ..parts })?;

    let is_observed = is_for("phase0") || is_for("phase3");
    let twins = (is_observed || is_for("phase2")).then(|| build_static("init", Some("twins"))).transpose()?;
    let observed = match twins.as_deref().filter(|_| is_observed) {
        Some(init) => {
            let parts = Parts { init, twin: Some("observed"), ..parts };
            fs::create_dir_all(out.join("observed"))?;
            Some(image::assemble(&out.join("observed"), &parts)?)
        }
        None => None,
    };
    let updates = match twins.as_deref().filter(|_| is_for("phase2")) {
        Some(init) => Some(updates::build(release, &base, init)?),
        None => None,
    };
    let images = GateImages {
        release: release.clone(),
        probe,
        cold_offset: offset as u64,
        mislabelled,
        observed,
        formats: formats::directory(),
        updates,
    };
    fs::write(out.join("gate.json"), serde_json::to_vec_pretty(&images)?)
        .context("out/gate.json can't be written")?;
    Ok(images)
}
