//! Gate of phase 2, power cuts: an update whose power fails at any moment ends on a healthy release, with every byte of
//! the agents' data, and without a person.
//!
//! At named steps the machine is killed and switched on again cold. They are told apart by facts outside of the guest:
//! what the node said it is doing, and bytes on its disk. A killed machine's host keeps every write, so one update is
//! also written down, write by write, and every cut of it is looked at with what no flush covers lost or out of order;
//! some are booted (`ASTROMESH_POWER_CUTS` says how many, `cargo xtask gate phase2 --full`: 25). What is lost follows
//! from a seed that is printed and can be given (`ASTROMESH_POWER_SEED`).

mod updates;

use astromesh_proto::update::{Outcome, Step, UpdateAnswer};
use astromesh_qemu::Provider;
use astromesh_qemu::aftermath::{self, Found, Judge, mixed};
use astromesh_qemu::node::{Node, PROVIDER_INSIDE, PROVIDER_NAME};
use astromesh_qemu::release::Release;
use astromesh_qemu::write_log::WriteLog;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use updates::{
    KEPT, Operate as _, Registry, Result, Station, apply_request, healthy_node, put_aside, still_keeps,
};

/// A boot and an update of a stand-in, on a busy emulated machine.
const SOON: Duration = Duration::from_secs(300);

/// A node with data, on the old release, and a registry with a new one.
struct Bench {
    registry: Registry,
    station: Station,
    new: &'static Release,
    /// What the real runtime asks: with it, the releases are real ones.
    provider: Option<Provider>,
}

impl Bench {
    /// The stand-in, which goes on from where it was healthy.
    fn new() -> Result<(Self, Node)> {
        let (registry, station, node) = healthy_node("patient", patient)?;
        let new = &updates::updates().healthy;
        registry.push(new)?;
        Ok((Self { registry, station, new, provider: None }, node))
    }

    /// The real runtime, booted. On the disk of a real release the data lies already.
    fn real() -> Result<(Self, Node)> {
        let registry = Registry::start()?;
        let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
        let mut station = Station::real(&registry, &provider)?;
        patient(&mut station);
        let new = &updates::updates().real_next;
        registry.push(new)?;
        let bench = Self { registry, station, new, provider: Some(provider) };
        let node = bench.on()?;
        node.wait_healthy_on(&bench.station.first(), SOON)?;
        Ok((bench, node))
    }

    fn on(&self) -> Result<Node> {
        self.station.switch_on_with(|nic| {
            let nic = self.registry.open(nic);
            match &self.provider {
                None => nic,
                Some(provider) => nic.reach_loopback(PROVIDER_INSIDE, provider.port()),
            }
        })
    }

    /// After a cut: switched on cold, with nobody there. An update that had begun goes on by itself to its end; the
    /// data is there; what is on the disk is whole. Returns whether it had begun.
    fn settles(&self) -> Result<bool> {
        let (old, new) = (self.station.first(), self.new);
        let mut node = self.on()?;
        let deadline = Instant::now() + SOON;
        let begun = loop {
            match node.state() {
                Ok(state) => break !state.attempts.is_empty(),
                Err(error) if Instant::now() > deadline || !node.vm.is_running() => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        if begun {
            node.wait_healthy_on(new, SOON)?;
            node.wait_outcome(Outcome::Kept, SOON)?;
        } else {
            node.wait_healthy_on(&old, SOON)?;
        }
        if let Some(provider) = &self.provider {
            let nonce = "c0ffee0123456789";
            let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
            assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");
            node.vm.kill();
            self.station.assert_data()?;
        } else {
            still_keeps(&node, KEPT)?;
            node.vm.kill();
        }
        // Power that fails in the middle of a rename on FAT can leave both names for one file: the one with a count
        // beside the one that is kept (docs/decisions/019).
        let mut names = self.station.slots().uki_names()?;
        if begun {
            names.retain(|name| !name.starts_with(&format!("astromesh_{}+", new.version)));
        }
        assert!(self.station.slots().has(&old)?, "the old release is whole");
        if begun {
            assert_eq!(names, [old.uki_name(), new.uki_name()]);
            assert!(self.station.slots().has(new)?, "the new release is whole");
        } else {
            assert_eq!(names, [old.uki_name()]);
        }
        Ok(begun)
    }
}

/// Time to cut in: fetching takes some seconds, and a release is not kept the moment it is healthy.
fn patient(station: &mut Station) {
    let policy = &mut station.setup.config["update"];
    (policy["maxBytesPerSecond"], policy["blessAfterSeconds"]) = (6_000_000.into(), 4.into());
}

/// Begins the update, and cuts the power at the first progress for which `now` holds.
fn cut_while_told(now: impl Fn(Step, u64, u64) -> bool) -> Result {
    let (bench, mut node) = Bench::new()?;
    let (cut, plug) = (Cell::new(false), node.vm.plug());
    // The answer never comes: the connection ends with the machine.
    let answer = node.update_telling(apply_request("0.2.0"), &mut |step, done, total| {
        if !cut.get() && now(step, done, total) {
            cut.set(true);
            plug.pull();
        }
    });
    assert!(cut.get(), "the moment came: {answer:?}");
    node.vm.kill();
    drop(node);
    assert!(bench.settles()?, "it had begun");
    Ok(())
}

/// Begins the update, and cuts the power as soon as `now` holds of the disk or of the machine.
fn cut_when(now: impl Fn(&Bench, &Node) -> bool) -> Result {
    let (bench, mut node) = Bench::new()?;
    match node.update(apply_request("0.2.0"))? {
        UpdateAnswer::Done(_) => {}
        other => return Err(format!("not applied: {other:?}").into()),
    }
    let deadline = Instant::now() + SOON;
    while !now(&bench, &node) {
        assert!(Instant::now() < deadline, "the moment came\n{}", node.vm.serial().tail());
        std::thread::sleep(Duration::from_millis(2));
    }
    node.vm.kill();
    drop(node);
    assert!(bench.settles()?, "it had begun");
    Ok(())
}

/// The same while the node still answers the question: the disk is watched from another thread.
fn cut_while_the_disk(
    (bench, mut node): (Bench, Node),
    shows: impl Fn(&Station, &Release) -> bool + Send,
) -> Result {
    let (new, plug) = (bench.new, node.vm.plug());
    let seen = std::thread::scope(|scope| {
        let (station, shows) = (&bench.station, shows);
        let watch = scope.spawn(move || {
            let deadline = Instant::now() + SOON;
            while Instant::now() < deadline {
                if shows(station, new) {
                    plug.pull();
                    return true;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            false
        });
        let _ = node.update(apply_request("0.2.0"));
        watch.join().expect("the watch does not panic")
    });
    assert!(seen, "the moment came");
    node.vm.kill();
    drop(node);
    assert!(bench.settles()?, "it had begun");
    Ok(())
}

#[test]
fn power_fails_at_the_first_bytes_that_are_fetched() -> Result {
    cut_while_told(|step, done, _| step == Step::Fetch && done > 0)
}

#[test]
fn power_fails_in_the_middle_of_fetching() -> Result {
    cut_while_told(|step, done, total| step == Step::Fetch && done > total / 2)
}

#[test]
fn power_fails_when_everything_is_staged_and_the_installer_begins() -> Result {
    cut_while_told(|step, _, _| step == Step::Install)
}

#[test]
fn power_fails_while_the_idle_slot_is_being_filled() -> Result {
    cut_while_the_disk(Bench::new()?, |station, _| station.slots().starts_in_the_idle_slot().unwrap_or(false))
}

/// The same with the real runtime, from the real release to the next.
#[test]
fn power_fails_while_the_idle_slot_is_being_filled_with_the_real_runtime() -> Result {
    let filling = |station: &Station, _: &Release| station.slots().starts_in_the_idle_slot().unwrap_or(false);
    cut_while_the_disk(Bench::real()?, filling)
}

#[test]
fn power_fails_when_the_slot_has_its_label_and_there_is_no_boot_entry_yet() -> Result {
    cut_while_the_disk(Bench::new()?, |station, new| {
        let label = format!("root_{}", new.version);
        station.slots().labels().is_ok_and(|labels| labels.contains(&label))
    })
}

#[test]
fn power_fails_when_the_boot_entry_is_there() -> Result {
    cut_while_the_disk(Bench::new()?, |station, new| {
        let name = new.trial_name(3, 0);
        station.slots().uki_names().is_ok_and(|names| names.contains(&name))
    })
}

#[test]
fn power_fails_while_the_node_goes_down_for_its_first_start() -> Result {
    cut_when(|_, _| true)
}

#[test]
fn power_fails_when_the_boot_loader_has_counted() -> Result {
    cut_when(|bench, _| {
        let name = updates::updates().healthy.trial_name(2, 1);
        bench.station.slots().uki_names().is_ok_and(|names| names.contains(&name))
    })
}

#[test]
fn power_fails_when_the_new_release_is_healthy_and_not_kept_yet() -> Result {
    cut_when(|_, node| {
        let new = &updates::updates().healthy.root_hash;
        node.status().is_ok_and(|status| status.healthy && status.root_hash == *new)
    })
}

#[test]
fn power_fails_when_the_entry_has_just_been_renamed() -> Result {
    cut_when(|bench, _| {
        let name = updates::updates().healthy.uki_name();
        bench.station.slots().uki_names().is_ok_and(|names| names.contains(&name))
    })
}

/// How many of the cuts are booted: `cargo xtask gate phase2 --full` boots 25.
const BOOTED: u64 = 3;

/// One update from its first byte to the blessing is written down, every write and every flush. Then power fails after
/// each write that the boot loader or the new root could depend on, in several ways of losing what no flush covers.
#[test]
fn after_any_write_power_may_lose_or_reorder_what_was_not_flushed_and_a_whole_release_is_left() -> Result {
    let from_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = from_environment("ASTROMESH_POWER_SEED").unwrap_or_else(|| mixed(now.as_secs()) >> 16);
    let booted = from_environment("ASTROMESH_POWER_CUTS").unwrap_or(BOOTED);
    assert!(booted > 0, "ASTROMESH_POWER_CUTS=0 would show nothing");
    println!("ASTROMESH_POWER_SEED={seed}");

    let (registry, mut station, snapshot) = put_aside("patient", patient)?;
    let (old, new) = (station.first(), &updates::updates().healthy);
    registry.push(new)?;
    let recording = station.record()?;
    let mut node = station.go_on(&snapshot, |nic| registry.open(nic))?;
    node.applied(&new.version)?;
    node.wait_healthy_on(new, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    still_keeps(&node, KEPT)?;
    node.vm.kill();
    drop(node);

    let log = WriteLog::read(&recording.log)?;
    let survey = recording.survey(&log, &Judge::new(&old, new)?, seed)?;
    println!(
        "{} events; {} cuts looked at, {} of them lost writes: {:?}",
        log.events().len(),
        survey.cuts,
        survey.lost,
        survey.found
    );
    assert!(
        survey.faults.is_empty(),
        "{} faults: {:#?}",
        survey.faults.len(),
        &survey.faults[..10.min(survey.faults.len())]
    );
    assert!(survey.cuts >= 300 && survey.lost >= 100, "too little was written or lost to show anything");
    assert_eq!(
        survey.found.keys().copied().collect::<Vec<_>>(),
        [Found::Nothing, Found::OnTrial, Found::Kept]
    );

    // A sample, spread over the whole time, is booted: with what else was on the way to /var.
    let mut bench = Bench { registry, station, new, provider: None };
    let events = log.events().len() as u64;
    for number in 0..booted {
        let at = events * number / booted + mixed(seed ^ number) % (events / booted).max(1);
        let cut = aftermath::cut(&log, usize::try_from(at)?, 2, seed);
        println!("booted: the cut after {at} events");
        bench.station.restore(&recording, &log, &cut)?;
        bench.settles().map_err(|error| format!("the cut after {at} events, seed {seed}: {error}"))?;
    }
    Ok(())
}
