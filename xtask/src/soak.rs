//! `cargo xtask soak`: one node that stands for hours in bad company, and what its services then hold in memory.
//!
//! A test of some minutes can't see what grows by a page an hour. Here a node of the release stands while its agent is
//! asked without pause, the cable of its only link is pulled each minute (so that its lease is asked for again each time),
//! its `/var` is full from the start, and an operator polls everything that can be asked. The kernel's figures of each
//! service are taken down all the while ([`samples`]); at the end nothing may have been started again, and nothing may
//! have grown ([`growth`]).
//!
//! It isn't part of `cargo xtask test`: it takes as long as it is told to.

mod growth;
mod samples;

use crate::{cargo, deps, image, project};
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_proto::control::Request;
use astromesh_qemu::node::{self, Delivery, Node, Setup};
use astromesh_qemu::slots::Slots;
use astromesh_qemu::{Disk, Provider, relay_path, tamper};
use clap::Args;
use samples::{Sample, Soak};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

pub use growth::saved as table;

/// What is left of `/var`, in bytes: so little that the first thing of any size that is written there fails.
const LEFT_OF_VAR: u64 = 64 * 1024;
/// Between two questions to the agent. Each costs the emulated node about half a second.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two rounds of the operator.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// How long the cable is in, and out.
const CABLE_IN: Duration = Duration::from_secs(50);
const CABLE_OUT: Duration = Duration::from_secs(10);
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);
/// Between two looks whether it is time.
const LOOK: Duration = Duration::from_millis(200);
/// Of all that was asked, how much may go wrong at most, in percent: the cable is out for a sixth of the time, and what is
/// under way then is lost.
const MOST_LOST_PERCENT: u64 = 50;
const OFF_WITHIN: Duration = Duration::from_secs(120);

#[derive(Args)]
pub struct SoakArguments {
    /// How long the node stands
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// Keep the figures in bench/soak.json
    #[arg(long)]
    save: bool,
}

/// How often something was tried, and how often it went wrong.
#[derive(Debug, Default)]
struct Tries {
    done: AtomicU64,
    lost: AtomicU64,
}

impl Tries {
    fn count(&self, went_well: bool) {
        let which = if went_well { &self.done } else { &self.lost };
        which.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

/// The command.
pub fn run(arguments: &SoakArguments) -> Result<()> {
    ensure!(
        arguments.minutes >= growth::FEWEST_MINUTES,
        "--minutes {}: at least {} are needed, so that there is a beginning to compare the end with",
        arguments.minutes,
        growth::FEWEST_MINUTES
    );
    deps::install()?;
    let image = image::build()?;
    cargo::build_relay()?;
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    tamper::copy_image(&image.disk, &disk)?;
    let provider = Provider::start("throw-away-key", &[node::PROVIDER_NAME])?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let start = || -> Result<Node> {
        let nic = node::network(&relay_path()?).reach_loopback(node::PROVIDER_INSIDE, provider.port());
        let machine = image.machine_with_disk(Disk::new(&disk)).nic(nic);
        let vm = setup.deliver(machine, Delivery::Smbios).start()?;
        let node = Node { profile: setup.profile(&vm)?, vm };
        node.wait_healthy()?;
        Ok(node)
    };
    // Its first boot makes what a node has on /var; it fills up later, as with real nodes.
    start()?.vm.power_off(OFF_WITHIN)?;
    Slots::of(&disk).fill_var(LEFT_OF_VAR)?;
    let mut node = start()?;
    // A question that meets a pulled cable is given up early, and not after two minutes.
    node.profile.timeout = Duration::from_secs(20);
    let full = node.doctor()?.into_iter().find(|check| check.name == "space");
    let full = full.context("the doctor has no check \"space\"")?;
    ensure!(!full.ok, "/var is not full, so this is no soak: {}", full.detail);

    eprintln!("  the node stands for {} minutes", arguments.minutes);
    let soak = stand(&node, Duration::from_secs(arguments.minutes * 60))?;
    eprintln!("{}", growth::markdown(&soak)?);
    node.wait_healthy()?;
    node.vm.power_off(OFF_WITHIN)?;
    if arguments.save {
        let path = project().join("bench/soak.json");
        fs::write(&path, serde_json::to_string(&soak)? + "\n").context("bench/soak.json can't be written")?;
    }
    growth::check(&soak)
}

/// Everybody does what they do to the node, until the time is over.
fn stand(node: &Node, time: Duration) -> Result<Soak> {
    let over = AtomicBool::new(false);
    let (asked, polled, pulled) = (Tries::default(), Tries::default(), AtomicU64::new(0));
    let began = Instant::now();
    let mut samples = Vec::new();
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            each(ASK_EVERY, &over, || asked.count(node.ask("assistant", "How long have you stood?").is_ok()));
        });
        scope.spawn(|| each(POLL_EVERY, &over, || poll(node, &polled)));
        scope.spawn(|| {
            while pause(CABLE_IN, &over) {
                if node.vm.set_link(0, false).is_err() {
                    return;
                }
                pulled.fetch_add(1, Ordering::Relaxed);
                pause(CABLE_OUT, &over);
                if node.vm.set_link(0, true).is_err() {
                    return;
                }
            }
        });
        let sampled = sample(node, began, time, &mut samples);
        over.store(true, Ordering::Release);
        sampled
    })?;
    let soak = Soak {
        minutes: began.elapsed().as_secs() / 60,
        asked: asked.get(),
        polled: polled.get(),
        cable_pulled: pulled.load(Ordering::Relaxed),
        samples,
    };
    for (what, (done, lost)) in [("question", soak.asked), ("look", soak.polled)] {
        if lost * 100 > (done + lost) * MOST_LOST_PERCENT {
            bail!(
                "{lost} of {} {what}s were lost: that is no node under load, but one out of reach",
                done + lost
            );
        }
    }
    ensure!(soak.cable_pulled > 0, "the cable was never pulled");
    Ok(soak)
}

/// Takes down what the kernel says of each service. A look that the pulled cable cut short is made again.
fn sample(node: &Node, began: Instant, time: Duration, samples: &mut Vec<Sample>) -> Result<()> {
    let mut next = began;
    while began.elapsed() < time {
        ensure!(node.vm.is_running(), "the machine ended:\n{}", node.vm.serial().tail());
        if Instant::now() >= next
            && let Ok(status) = node.status()
        {
            samples.push(Sample::of(&status, began.elapsed().as_secs()));
            next += SAMPLE_EVERY;
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// All that an operator can ask without changing anything.
fn poll(node: &Node, tries: &Tries) {
    for request in [Request::Status, Request::Doctor, Request::Boot] {
        tries.count(node.request(&request).is_ok());
    }
}

/// Does something again and again until it is over.
fn each(every: Duration, over: &AtomicBool, mut act: impl FnMut()) {
    while !over.load(Ordering::Acquire) {
        act();
        pause(every, over);
    }
}

/// Waits; false when it is over.
fn pause(time: Duration, over: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if over.load(Ordering::Acquire) {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}
