//! Gate of phase 2, what boot loader and firmware do: the newest release that has tries left is started; a release that
//! dies before it could say anything costs its three tries and nothing else, and then the one before it serves again,
//! with nobody there to help.
//!
//! Releases are put on the disk by this test while the machine is off, so nothing here depends on an updater. What is
//! asserted are facts: file names and bytes on the disk after the power was cut, resets as QEMU counts them and their
//! reasons, the root hash in the device-mapper's table. Run by `cargo xtask gate phase2`.

mod updates;

use astromesh_qemu::ExitReason;
use astromesh_qemu::release::{Came, Release};
use std::time::{Duration, Instant};
use updates::{Result, Station, old};

/// A cold boot of a stand-in takes about half a minute, emulated; this is for a busy machine.
const SOON: Duration = Duration::from_secs(240);
/// Three failed boots and a good one.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(600);

/// Names on the boot partition after the old release and `release` with so many tries left and done.
fn names(release: &Release, left: u32, done: u32) -> Vec<String> {
    // '+' sorts before '.', and the version before both.
    vec![old().uki_name(), release.trial_name(left, done)]
}

#[test]
fn the_newest_release_that_has_tries_left_is_started_and_the_try_is_counted_in_its_name() -> Result {
    let new = &updates::updates().healthy;
    let station = Station::new()?;
    station.slots().install(new, &new.trial_name(3, 0))?;
    assert!(station.slots().has(new)? && station.slots().has(&old())?);

    let began = Instant::now();
    let mut node = station.switch_on()?;
    let status = node.wait_healthy_on(new, SOON)?;
    println!("a cold UEFI boot of the stand-in is healthy after {} s", began.elapsed().as_secs());
    assert_eq!(status.root_hash, new.root_hash);
    assert_eq!(node.vm.resets(), []);
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, names(new, 2, 1));

    // Without a try left it is passed over, though it is newer and its slot is good.
    station.slots().rename_uki(&new.trial_name(2, 1), &new.trial_name(0, 3))?;
    let mut node = station.switch_on()?;
    node.wait_healthy_on(&old(), SOON)?;
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, names(new, 0, 3));

    // Blessed, it is started again, and nothing is counted any more.
    station.slots().rename_uki(&new.trial_name(0, 3), &new.uki_name())?;
    let mut node = station.switch_on()?;
    node.wait_healthy_on(new, SOON)?;
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), new.uki_name()]);
    Ok(())
}

/// `bad` on trial beside the old release: each of its three tries ends in a reset for `reason`, and then the old one is
/// healthy. The disk says the same, and that nothing of either release was changed.
fn falls_back(bad: &Release, reason: &ExitReason) -> Result {
    let station = Station::new()?;
    station.slots().install(bad, &bad.trial_name(3, 0))?;
    let began = Instant::now();
    let mut node = station.switch_on()?;
    node.wait_healthy_on(&old(), FALLS_BACK_WITHIN)?;
    println!(
        "the old release serves again after {} resets, {} s",
        node.vm.resets().len(),
        began.elapsed().as_secs()
    );
    assert_eq!(node.vm.resets(), [reason.clone(), reason.clone(), reason.clone()]);
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, names(bad, 0, 3));
    assert!(station.slots().has(bad)? && station.slots().has(&old())?);
    Ok(())
}

/// The twin: the same release, blessed. Nothing counts, so it is started again and again.
fn never_falls_back(bad: &Release, resets: usize) -> Result {
    let station = Station::new()?;
    station.slots().install(bad, &bad.uki_name())?;
    let mut node = station.switch_on()?;
    let came = node.wait_healthy_or_resets(&old(), resets, FALLS_BACK_WITHIN)?;
    assert!(matches!(came, Came::Resets(_)), "{came:?}");
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, [old().uki_name(), bad.uki_name()]);
    Ok(())
}

#[test]
fn a_release_whose_pid_1_dies_is_tried_three_times_and_then_the_old_one_serves() -> Result {
    falls_back(&updates::updates().panic, &ExitReason::GuestReset)
}

#[test]
fn without_a_counter_in_its_name_the_same_release_is_tried_for_ever() -> Result {
    never_falls_back(&updates::updates().panic, 5)
}

#[test]
fn a_release_that_hangs_before_it_has_a_root_is_ended_by_the_watchdog_three_times() -> Result {
    falls_back(&updates::updates().hang, &ExitReason::Watchdog)
}

#[test]
fn a_root_with_one_wrong_byte_restarts_the_machine_three_times_and_serves_nothing() -> Result {
    falls_back(&updates::updates().corrupt, &ExitReason::GuestReset)
}

#[test]
fn a_root_with_another_releases_hash_tree_restarts_the_machine_three_times() -> Result {
    falls_back(&updates::updates().swapped, &ExitReason::GuestReset)
}
