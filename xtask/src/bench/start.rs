//! `cargo xtask bench start`: what the verified root costs the runtime's start, in wall time. Boots alternate between the
//! release and its twin that holds the same tree in the initramfs, where nothing is read, verified or decompressed.

use super::arguments::BenchArguments;
use super::boot;
use crate::statistics::{Unit, as_f64, median, with_range};
use crate::{cargo, deps, image, project};
use anyhow::{Context as _, Result};
use astromesh_qemu::node::{self, Delivery, Image, Node, Setup};
use astromesh_qemu::{Provider, relay_path};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// What the verified root may cost at most: the time from the agent's exec to health, as a percentage of that in memory.
const EXEC_TO_HEALTHY_PERCENT: u64 = 110;

/// Wall times of one way to start, in milliseconds, a value for each boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Starts {
    /// The agent's exec to health.
    exec_to_healthy: Vec<u64>,
    /// Kernel entry to health: unpacking the initramfs included.
    kernel_to_healthy: Vec<u64>,
    /// The agent's exec to health in guest instructions, of one counted boot.
    instructions: u64,
}

/// Both ways, interleaved.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// The saved figures, both ways beside each other, as Markdown.
pub fn saved(json: &[u8]) -> Result<String> {
    let saved: Comparison = serde_json::from_slice(json)
        .context("bench/start.json is of another version: run `cargo xtask bench start --save`")?;
    let (root, memory) = (&saved.verified, &saved.in_memory);
    let mut text = String::from(
        "| what | from the verified root | from memory | ratio | goal | |\n|---|--:|--:|--:|--:|---|\n",
    );
    let mut row = |what: &str, unit, root: &[u64], memory: &[u64], goal: Option<u64>| {
        let (ours, twin) = (median(root), median(memory).max(1));
        let verdict = match goal {
            None => "",
            Some(most) if ours * 100 <= twin * most => "reached",
            Some(_) => "**not reached**",
        };
        let goal = goal.map_or_else(|| "-".to_owned(), |most| format!("at most {:.2}", as_f64(most) / 100.0));
        let ratio = as_f64(ours) / as_f64(twin);
        let (root, memory) = (with_range(unit, root), with_range(unit, memory));
        let _ = writeln!(text, "| {what} | {root} | {memory} | {ratio:.2} | {goal} | {verdict} |");
    };
    let (exec, kernel) = ("the agent's exec to healthy", "kernel entry to healthy");
    let (time, count) = (Unit::Milliseconds, Unit::Instructions);
    row(exec, time, &root.exec_to_healthy, &memory.exec_to_healthy, Some(EXEC_TO_HEALTHY_PERCENT));
    row(kernel, time, &root.kernel_to_healthy, &memory.kernel_to_healthy, None);
    row(&format!("{exec}, guest instructions"), count, &[root.instructions], &[memory.instructions], None);
    Ok(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_saved_ratio_is_judged_by_medians() {
        let starts = |exec: [u64; 3]| Starts {
            exec_to_healthy: exec.to_vec(),
            kernel_to_healthy: vec![10_000],
            instructions: 2_000_000_000,
        };
        let saved_of = |verified| {
            let comparison = Comparison {
                verified: starts(verified),
                in_memory: starts([5000, 9000, 1000]),
                exec_to_healthy_percent: 0,
                kernel_to_healthy_percent: 0,
            };
            saved(&serde_json::to_vec(&comparison).unwrap()).unwrap()
        };
        let text = saved_of([5500, 1, 9000]);
        assert!(
            text.contains("| 5.5 s [0.0-9.0] | 5.0 s [1.0-9.0] | 1.10 | at most 1.10 | reached |"),
            "{text}"
        );
        assert!(saved_of([5501, 1, 9000]).contains("| 1.10 | at most 1.10 | **not reached** |"));
        assert!(saved(b"{}").is_err());
    }
}
