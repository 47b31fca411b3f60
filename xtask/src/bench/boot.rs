//! `cargo xtask bench boot`: what a boot costs, in guest instructions, and what each process keeps.
//!
//! QEMU counts: with `-icount shift=0` the guest's clock advances one nanosecond for each instruction, so the node's own
//! timeline *is* the count, and it does not vary with what else the host does. While nothing runs the clock jumps to
//! the next timer; that idle time, which the kernel knows to a hundredth of a second, is taken off. One processor.

use super::arguments::BenchArguments;
use crate::statistics::{Unit, text as figure};
use crate::{cargo, deps, image, project};
use anyhow::{Context as _, Result, bail};
use astromesh_proto::control::{Service, Stage};
use astromesh_qemu::node::{self, Delivery, Image, Node, Setup};
use astromesh_qemu::{Accelerator, Provider, relay_path};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Goals of this phase, in guest instructions.
const TO_EXEC: u64 = 100_000_000;
const TO_HEALTHY: u64 = 1_600_000_000;
/// What PID 1 may have resident, and what it and the services that every node runs may have together, in KiB: the limits
/// that the gate of phase 0 holds.
const PID_1_KIB: u64 = 2048;
const SERVICES_KIB: u64 = 8192;
/// Of these.
const SERVICES: [&str; 3] = ["init", "net", "control"];

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Kernel entry to PID 1's first instruction.
    pub(super) kernel: u64,
    /// PID 1's first instruction to the agent's exec.
    pub(super) to_exec: u64,
    /// The agent's exec to health.
    pub(super) to_healthy: u64,
    /// Instructions of each stage, in order.
    stages: Vec<(String, u64)>,
    /// Memory of each process.
    services: Vec<Service>,
}

/// The command.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    deps::install()?;
    let image = image::build()?;
    cargo::build_relay()?;
    eprintln!("  booting with every instruction counted; this takes a few minutes");
    let figures = count_a_boot(&image)?;
    if arguments.save {
        fs::write(saved_path(), serde_json::to_string_pretty(&figures)? + "\n")
            .context("bench/boot.json can't be written")?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        println!("{}\n\n{}", table(&figures), memory(&figures));
    }
    Ok(())
}

/// Counts a boot of the image in `out/` and prints it as Markdown, with what changed since the figures that were kept
/// last. Exits with an error where a goal is missed that was reached before.
pub fn report() -> Result<()> {
    let image = Image::load(&project().join("out/image.json"))?;
    let now = count_a_boot(&image)?;
    let kept = fs::read(saved_path()).with_context(|| format!("{} can't be read", saved_path().display()))?;
    let kept = read(&kept)?;
    print!("{}", markdown(&now, &kept));
    if now.to_exec > TO_EXEC {
        bail!("PID 1 to the agent's exec takes {}, its goal is {}", millions(now.to_exec), millions(TO_EXEC));
    }
    Ok(())
}

fn saved_path() -> PathBuf {
    project().join("bench/boot.json")
}

fn markdown(now: &Figures, kept: &Figures) -> String {
    let mut text =
        String::from("| guest instructions | now | goal | kept | change |\n|---|--:|--:|--:|--:|\n");
    let rows = [
        ("kernel entry to PID 1", now.kernel, None, kept.kernel),
        ("PID 1 to the agent's exec", now.to_exec, Some(TO_EXEC), kept.to_exec),
        ("the agent's exec to healthy", now.to_healthy, Some(TO_HEALTHY), kept.to_healthy),
    ];
    for (what, now, goal, kept) in rows {
        let goal = goal.map_or_else(|| "-".to_owned(), millions);
        let percent = (i128::from(now) - i128::from(kept)) * 100 / i128::from(kept.max(1));
        let _ =
            writeln!(text, "| {what} | {} | {goal} | {} | {percent:+} % |", millions(now), millions(kept));
    }
    text.push_str("\n| process | RSS KiB | PSS KiB | RSS kept |\n|---|--:|--:|--:|\n");
    for service in &now.services {
        let before = kept.services.iter().find(|one| one.name == service.name);
        let before = before.map_or_else(|| "-".to_owned(), |one| one.rss_kib.to_string());
        let _ = writeln!(text, "| {} | {} | {} | {before} |", service.name, service.rss_kib, service.pss_kib);
    }
    text
}

/// The saved figures beside their goals, as Markdown.
pub fn saved_goals(json: &[u8]) -> Result<String> {
    let figures = read(json)?;
    let mut text = String::from("| what | goal | measured | |\n|---|--:|--:|---|\n");
    let verdict = |value, goal| if value <= goal { "reached" } else { "**not reached**" };
    let _ =
        writeln!(text, "| kernel entry to PID 1, guest instructions | - | {} | |", millions(figures.kernel));
    for (what, value, goal) in [
        ("PID 1's first instruction to the agent's exec, guest instructions", figures.to_exec, TO_EXEC),
        ("the agent's exec to healthy, guest instructions", figures.to_healthy, TO_HEALTHY),
    ] {
        let (measured, most) = (millions(value), millions(goal));
        let _ = writeln!(text, "| {what} | at most {most} | {measured} | {} |", verdict(value, goal));
    }
    let service = |name: &str| {
        figures.services.iter().find(|one| one.name == name).with_context(|| format!("no process {name:?}"))
    };
    let pid_1 = service("init")?.rss_kib;
    let together = SERVICES.iter().map(|name| Ok(service(name)?.pss_kib)).sum::<Result<u64>>()?;
    for (what, value, goal) in [
        ("PID 1, resident".to_owned(), pid_1, PID_1_KIB),
        (format!("{} together, proportional", SERVICES.join(", ")), together, SERVICES_KIB),
    ] {
        let (measured, most) = (figure(Unit::Kib, value), figure(Unit::Kib, goal));
        let _ = writeln!(text, "| {what} | at most {most} | {measured} | {} |", verdict(value, goal));
    }
    Ok(text)
}

/// The saved instructions of each stage, and the saved memory of each process, as Markdown.
pub fn saved_parts(json: &[u8]) -> Result<String> {
    let figures = read(json)?;
    let mut text = String::from("| stage | guest instructions |\n|---|--:|\n");
    for (name, count) in &figures.stages {
        let _ = writeln!(text, "| {name} | {} |", millions(*count));
    }
    text.push_str("\n| process | resident | proportional |\n|---|--:|--:|\n");
    for service in &figures.services {
        let (rss, pss) = (figure(Unit::Kib, service.rss_kib), figure(Unit::Kib, service.pss_kib));
        let _ = writeln!(text, "| {} | {rss} | {pss} |", service.name);
    }
    Ok(text)
}

fn read(json: &[u8]) -> Result<Figures> {
    serde_json::from_slice(json)
        .context("bench/boot.json is of another version: run `cargo xtask bench boot --save`")
}

/// Boots an image on one counted processor.
pub(super) fn count_a_boot(image: &Image) -> Result<Figures> {
    let provider = Provider::start("throw-away-key", &[node::PROVIDER_NAME])?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let nic = node::network(&relay_path()?).reach_loopback(node::PROVIDER_INSIDE, provider.port());
    let machine = image.machine().nic(nic).cpus(1).accelerator(Accelerator::TcgCounted);
    let vm = setup.deliver(machine, Delivery::Smbios).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let status =
        node.wait_for("the node did not become healthy", Duration::from_secs(900), |status| status.healthy)?;
    let figures = figures(&node.boot()?, status.services)?;
    node.vm.power_off(Duration::from_secs(300))?;
    Ok(figures)
}

/// The count of a boot from its timeline.
pub(super) fn figures(stages: &[Stage], services: Vec<Service>) -> Result<Figures> {
    let find = |name: &str| {
        stages.iter().find(|stage| stage.name == name).with_context(|| format!("no stage {name:?}"))
    };
    let (kernel, agent, healthy) = (find("kernel")?, find("agent")?, find("healthy")?);
    let exec = agent.started_us + agent.took_us;
    let own: Vec<&Stage> =
        stages.iter().filter(|stage| stage.started_us >= kernel.took_us && stage.name != "healthy").collect();
    // Services go on in the background, so only what happened before the exec counts as PID 1's.
    let idle: u64 =
        own.iter().filter(|stage| stage.started_us + stage.took_us <= exec).map(|stage| stage.idle_us).sum();
    if exec < kernel.took_us {
        bail!("the timeline runs backwards: {stages:?}");
    }
    Ok(Figures {
        kernel: kernel.took_us * 1000,
        to_exec: (exec - kernel.took_us).saturating_sub(idle) * 1000,
        to_healthy: healthy.took_us.saturating_sub(healthy.idle_us) * 1000,
        stages: stages
            .iter()
            .map(|stage| (stage.name.clone(), stage.took_us.saturating_sub(stage.idle_us) * 1000))
            .collect(),
        services,
    })
}

fn table(figures: &Figures) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["guest instructions", "measured", "goal", ""]);
    let verdict = |value, goal| if value <= goal { "reached" } else { "NOT reached" };
    table.add_row([
        "kernel entry to PID 1".to_owned(),
        millions(figures.kernel),
        "-".to_owned(),
        String::new(),
    ]);
    table.add_row([
        "PID 1 to the agent's exec".to_owned(),
        millions(figures.to_exec),
        millions(TO_EXEC),
        verdict(figures.to_exec, TO_EXEC).to_owned(),
    ]);
    table.add_row([
        "the agent's exec to healthy".to_owned(),
        millions(figures.to_healthy),
        millions(TO_HEALTHY),
        verdict(figures.to_healthy, TO_HEALTHY).to_owned(),
    ]);
    for (name, count) in &figures.stages {
        table.add_row([format!("  stage {name}"), millions(*count), String::new(), String::new()]);
    }
    for column in 1..3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn memory(figures: &Figures) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["process", "RSS KiB", "PSS KiB"]);
    for service in &figures.services {
        table.add_row([service.name.clone(), service.rss_kib.to_string(), service.pss_kib.to_string()]);
    }
    table
}

fn millions(count: u64) -> String {
    format!("{} M", count.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_proto::control::StageOutcome;

    fn stage(name: &str, started_us: u64, took_us: u64, idle_us: u64) -> Stage {
        Stage {
            name: name.to_owned(),
            started_us,
            took_us,
            idle_us,
            outcome: StageOutcome::Done,
            note: String::new(),
        }
    }

    #[test]
    fn idle_time_is_taken_off_and_a_service_that_goes_on_is_not_pid_1s_work() {
        let stages = [
            stage("kernel", 0, 1000, 0),
            stage("root", 1000, 100, 40),
            stage("network", 1100, 5000, 5000),
            stage("agent", 1200, 100, 0),
            stage("healthy", 1300, 2000, 500),
        ];
        let figures = figures(&stages, Vec::new()).unwrap();
        assert_eq!((figures.kernel, figures.to_exec, figures.to_healthy), (1_000_000, 260_000, 1_500_000));
    }

    #[test]
    fn the_report_says_what_changed_against_what_was_kept() {
        let kept = Figures {
            kernel: 1_000_000_000,
            to_exec: 50_000_000,
            to_healthy: 2_000_000_000,
            stages: Vec::new(),
            services: Vec::new(),
        };
        let now = Figures { kernel: 1_100_000_000, to_exec: 25_000_000, ..kept.clone() };
        let text = markdown(&now, &kept);
        assert!(text.contains("| kernel entry to PID 1 | 1100 M | - | 1000 M | +10 % |"), "{text}");
        assert!(text.contains("| PID 1 to the agent's exec | 25 M | 100 M | 50 M | -50 % |"), "{text}");
        assert!(text.contains("| 2000 M | 1600 M | 2000 M | +0 % |"), "{text}");
    }

    #[test]
    fn what_was_saved_stands_beside_its_goal_and_is_judged() {
        let service = |name: &str, rss_kib, pss_kib| Service {
            name: name.to_owned(),
            pid: 1,
            restarts: 0,
            rss_kib,
            pss_kib,
        };
        let mut saved = Figures {
            kernel: 1_000_000_000,
            to_exec: TO_EXEC,
            to_healthy: TO_HEALTHY + 1,
            stages: vec![("root".to_owned(), 1_000_000)],
            services: vec![service("init", 2049, 1024), service("net", 1, 2048), service("control", 1, 5120)],
        };
        let text = saved_goals(&serde_json::to_vec(&saved).unwrap()).unwrap();
        assert!(
            text.contains("agent's exec, guest instructions | at most 100 M | 100 M | reached |"),
            "{text}"
        );
        assert!(
            text.contains("healthy, guest instructions | at most 1600 M | 1601 M | **not reached** |"),
            "{text}"
        );
        assert!(text.contains("| PID 1, resident | at most 2.0 MiB | 2.0 MiB | **not reached** |"), "{text}");
        assert!(text.contains("proportional | at most 8.0 MiB | 8.0 MiB | reached |"), "{text}");
        assert!(saved_parts(&serde_json::to_vec(&saved).unwrap()).unwrap().contains("| root | 1 M |"));
        saved.services.clear();
        assert!(saved_goals(&serde_json::to_vec(&saved).unwrap()).is_err());
    }

    #[test]
    fn a_timeline_without_its_stages_is_an_error() {
        assert!(figures(&[stage("kernel", 0, 1, 0)], Vec::new()).is_err());
    }
}
