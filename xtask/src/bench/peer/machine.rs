//! One boot of either side, measured the same way: a question is answered, times are taken by the host's clock, and the
//! machine is looked at when it has come to rest.
//!
//! **Times.** The host's clock starts when QEMU is started and stops at the first 200 of `/v1/health`, which is asked for
//! ten times a second. What happens inside is known by the guest's clock, which counts from kernel entry; the smallest
//! difference seen between the two clocks is when the kernel was entered. Without `-icount` both run at the same speed.
//!
//! **Ours** tells of itself through its control API, as it does to every operator. **The peer** has no such thing, so the
//! reporter is added to its disk. Both are asked only when everything else is done.

use super::build::Peer;
use super::recipe::{self, REPORTER_PORT};
use super::report::{self, Facts, Report, listening};
use crate::bench::boot;
use anyhow::{Context as _, Result, bail, ensure};
use astromesh_qemu::node::{self, API_PORT, Delivery, Image, Node, Setup};
use astromesh_qemu::{Accelerator, Disk, Provider, Vm, VmBuilder, http, relay_path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How the machine comes to its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// UEFI, systemd-boot, kernel: as in a cloud.
    Firmware,
    /// QEMU puts kernel and initramfs into memory.
    Direct,
}

/// How long either may take. Emulated, on a machine that does something else too, the peer was seen to need 90 seconds.
const WITHIN: Duration = Duration::from_secs(600);
/// The same where every instruction is counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(1800);
/// How often `/v1/health` is asked for: the resolution of the first 200.
const EVERY: Duration = Duration::from_millis(100);
/// A question that the guest does not even refuse, because it has no address yet, is asked again after this.
const UNANSWERED: Duration = Duration::from_secs(1);
/// A machine is at rest when what it has left changed by less than this in [`REST`]: an eighth of a percent.
const REST_KIB: u64 = 1024;
const REST: Duration = Duration::from_secs(5);

/// Where the time of one boot went, in milliseconds; together the time to the first 200.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stages {
    /// QEMU's start, firmware, boot loader, and unpacking the kernel.
    pub(super) firmware: u64,
    /// The kernel, until the first program of its own.
    pub(super) kernel: u64,
    /// The initramfs; ours has `init` in it and nothing to hand over to.
    pub(super) initramfs: u64,
    /// PID 1, until the agent's exec.
    pub(super) services: u64,
    /// The runtime.
    pub(super) runtime: u64,
}

impl Stages {
    /// QEMU's start to the agent's exec.
    pub(super) fn to_exec(self) -> u64 {
        self.firmware + self.kernel + self.initramfs + self.services
    }

    /// QEMU's start to the first 200.
    pub(super) fn to_first_200(self) -> u64 {
        self.to_exec() + self.runtime
    }

    /// From moments: of the host's clock when the kernel was entered and when the first 200 came, of the guest's the rest.
    fn between(entry: u64, first: u64, initramfs: u64, services: u64, exec: u64) -> Result<Self> {
        let ordered = initramfs <= services && services <= exec && entry + exec <= first;
        ensure!(
            ordered,
            "the moments of a boot are out of order: {entry} {initramfs} {services} {exec} {first}"
        );
        Ok(Self {
            firmware: entry,
            kernel: initramfs,
            initramfs: services - initramfs,
            services: exec - services,
            runtime: first - entry - exec,
        })
    }
}

/// One boot.
pub(super) struct Boot {
    pub(super) stages: Stages,
    pub(super) facts: Facts,
}

/// A provider for all boots, so that the peer's disk can trust it.
pub(super) fn provider() -> Result<Provider> {
    Ok(Provider::start(recipe::PROVIDER_KEY, &[node::PROVIDER_NAME])?)
}

/// Boots ours once.
pub(super) fn ours(image: &Image, way: Way, provider: &Provider) -> Result<Boot> {
    let setup = Setup::new(provider.ca_pem(), recipe::PROVIDER_KEY)?;
    let nic = node::network(&relay_path()?).reach_loopback(node::PROVIDER_INSIDE, provider.port());
    let machine = match way {
        Way::Firmware => image.cloud_machine(Disk::new(&image.disk).snapshot()),
        Way::Direct => image.machine(),
    };
    let begun = Instant::now();
    let vm = setup.deliver(machine.nic(nic).name("ours"), Delivery::Smbios).start()?;
    let first = wait_first_200(&vm, begun, WITHIN)?;
    let node = Node { profile: setup.profile(&vm)?, vm };
    demand_answer(node.vm.host_address(API_PORT)?, provider)?;
    let entry = entered(begun, || Ok(node.status()?.uptime_ms))?;
    let status = at_rest(|| {
        let status = node.status()?;
        Ok((status.memory_available_kib, status))
    })?;
    let timeline = node.boot()?;
    let stage = |name: &str| {
        timeline.iter().find(|stage| stage.name == name).with_context(|| format!("no stage {name:?}"))
    };
    let (kernel, agent) = (stage("kernel")?, stage("agent")?);
    let (kernel, exec) = (kernel.took_us / 1000, (agent.started_us + agent.took_us) / 1000);
    let stages = Stages::between(entry, first, kernel, kernel, exec)?;
    let besides = status.services.iter().filter(|service| service.name != "agent");
    let facts = Facts {
        processes: status.services.iter().filter(|service| service.pid != 0).count() as u64,
        names: status.services.iter().map(|service| service.name.clone()).collect(),
        besides_kib: besides.map(|service| service.pss_kib).sum(),
        available_kib: status.memory_available_kib,
        // Nobody inside can tell; see `sockets`.
        sockets: Vec::new(),
        exec_ms: exec,
        initramfs_ms: None,
        services_ms: None,
        slowest: Vec::new(),
        waited_for: Vec::new(),
        failed: node.doctor()?.into_iter().filter(|check| !check.ok).map(|check| check.name).collect(),
    };
    node.vm.quit()?;
    Ok(Boot { stages, facts })
}

/// Instructions of ours from kernel entry to healthy, counted as `bench boot` counts them. An upper bound: what the machine
/// idles before PID 1 runs can't be told from work, and asking the control API costs a TLS handshake each time.
pub(super) fn count_ours(image: &Image) -> Result<u64> {
    let counted = boot::count_a_boot(image)?;
    Ok(counted.kernel + counted.to_exec + counted.to_healthy)
}

/// The peer's disk and what QEMU puts into memory when it boots it directly.
pub(super) struct PeerMachine {
    pub(super) disk: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

impl PeerMachine {
    pub(super) fn new(peer: &Peer, disk: PathBuf) -> Self {
        Self { disk, kernel: peer.kernel.clone(), initrd: peer.initrd.clone() }
    }

    /// The same board as ours, with the reporter's port in place of the control API's.
    fn machine(&self, way: Way, provider: &Provider) -> Result<VmBuilder> {
        let disk = Disk::new(&self.disk).snapshot();
        let nic = astromesh_qemu::Nic::new(relay_path()?).forward(API_PORT).forward(REPORTER_PORT);
        let nic = nic.reach_loopback(node::PROVIDER_INSIDE, provider.port());
        let board = node::board().nic(nic).name("peer");
        Ok(match way {
            Way::Firmware => board.uefi().disk(disk.boot()),
            Way::Direct => {
                board.kernel(&self.kernel).initrd(&self.initrd).cmdline(recipe::cmdline()).disk(disk)
            }
        })
    }

    /// Boots it once.
    pub(super) fn boot(&self, way: Way, provider: &Provider) -> Result<Boot> {
        let machine = self.machine(way, provider)?;
        let begun = Instant::now();
        let vm = machine.start()?;
        let first = wait_first_200(&vm, begun, WITHIN)?;
        demand_answer(vm.host_address(API_PORT)?, provider)?;
        let reporter = vm.host_address(REPORTER_PORT)?;
        let entry = entered(begun, || {
            let idle = ask(reporter, "/idle")?;
            report::uptime_ms(idle["uptime"].as_str().unwrap_or_default())
                .context("/proc/uptime is not a time")
        })?;
        let facts = at_rest(|| {
            let facts = report(reporter)?.facts()?;
            Ok((facts.available_kib, facts))
        })?;
        let initramfs =
            facts.initramfs_ms.context("the peer's kernel log does not name its first program")?;
        let services = facts.services_ms.context("systemd does not tell when it began")?;
        let stages = Stages::between(entry, first, initramfs, services, facts.exec_ms)?;
        vm.quit()?;
        Ok(Boot { stages, facts })
    }

    /// Instructions from kernel entry until the runtime's socket listens, of one boot on one counted processor.
    pub(super) fn count(&self, provider: &Provider) -> Result<u64> {
        let machine = self.machine(Way::Direct, provider)?.cpus(1).accelerator(Accelerator::TcgCounted);
        let begun = Instant::now();
        let vm = machine.start()?;
        wait_first_200(&vm, begun, COUNTED_WITHIN)?;
        let instructions = report(vm.host_address(REPORTER_PORT)?)?.instructions()?;
        vm.quit()?;
        Ok(instructions)
    }
}

/// What listens on a node of ours. A release has nobody inside who could be asked, so this asks the gates' probe: the
/// same root with another launcher, which listens where the runtime listens and sees the machine's sockets as the runtime
/// does.
pub(super) fn sockets(probe: &Image, provider: &Provider) -> Result<Vec<String>> {
    let setup = Setup::new(provider.ca_pem(), recipe::PROVIDER_KEY)?;
    let nic = node::network(&relay_path()?).reach_loopback(node::PROVIDER_INSIDE, provider.port());
    let begun = Instant::now();
    let vm = setup.deliver(probe.machine().nic(nic).name("probe"), Delivery::Smbios).start()?;
    wait_first_200(&vm, begun, WITHIN)?;
    let answer = ask(vm.host_address(API_PORT)?, "/probe/sockets")?;
    let tables: BTreeMap<String, String> =
        serde_json::from_value(answer).context("the probe tells no sockets")?;
    vm.quit()?;
    Ok(listening(&tables))
}

/// Milliseconds from `begun` to the first 200 of the runtime.
fn wait_first_200(vm: &Vm, begun: Instant, limit: Duration) -> Result<u64> {
    let api = vm.host_address(API_PORT)?;
    loop {
        if http::get(api, "/v1/health", UNANSWERED).is_ok_and(|answer| answer.status == 200) {
            return Ok(milliseconds(begun));
        }
        if begun.elapsed() > limit || !vm.is_running() {
            bail!("no 200 within {limit:?}; the end of the console:\n{}", vm.serial().tail());
        }
        sleep(EVERY);
    }
}

/// The declared agent answers a question, and the answer is the provider's to this very question.
fn demand_answer(api: SocketAddr, provider: &Provider) -> Result<()> {
    let nonce = astromesh_rootfs::sha256_hex(format!("{api} {:?}", Instant::now()).as_bytes());
    let answer = node::ask(api, "assistant", &format!("nonce:{nonce}"))?;
    ensure!(answer.contains(&provider.expected_answer(&nonce)), "the answer is not the provider's: {answer}");
    Ok(())
}

/// When the kernel was entered, in milliseconds since `begun`: an answer is late, never early, so the smallest difference
/// is the nearest.
fn entered(begun: Instant, mut uptime: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut smallest = u64::MAX;
    for _ in 0..5 {
        let up = uptime()?;
        smallest = smallest.min(milliseconds(begun).saturating_sub(up));
    }
    Ok(smallest)
}

/// Looks until memory stands still, and gives the last look.
fn at_rest<T>(mut look: impl FnMut() -> Result<(u64, T)>) -> Result<T> {
    let (mut before, _) = look()?;
    for _ in 0..24 {
        sleep(REST);
        let (now, seen) = look()?;
        if now.abs_diff(before) < REST_KIB {
            return Ok(seen);
        }
        before = now;
    }
    bail!("the machine does not come to rest: {before} KiB left, and still changing")
}

fn report(reporter: SocketAddr) -> Result<Report> {
    let report: Report =
        serde_json::from_value(ask(reporter, "/")?).context("the reporter tells something else")?;
    report.uptime_ms().context("the reporter has no time")?;
    Ok(report)
}

fn ask(address: SocketAddr, path: &str) -> Result<serde_json::Value> {
    Ok(http::get(address, path, Duration::from_secs(60))?.json()?)
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_a_boot_make_up_the_time_to_the_first_200() {
        let stages = Stages::between(2000, 60_000, 9000, 20_000, 37_000).unwrap();
        assert_eq!(
            stages,
            Stages { firmware: 2000, kernel: 9000, initramfs: 11_000, services: 17_000, runtime: 21_000 }
        );
        assert_eq!((stages.to_exec(), stages.to_first_200()), (39_000, 60_000));
        assert!(Stages::between(2000, 38_000, 9000, 20_000, 37_000).is_err());
        assert!(Stages::between(2000, 60_000, 9000, 8000, 37_000).is_err());
    }

    #[test]
    fn the_smallest_difference_of_the_clocks_is_when_the_kernel_was_entered() {
        let begun = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let mut late = [90_000, 97_500, 95_000, 80_000, 97_000].into_iter();
        let entry = entered(begun, || Ok(late.next().unwrap())).unwrap();
        assert!((2500..2600).contains(&entry), "{entry}");
    }
}
