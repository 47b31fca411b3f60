//! `cargo xtask bench start`: what the verified root costs the runtime's start, in wall time. Boots alternate between the
//! release and its twin that holds the same tree in the initramfs, where nothing is read, verified or decompressed.

use super::arguments::BenchArguments;
use super::boot;
use crate::statistics::median;
use crate::{cargo, deps, image, project};
use anyhow::{Context as _, Result};
use astromesh_qemu::node::{self, Delivery, Image, Node, Setup};
use astromesh_qemu::{Provider, relay_path};
use serde::Serialize;
use std::fs;
use std::time::Duration;

/// Wall times of one way to start, in milliseconds, a value for each boot.
#[derive(Debug, Clone, Default, Serialize)]
struct Starts {
    /// The agent's exec to health.
    exec_to_healthy: Vec<u64>,
    /// Kernel entry to health: unpacking the initramfs included.
    kernel_to_healthy: Vec<u64>,
    /// The agent's exec to health in guest instructions, of one counted boot.
    instructions: u64,
}

/// Both ways, interleaved.
#[derive(Debug, Clone, Serialize)]
struct Comparison {
    /// From the disk, through dm-verity and EROFS.
    verified: Starts,
    /// The same tree unpacked from the initramfs.
    in_memory: Starts,
    /// Median over median of `exec_to_healthy`.
    exec_to_healthy_percent: u64,
    /// Median over median of `kernel_to_healthy`.
    kernel_to_healthy_percent: u64,
}

/// The command.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    deps::install()?;
    let image = image::build()?;
    let twin = image::in_memory(&image)?;
    cargo::build_relay()?;
    let (mut verified, mut in_memory) = (Starts::default(), Starts::default());
    for run in 1..=arguments.runs {
        eprintln!("  pair {run} of {}", arguments.runs);
        for (image, starts) in [(&image, &mut verified), (&twin, &mut in_memory)] {
            let (exec, kernel) = time_a_boot(image)?;
            starts.exec_to_healthy.push(exec);
            starts.kernel_to_healthy.push(kernel);
        }
    }
    eprintln!("  one more boot of each, with every instruction counted; this takes a few minutes");
    for (image, starts) in [(&image, &mut verified), (&twin, &mut in_memory)] {
        starts.instructions = boot::count_a_boot(image)?.to_healthy;
    }
    let percent = |of: fn(&Starts) -> &[u64]| median(of(&verified)) * 100 / median(of(&in_memory)).max(1);
    let comparison = Comparison {
        exec_to_healthy_percent: percent(|starts| &starts.exec_to_healthy),
        kernel_to_healthy_percent: percent(|starts| &starts.kernel_to_healthy),
        verified,
        in_memory,
    };
    if arguments.save {
        fs::write(project().join("bench/start.json"), serde_json::to_string_pretty(&comparison)? + "\n")
            .context("bench/start.json can't be written")?;
    }
    println!("{}", serde_json::to_string_pretty(&comparison)?);
    Ok(())
}

/// Boots an image and gives its times to health, from the agent's exec and from kernel entry.
fn time_a_boot(image: &Image) -> Result<(u64, u64)> {
    let provider = Provider::start("throw-away-key", &[node::PROVIDER_NAME])?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let nic = node::network(&relay_path()?).reach_loopback(node::PROVIDER_INSIDE, provider.port());
    let vm = setup.deliver(image.machine().nic(nic), Delivery::Smbios).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    node.wait_healthy()?;
    let healthy =
        node.boot()?.into_iter().find(|stage| stage.name == "healthy").context("no stage \"healthy\"")?;
    node.vm.power_off(Duration::from_secs(120))?;
    Ok((healthy.took_us / 1000, (healthy.started_us + healthy.took_us) / 1000))
}
