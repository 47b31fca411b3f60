//! `cargo xtask hardening`: the checker's verdict on the kernel that is built, and on the command line it gets.

use crate::progress::Progress;
use anyhow::{Context as _, Result, ensure};
use astromesh_kernel::{Step, hardening};
use astromesh_rootfs::{Cache, command_line};
use std::fs;

/// The command, and the step of the tests.
pub fn check() -> Result<()> {
    let progress = Progress::new();
    let cache = Cache::default_path()?;
    let kernel = astromesh_kernel::build(&cache, &|step| match step {
        Step::Note(text) => progress.note(&text),
        Step::Compiling { done, total, remaining } => progress.fraction("kernel", done, total, remaining),
    })?;
    // All but the root hash, which differs from image to image and hardens nothing that the checker knows of.
    let cmdline = command_line::fixed();
    let note = |text: &str| progress.note(text);
    let accepted = hardening::check(&cache, &kernel.config, &cmdline, &note)?;

    // The twin: a configuration without one of its defences must fail, or the check proves nothing.
    let text = fs::read_to_string(&kernel.config)
        .with_context(|| format!("{} can't be read", kernel.config.display()))?;
    let scratch = tempfile::tempdir()?;
    let weaker = scratch.path().join("config");
    fs::write(
        &weaker,
        text.replace("CONFIG_STACKPROTECTOR_STRONG=y", "# CONFIG_STACKPROTECTOR_STRONG is not set"),
    )?;
    let refused = hardening::check(&cache, &weaker, &cmdline, &note);
    ensure!(
        matches!(&refused, Err(hardening::HardeningError::Weaker(why)) if why.contains("CONFIG_STACKPROTECTOR_STRONG")),
        "the check accepts a kernel without a strong stack protector: {refused:?}"
    );
    println!("kernel {}: no failure without a reason; {accepted} accepted in hardening.toml", kernel.version);
    Ok(())
}
