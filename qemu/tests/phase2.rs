//! Gate of phase 2: updates that cannot brick a node. A signed release is fetched from a registry by the node itself,
//! verified, written into the idle slot by `systemd-sysupdate`, started by firmware and boot loader, and kept only once
//! health has held. Whatever goes wrong ends on a healthy release with every byte of the agents' data.
//!
//! What is asserted are facts: the root hash in the device-mapper's table, names and bytes on the disk after the power
//! was cut, resets as QEMU counts them, the digest of the data as this test computes it. Most tests boot the stand-in
//! for the runtime (`qemu/stand-in`); the main path and the agent that never becomes healthy run the real one too. Run
//! by `cargo xtask gate phase2`.

mod updates;

use astromesh_proto::control::Request;
use astromesh_proto::update::{Origin, Outcome, Step, UpdateAnswer, UpdateRequest};
use astromesh_qemu::node::{API_PORT, CONTROL_PORT, Node, PROVIDER_INSIDE, PROVIDER_NAME};
use astromesh_qemu::release::Release;
use astromesh_qemu::slots::Slots;
use astromesh_qemu::{ExitReason, Nic, Provider, http};
use astromesh_rootfs::check::Left;
use astromeshctl::client::Client;
use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use updates::{
    KEPT, Operate as _, Registry, Result, Station, apply_request, keep_data, old, put_aside, still_keeps,
};

/// A boot of a stand-in, or an update of one, on a busy emulated machine.
const SOON: Duration = Duration::from_secs(300);

/// What PID 1 says when health begins.
const HEALTHY: &str = "init: healthy after";

/// Three failed boots of half a minute each, and what lies between them.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(900);

#[test]
fn a_signed_release_is_installed_started_and_kept_and_the_data_is_there() -> Result {
    let new = &updates::updates().healthy;
    let registry = Registry::start()?;
    registry.push(new)?;
    let mut station = Station::new()?;
    station.follow(&registry);
    let mut node = station.switch_on_with(|nic| registry.open(nic))?;
    node.wait_healthy_on(&old(), SOON)?;
    keep_data(&node, KEPT)?;
    node.applied(&new.version)?;
    node.wait_healthy_on(new, SOON)?;
    let state = node.wait_outcome(Outcome::Kept, SOON)?;
    assert_eq!(node.vm.resets().len(), 1, "one restart, and no other");
    still_keeps(&node, KEPT)?;
    assert_eq!(
        state.slots.and_then(|slots| slots.floor).map(|floor| floor.to_string()),
        Some(new.version.clone())
    );
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), new.uki_name()]);
    assert!(station.slots().has(new)? && station.slots().has(&old())?);
    station.assert_sound(Left::Whole)
}

/// The real runtime, from the real release to the same with one file of one wheel changed: only what changed is
/// fetched.
#[test]
fn the_real_runtime_is_updated_answers_and_little_of_it_is_fetched() -> Result {
    let (now, next) = (&updates::updates().real, &updates::updates().real_next);
    let registry = Registry::start()?;
    registry.push(next)?;
    let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
    let station = Station::real(&registry, &provider)?;
    let card = |nic| registry.open(nic).reach_loopback(PROVIDER_INSIDE, provider.port());
    let began = Instant::now();
    let mut node = station.switch_on_with(card)?;
    // For the clock alone the console is asked: a question to a machine that is being reset waits for its own time
    // limit.
    let seen = node.vm.serial().expect_after(0, HEALTHY, SOON)?;
    let boot = began.elapsed();
    node.wait_healthy_on(now, SOON)?;
    // What the same node takes to start over without an update: an emulator that goes on is slower than a fresh one.
    node.request(&Request::Reboot)?;
    let began = Instant::now();
    let seen = node.vm.serial().expect_after(seen, HEALTHY, SOON)?;
    let reboot = began.elapsed();
    node.wait_healthy_on(now, SOON)?;
    // When everything is fetched, and while the installer works.
    let peak = Cell::new(0);
    let answer = node.update_telling(apply_request(&next.version), &mut |step, done, _| {
        if step == Step::Install && done == 0 {
            peak.set(node.state().map_or(0, |state| state.peak_kib));
        }
    })?;
    assert!(matches!(answer, UpdateAnswer::Done(_)), "{answer:?}");
    let began = Instant::now();
    node.vm.serial().expect_after(seen, HEALTHY, SOON)?;
    let down = began.elapsed();
    node.wait_healthy_on(next, SOON)?;
    println!(
        "downtime {:.2} s, a reboot without an update {:.2} s, a first boot {:.2} s",
        down.as_secs_f32(),
        reboot.as_secs_f32(),
        boot.as_secs_f32()
    );
    println!("the updater had at most {} KiB resident", peak.get());
    assert!((1..=24 * 1024).contains(&peak.get()), "{} KiB", peak.get());
    let state = node.wait_outcome(Outcome::Kept, SOON)?;
    let attempt = &state.attempts[0];
    let (moved, size) = (attempt.moved, attempt.release.size);
    // What left the registry counts, not what the node says; with it, manifests and the signature.
    let sent = registry.bytes_sent();
    println!("{sent} of {size} bytes were sent, {} %; the node says {moved}", sent * 100 / size);
    assert!(sent > 0 && sent * 100 <= size * 15, "{sent} of {size}");
    assert!(moved <= sent && sent - moved <= 256 << 10, "{moved} are told, {sent} were sent");
    let nonce = "5eed0123456789ab";
    let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
    assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");
    node.vm.kill();
    assert!(station.slots().has(next)? && station.slots().has(now)?);
    station.assert_data()
}

/// A node on the old release, healthy, that follows a registry, with its data kept.
struct Updating {
    registry: Registry,
    station: Station,
    node: Node,
    /// The disk before it was switched on.
    before: Slots,
}

impl Updating {
    /// Goes on from where such a node was put aside.
    fn start() -> Result<Self> {
        let (registry, station, snapshot) = put_aside("following", |_| ())?;
        let before = station.remember()?;
        let node = station.go_on(&snapshot, |nic| registry.open(nic))?;
        Ok(Self { registry, station, node, before })
    }

    fn start_with(change: impl FnOnce(&mut Station)) -> Result<Self> {
        Self::start_on(Station::new()?, change)
    }

    fn start_on(mut station: Station, change: impl FnOnce(&mut Station)) -> Result<Self> {
        let registry = Registry::start()?;
        station.follow(&registry);
        change(&mut station);
        let before = station.remember()?;
        let node = station.switch_on_with(|nic| registry.open(nic))?;
        node.wait_healthy_on(&station.first(), SOON)?;
        keep_data(&node, KEPT)?;
        Ok(Self { registry, station, node, before })
    }

    /// Every byte of both slots and of the boot partition's files is as it was, and the data is there.
    fn assert_untouched(mut self) -> Result {
        assert_eq!(self.node.status()?.root_hash, old().root_hash);
        still_keeps(&self.node, KEPT)?;
        assert_eq!(self.node.vm.resets(), []);
        self.node.vm.kill();
        assert_eq!(self.station.slots().difference(&self.before)?, None);
        Ok(())
    }
}

#[test]
fn a_release_on_a_drive_is_installed_where_no_network_leads_to_one() -> Result {
    let new = &updates::updates().healthy;
    let registry = Registry::start()?;
    registry.push(new)?;
    let drive = registry.drive(&new.version)?;
    let mut station = Station::new()?;
    station.follow(&registry);
    station.setup.config["update"].as_object_mut().ok_or("no update section")?.remove("image");
    let node = station.switch_on_with_drive(&drive)?;
    node.wait_healthy_on(&old(), SOON)?;
    keep_data(&node, KEPT)?;
    let apply = |tag: &str| UpdateRequest::Apply {
        origin: Origin::Drive(tag.to_owned()),
        dry_run: false,
        restart: true,
    };
    // Twins: no such tag there, and no drive with a registry's name.
    assert!(matches!(node.update(apply("0.3.0"))?, UpdateAnswer::Refused(_)));
    assert!(node.refused(&new.version)?.contains("only a drive"));
    assert!(matches!(node.update(apply(&new.version))?, UpdateAnswer::Done(_)));
    node.wait_healthy_on(new, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    still_keeps(&node, KEPT)
}

/// The command that operators have, on a node: each of its five updates' commands.
#[test]
fn the_operators_command_checks_applies_tells_and_goes_back() -> Result {
    let new = &updates::updates().healthy;
    let updating = Updating::start_with(|station| {
        station.setup.config["update"]["channel"] = new.version.clone().into();
    })?;
    let home = tempfile::tempdir()?;
    let credentials = &updating.station.setup.credentials;
    for (name, pem) in [
        ("ca", &credentials.ca_pem),
        ("cert", &credentials.client_cert_pem),
        ("key", &credentials.client_key_pem),
    ] {
        std::fs::write(home.path().join(name), pem)?;
    }
    let endpoint = updating.node.vm.host_address(CONTROL_PORT)?.to_string();
    let run = |arguments: &[&str]| -> Result<(Option<i32>, String, String)> {
        let program = std::env::var("ASTROMESH_CTL").expect("`cargo xtask gate phase2` names the command");
        let mut command = Command::new(program);
        command.current_dir(home.path()).args(["--endpoint", &endpoint, "--node", &credentials.node]);
        command.args(["--ca", "ca", "--cert", "cert", "--key", "key", "update"]).args(arguments);
        let output = command.stdin(Stdio::null()).output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let (code, _, said) = run(&["check"])?;
    assert!(code == Some(1) && said.contains("is not there"), "{code:?} {said}");
    updating.registry.push(new)?;
    let (code, told, said) = run(&["check"])?;
    assert!(code == Some(0) && told.contains(&new.root_hash), "{code:?} {told} {said}");
    let (code, told, _) = run(&["apply", "--dry-run"])?;
    assert!(code == Some(0) && told.contains(&new.root_hash), "{told}");
    assert!(run(&["history"])?.1.contains("no update was ever tried"));
    let (code, told, said) = run(&["apply"])?;
    assert!(code == Some(0) && told.contains("is installed"), "{code:?} {told} {said}");
    updating.node.wait_healthy_on(new, SOON)?;
    updating.node.wait_outcome(Outcome::Kept, SOON)?;
    let (code, told, _) = run(&["status", "-o", "json"])?;
    let UpdateAnswer::State(state) = serde_json::from_str(&told)? else { return Err(told.into()) };
    let slots = state.slots.ok_or("the slots are not told")?;
    assert_eq!((code, slots.running.to_string()), (Some(0), new.version.clone()));
    assert!(run(&["history"])?.1.contains("kept"));
    let (code, told, said) = run(&["rollback"])?;
    assert!(code == Some(0) && told.contains("other slot"), "{code:?} {told} {said}");
    updating.node.wait_healthy_on(&old(), SOON)?;
    Ok(())
}

#[test]
fn what_another_key_signed_is_refused_and_nothing_is_written() -> Result {
    let updating = Updating::start()?;
    let (stranger, _) = updates::desk::pair();
    let new = &updates::updates().healthy;
    updating.registry.push_signed(new, &stranger)?;
    let reason = updating.node.refused(&new.version)?;
    assert!(reason.contains("not signed by a key"), "{reason}");
    updating.assert_untouched()
}

/// The twin: the same push, on a node whose `init` does not look at who signed.
#[test]
fn twin_what_another_key_signed_is_installed_by_an_init_that_checks_no_signature() -> Result {
    let (stranger, _) = updates::desk::pair();
    let new = &updates::updates().healthy;
    let updating = Updating::start_on(Station::of(&updates::updates().believing)?, |_| ())?;
    updating.registry.push_signed(new, &stranger)?;
    let Updating { mut node, station, before, .. } = updating;
    node.applied(&new.version)?;
    node.wait_healthy_on(new, SOON)?;
    node.vm.kill();
    assert!(station.slots().difference(&before)?.is_some(), "what was written is seen");
    Ok(())
}

/// The installer believes nobody who fetched: here the process that fetches takes every signature, and the installer
/// refuses.
#[test]
fn what_another_key_signed_is_refused_by_the_installer_alone_too() -> Result {
    let (stranger, _) = updates::desk::pair();
    let new = &updates::updates().healthy;
    let updating = Updating::start_on(Station::of(&updates::updates().credulous)?, |_| ())?;
    updating.registry.push_signed(new, &stranger)?;
    let reason = updating.node.refused(&new.version)?;
    assert!(reason.contains("what is staged is not signed by a key of the machine-config"), "{reason}");
    updating.assert_untouched()
}

#[test]
fn a_release_that_has_expired_is_refused_and_nothing_is_written() -> Result {
    let updating = Updating::start()?;
    let new = &updates::updates().healthy;
    // The guest's clock is as far behind as this run of the gates is old, since its node was put aside then.
    updating.registry.push_until(new, -2 * 3600)?;
    let reason = updating.node.refused(&new.version)?;
    assert!(reason.contains("expired"), "{reason}");
    // The twin: the same with an end that is to come.
    updating.registry.push_until(new, 24 * 3600)?;
    let check = UpdateRequest::Check(Origin::Tag(new.version.clone()));
    let answer = updating.node.update(check)?;
    assert!(matches!(answer, UpdateAnswer::Found(_)), "{answer:?}");
    updating.assert_untouched()
}

#[test]
fn a_release_whose_parts_do_not_belong_together_is_refused_before_anything_is_written() -> Result {
    let updating = Updating::start()?;
    for (wrong, what) in
        [(&updates::updates().swapped, "hash tree of another"), (&updates::updates().corrupt, "a wrong byte")]
    {
        updating.registry.push(wrong)?;
        let reason = updating.node.refused(&wrong.version)?;
        assert!(reason.contains("root hash"), "{what}: {reason}");
    }
    updating.assert_untouched()
}

#[test]
fn a_release_older_than_the_floor_is_refused_even_after_a_rollback() -> Result {
    let (new, newer) = (&updates::updates().healthy, &updates::updates().newer);
    let updating = Updating::start()?;
    let node = &updating.node;
    updating.registry.push(new)?;
    updating.registry.push(newer)?;
    assert!(node.refused(&newer.version.replace('3', "4"))?.contains("not there"), "no such tag");
    node.applied(&newer.version)?;
    node.wait_healthy_on(newer, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    assert!(node.refused(&new.version)?.contains("older than 0.3.0, which runs"));
    assert!(node.refused(&newer.version)?.contains("runs already"));

    // Back to the other slot, at once; what may be installed is what may have been before.
    assert!(matches!(node.update(UpdateRequest::Rollback)?, UpdateAnswer::Done(_)));
    node.wait_healthy_on(&old(), SOON)?;
    assert_eq!(node.vm.resets().len(), 2);
    let reason = node.refused(&new.version)?;
    assert!(reason.contains("nothing older than 0.3.0"), "{reason}");
    // There is no third slot to go back to.
    let UpdateAnswer::Refused(reason) = node.update(UpdateRequest::Rollback)? else {
        return Err("went back".into());
    };
    assert!(reason.contains("no tries left"), "{reason}");
    // The floor itself may be installed again.
    node.applied(&newer.version)?;
    node.wait_healthy_on(newer, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    still_keeps(node, KEPT)
}

#[test]
fn a_var_that_is_too_small_is_said_before_anything_is_fetched() -> Result {
    let registry = Registry::start()?;
    registry.push(&updates::updates().healthy)?;
    let mut station = Station::of_its_own_size(&updates::updates().base)?;
    station.follow(&registry);
    let before = station.remember()?;
    let mut node = station.switch_on_with(|nic| registry.open(nic))?;
    node.wait_healthy_on(&old(), SOON)?;
    let reason = node.refused("0.2.0")?;
    assert!(reason.contains("bytes free"), "{reason}");
    assert_eq!(node.state()?.attempts[0].moved, 0);
    node.vm.kill();
    assert_eq!(station.slots().difference(&before)?, None);
    Ok(())
}

/// An agent can't keep updates away: a part of `/var` is the node's own. Twin: with nothing reserved it would be refused, as it
/// is on the disk that is too small above.
#[test]
fn a_var_that_the_agent_has_filled_takes_an_update_all_the_same() -> Result {
    let new = &updates::updates().healthy;
    let station = Station::new()?;
    station.enlarge(1 << 30)?;
    let mut updating = Updating::start_on(station, |_| ())?;
    updating.registry.push(new)?;
    let node = &mut updating.node;
    // As much as it may write, which is less than that.
    let filled = http::get(node.vm.host_address(API_PORT)?, "/probe/keep/1024/7", SOON);
    let free = node.doctor()?.into_iter().find(|check| check.name == "space").ok_or("no check of space")?;
    assert!(!free.ok && free.detail.starts_with("0 %"), "{free:?} {filled:?}");
    node.applied(&new.version)?;
    node.wait_healthy_on(new, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    Ok(())
}

#[test]
fn a_boot_partition_without_room_is_said_and_nothing_is_written() -> Result {
    let new = &updates::updates().healthy;
    let updating = Updating::start_with(|station| {
        let filler = vec![7; 80 << 20];
        station.slots().write_file("filler", &filler).expect("the boot partition takes a file");
    })?;
    updating.registry.push(new)?;
    let reason = updating.node.refused(&new.version)?;
    assert!(reason.contains("kernel image has"), "{reason}");
    updating.assert_untouched()
}

#[test]
fn a_registry_that_dies_in_the_middle_is_waited_for_and_the_update_goes_on() -> Result {
    let new = &updates::updates().healthy;
    // Slow enough to be caught in the middle.
    let mut updating = Updating::start_with(|station| {
        station.setup.config["update"]["maxBytesPerSecond"] = 3_000_000.into();
    })?;
    updating.registry.push(new)?;
    let (node, door) = (&updating.node, updating.registry.door());
    let mut died = false;
    let answer = node.update_telling(apply_request(&new.version), &mut |step, done, _| {
        if step == Step::Fetch && done > 1_000_000 && !died {
            died = true;
            door.kill();
            std::thread::sleep(Duration::from_secs(3));
            door.again();
        }
    })?;
    assert!(died && matches!(answer, UpdateAnswer::Done(_)), "{answer:?}");
    node.wait_healthy_on(new, SOON)?;
    still_keeps(node, KEPT)
}

#[test]
fn a_release_whose_agent_never_becomes_healthy_is_rolled_back_by_nobody_and_not_tried_again() -> Result {
    let newer = &updates::updates().newer;
    let (registry, station, mut node) = rolls_back(&updates::updates().unhealthy)?;
    // It looks again each minute, at the registry that still has the bad release as its newest: another attempt would
    // be the next reset.
    let asked = registry.manifests_asked();
    let deadline = Instant::now() + SOON;
    while registry.manifests_asked() == asked {
        assert!(Instant::now() < deadline, "the registry was not asked again\n{}", node.vm.serial().tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(node.vm.resets().len(), 4, "one into it, three out of it");
    assert_eq!(node.state()?.attempts.len(), 1);
    // The slot that failed takes the next release.
    registry.push(newer)?;
    node.applied(&newer.version)?;
    node.wait_healthy_on(newer, SOON)?;
    node.wait_outcome(Outcome::Kept, SOON)?;
    assert_eq!(node.vm.resets().len(), 5);
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), newer.uki_name()]);
    assert!(station.slots().has(newer)?);
    Ok(())
}

#[test]
fn a_release_whose_runtime_can_not_start_is_rolled_back() -> Result {
    let bad = &updates::updates().crash;
    let (_registry, station, mut node) = rolls_back(bad)?;
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), bad.trial_name(0, 3)]);
    assert!(station.slots().has(&old())?);
    Ok(())
}

/// The node finds `bad` by itself, tries it three times, and goes on with the old release, which it then keeps.
fn rolls_back(bad: &Release) -> Result<(Registry, Station, Node)> {
    let registry = Registry::start()?;
    let mut station = Station::new()?;
    station.follow(&registry);
    let node = goes_back(&registry, &mut station, |nic| registry.open(nic), bad)?;
    assert_eq!(node.vm.resets().len(), 4, "one into it, three out of it");
    assert_eq!(node.state()?.attempts.len(), 1);
    Ok((registry, station, node))
}

/// Switches a node on that finds `bad` by itself; healthy, it is on its first release again.
fn goes_back(
    registry: &Registry,
    station: &mut Station,
    card: impl FnOnce(Nic) -> Nic,
    bad: &Release,
) -> Result<Node> {
    registry.push(bad)?;
    let policy = &mut station.setup.config["update"];
    (policy["mode"], policy["channel"], policy["checkEveryMinutes"]) =
        ("auto".into(), bad.version.clone().into(), 1.into());
    policy["healthyWithinSeconds"] = 30.into();
    let began = Instant::now();
    let node = station.switch_on_with(card)?;
    node.wait_resets(4, FALLS_BACK_WITHIN)?;
    node.wait_healthy_on(&station.first(), SOON)?;
    let seconds = began.elapsed().as_secs();
    println!(
        "healthy on the old release after {} reboots, {seconds} s from power on",
        node.vm.resets().len()
    );
    let state = node.wait_outcome(Outcome::RolledBack, SOON)?;
    assert_eq!(state.attempts.len(), 1);
    Ok(node)
}

/// The same with the real runtime: it answers, and no agent is loaded.
#[test]
fn the_real_runtime_without_its_agent_is_rolled_back_too_and_the_data_is_there() -> Result {
    let bad = &updates::updates().real_unhealthy;
    let registry = Registry::start()?;
    let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
    let mut station = Station::real(&registry, &provider)?;
    let card = |nic: Nic| registry.open(nic).reach_loopback(PROVIDER_INSIDE, provider.port());
    let mut node = goes_back(&registry, &mut station, card, bad)?;
    let nonce = "0ff1ce0123456789";
    let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
    assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");
    assert_eq!(node.vm.resets().len(), 4, "one into it, three out of it");
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [station.first().uki_name(), bad.trial_name(0, 3)]);
    assert!(station.slots().has(&station.first())?);
    station.assert_data()
}

/// The twin: the same release with an `init` that keeps whatever it runs. Nothing brings the old one back.
#[test]
fn twin_the_same_release_stays_where_keeping_needs_no_health() -> Result {
    let bad = &updates::updates().unhealthy_kept;
    let mut updating = Updating::start()?;
    updating.registry.push(bad)?;
    updating.node.applied(&bad.version)?;
    let state = updating.node.wait_outcome(Outcome::Kept, SOON)?;
    assert_eq!(state.attempts[0].release.root_hash, bad.root_hash);
    let status = updating.node.status()?;
    assert!(!status.healthy && status.root_hash == bad.root_hash, "{}", status.reason);
    updating.node.vm.kill();
    assert_eq!(updating.station.slots().uki_names()?, [old().uki_name(), bad.uki_name()]);
    Ok(())
}

/// A node on trial whose job for the drive hangs before health has held: why that failed, and whether the release is
/// blessed in the time that it takes otherwise.
fn hangs_while_on_trial(stuck: &Release) -> Result<(Option<String>, bool)> {
    let registry = Registry::start()?;
    let mut station = Station::new()?;
    station.follow(&registry);
    station.setup.config["update"]["blessAfterSeconds"] = 5.into();
    station.slots().install(stuck, &stuck.trial_name(3, 0))?;
    let mut node = station.switch_on()?;
    node.wait_healthy_on(stuck, SOON)?;
    let drive = Origin::Drive("0.3.0".to_owned());
    let client = Client::connect(&node.profile)?;
    let told = std::thread::scope(|scope| {
        let asked = scope.spawn(move || {
            client.update(
                UpdateRequest::Apply { origin: drive, dry_run: false, restart: true },
                &mut |_, _, _| (),
            )
        });
        // Blessed is what the boot partition says, and PID 1's timeline when it can be looked at.
        let deadline = Instant::now() + BLESSED_WITHIN;
        let mut blessed = false;
        while !blessed && Instant::now() < deadline {
            blessed = node.boot()?.iter().any(|stage| stage.name == "kept");
            std::thread::sleep(Duration::from_millis(200));
        }
        node.vm.kill();
        Ok::<_, Box<dyn std::error::Error>>((asked.join().ok().and_then(std::result::Result::ok), blessed))
    })?;
    let names = station.slots().uki_names()?;
    assert_eq!(names == [old().uki_name(), stuck.uki_name()], told.1, "{names:?}");
    let reason = match told.0 {
        Some(UpdateAnswer::Refused(reason)) => Some(reason),
        _ => None,
    };
    Ok((reason, told.1))
}

/// Fifteen seconds for the job that hangs, five until health has held, and room for a busy host.
const BLESSED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_job_that_hangs_is_killed_at_its_deadline_and_keeps_no_release_from_being_blessed() -> Result {
    let (reason, blessed) = hangs_while_on_trial(&updates::updates().stuck)?;
    let reason = reason.ok_or("no reason was given")?;
    assert!(blessed && reason.contains("killed"), "{reason}");
    Ok(())
}

#[test]
fn twin_without_its_deadline_the_same_job_keeps_the_release_from_being_blessed() -> Result {
    let (_, blessed) = hangs_while_on_trial(&updates::updates().stuck_for_ever)?;
    assert!(!blessed);
    Ok(())
}
