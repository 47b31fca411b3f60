//! Gate of phase 2, power cuts: an update whose power fails at any moment ends on a healthy release, with every byte of
//! the agents' data, and without a person.
//!
//! The machine is killed, nothing is flushed, and switched on again cold. Named steps are told apart by facts outside of the
//! guest: what the node said it is doing, and bytes on its disk. Random moments come from a seed that is printed;
//! `ASTROMESH_POWER_SEED` replays one, `ASTROMESH_POWER_CUTS` says how many (`cargo xtask gate phase2 --full`: 25).

mod updates;

use astromesh_proto::update::{Outcome, Step, UpdateAnswer};
use astromesh_qemu::Provider;
use astromesh_qemu::node::{Node, PROVIDER_INSIDE, PROVIDER_NAME};
use astromesh_qemu::release::Release;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use updates::{KEPT, Operate as _, Registry, Result, Station, apply_request, healthy_node, still_keeps};

/// A boot and an update of a stand-in, on a busy emulated machine.
const SOON: Duration = Duration::from_secs(300);

/// How long an undisturbed update of a stand-in takes, from the question to the old release's last moment, and until the
/// new one is kept: where random cuts fall.
const AN_UPDATE: Duration = Duration::from_secs(30);

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

    /// After a cut: switched on cold, with nobody there. An update that had begun goes on by itself to its end; the data is
    /// there; what is on the disk is whole. Returns whether it had begun.
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
        // Power that fails in the middle of a rename on FAT can leave both names for one file: the one with a count beside
        // the one that is kept (docs/decisions/019).
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

#[test]
fn power_fails_at_random_moments() -> Result {
    let from_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let one = from_environment("ASTROMESH_POWER_SEED");
    let cuts = one.map_or_else(|| from_environment("ASTROMESH_POWER_CUTS").unwrap_or(5), |_| 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = now.as_secs() ^ u64::from(now.subsec_nanos()) << 32;
    for number in 0..cuts {
        let seed = one.unwrap_or_else(|| mixed(now.wrapping_add(number)) >> 16);
        let after = Duration::from_millis(mixed(seed) % u64::try_from(AN_UPDATE.as_millis())?);
        println!("cut {} of {cuts}: ASTROMESH_POWER_SEED={seed}, after {} ms", number + 1, after.as_millis());
        cut_after(after).map_err(|error| format!("ASTROMESH_POWER_SEED={seed}: {error}"))?;
    }
    Ok(())
}

/// splitmix64.
fn mixed(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn cut_after(after: Duration) -> Result {
    let (bench, mut node) = Bench::new()?;
    let plug = node.vm.plug();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(after.saturating_sub(began.elapsed()));
            plug.pull();
        });
        // Its answer may come, or the end of the connection; then the node goes down, boots, is kept, until the cut.
        let _ = node.update(apply_request("0.2.0"));
    });
    node.vm.kill();
    drop(node);
    bench.settles().map(drop)
}
