//! Gate of phase 2, what boot loader and firmware do: the newest release that has tries left is started; a release that
//! dies before it could say anything costs its three tries and nothing else, and then the one before it serves again,
//! with nobody there to help.
//!
//! Releases are put on the disk by this test while the machine is off, so nothing here depends on an updater. What is
//! asserted are facts: file names and bytes on the disk after the power was cut, resets as QEMU counts them and their
//! reasons, the root hash in the device-mapper's table. Run by `cargo xtask gate phase2`.

mod updates;

use astromesh_proto::control::Status;
use astromesh_qemu::node::{API_PORT, Node};
use astromesh_qemu::release::{Came, Release, kept};
use astromesh_qemu::{ExitReason, http};
use serde_json::Value;
use std::time::{Duration, Instant};
use updates::{Result, Station, old, updates};

/// A cold boot of a stand-in takes some ten seconds, emulated; this is for a busy machine.
const SOON: Duration = Duration::from_secs(240);
/// Three failed boots and a good one.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(600);

/// How long a machine is watched that does nothing, the first time and each time after: twice as long as a good boot
/// takes, and then as long as shows that it stands where it stood.
const NOTHING_FOR: [Duration; 3] = [Duration::from_secs(20), Duration::from_secs(5), Duration::from_secs(5)];

/// Names on the boot partition after the old release and `release` with so many tries left and done.
fn names(release: &Release, left: u32, done: u32) -> Vec<String> {
    // '+' sorts before '.', and the version before both.
    vec![old().uki_name(), release.trial_name(left, done)]
}

#[test]
fn the_newest_release_that_has_tries_left_is_started_and_the_try_is_counted_in_its_name() -> Result {
    let new = &updates().healthy;
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
    falls_back(&updates().panic, &ExitReason::GuestReset)
}

#[test]
fn without_a_counter_in_its_name_the_same_release_is_tried_for_ever() -> Result {
    never_falls_back(&updates().panic, 5)
}

#[test]
fn a_release_that_hangs_before_it_has_a_root_is_ended_by_the_watchdog_three_times() -> Result {
    falls_back(&updates().hang, &ExitReason::Watchdog)
}

#[test]
fn a_root_with_one_wrong_byte_restarts_the_machine_three_times_and_serves_nothing() -> Result {
    falls_back(&updates().corrupt, &ExitReason::GuestReset)
}

#[test]
fn a_root_with_another_releases_hash_tree_restarts_the_machine_three_times() -> Result {
    falls_back(&updates().swapped, &ExitReason::GuestReset)
}

/// The release with its UKI cut in half on the boot partition: firmware refuses to load it.
fn with_half_an_image() -> Result<Station> {
    let new = &updates().healthy;
    let station = Station::new()?;
    station.slots().install(new, &new.trial_name(3, 0))?;
    let place = format!("EFI/Linux/{}", new.trial_name(3, 0));
    let image = station.slots().read_file(&place)?;
    station.slots().write_file(&place, &image[..image.len() / 2])?;
    Ok(station)
}

#[test]
fn an_image_that_firmware_refuses_costs_three_restarts() -> Result {
    let station = with_half_an_image()?;
    three_restarts(&station, &updates().healthy, &ExitReason::GuestReset)
}

/// The machine reboots three times by itself, for `why`, then the old release serves; nothing of the new one is left to try.
fn three_restarts(station: &Station, new: &Release, why: &ExitReason) -> Result {
    let mut node = station.switch_on()?;
    node.wait_healthy_on(&old(), FALLS_BACK_WITHIN)?;
    assert_eq!(node.vm.resets(), [why; 3].map(Clone::clone));
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, names(new, 0, 3));
    Ok(())
}

/// Nobody resets the machine by itself: neither boot loader nor firmware, however long they are given. Each time
/// somebody does, a try less is left, and at last the old release serves.
fn waits_for_a_reset_three_times(station: &Station, mut node: Node, seen: &str) -> Result {
    let mut mark = 0;
    for nothing in NOTHING_FOR {
        // The console says when there is nothing more to wait for; that no reset and no end follows is QEMU's word.
        // (Other events may: firmware sets the clock, and QEMU tells of it late.)
        mark = node.vm.serial().expect_after(mark, seen, SOON)?;
        let before = node.vm.resets();
        std::thread::sleep(nothing);
        assert!(node.vm.is_running(), "{:?}", node.vm.events());
        assert_eq!(node.vm.resets(), before, "{:?}", node.vm.events());
        node.vm.reset()?;
    }
    node.wait_healthy_on(&old(), SOON)?;
    assert_eq!(node.vm.resets(), [const { ExitReason::HostReset }; 3]);
    node.vm.kill();
    assert_eq!(station.slots().uki_names()?, names(&updates().healthy, 0, 3));
    Ok(())
}

/// The twin, and what it was like before: firmware starts the boot loader itself, which gives the error back to it.
#[test]
fn without_preboot_an_image_that_firmware_refuses_waits_for_a_reset() -> Result {
    let station = with_half_an_image()?;
    let loader = station.slots().read_file("EFI/systemd/systemd-bootx64.efi")?;
    station.slots().write_file("EFI/BOOT/BOOTX64.EFI", &loader)?;
    waits_for_a_reset_three_times(&station, station.switch_on()?, "UEFI Interactive Shell")
}

/// A node whose next release has a kernel that can't unpack itself: its EFI stub gives up, and systemd's stub crashes.
fn with_no_kernel() -> Result<Station> {
    let bad = &updates().no_kernel;
    let station = Station::new()?;
    station.slots().install(bad, &bad.trial_name(3, 0))?;
    Ok(station)
}

#[test]
fn a_kernel_that_cannot_unpack_itself_is_ended_three_times_by_the_watchdog_that_was_armed_before_it() -> Result
{
    let station = with_no_kernel()?;
    // The same program, which waits for half a minute instead of two.
    let impatient = std::fs::read(&updates().impatient_preboot)?;
    station.slots().write_file("EFI/BOOT/BOOTX64.EFI", &impatient)?;
    three_restarts(&station, &updates().no_kernel, &ExitReason::Watchdog)
}

/// What `preboot` says where there is none to arm.
const NO_WATCHDOG: &str = "no watchdog is armed before the kernel";

#[test]
fn a_watchdog_that_is_armed_is_not_said_to_be_missing() -> Result {
    let station = Station::new()?;
    let node = station.switch_on()?;
    node.wait_healthy_on(&old(), SOON)?;
    assert!(!node.vm.serial().log().contains(NO_WATCHDOG), "{}", node.vm.serial().tail());
    Ok(())
}

/// The twin, and a limit of boot counting: on a machine without a watchdog the try is counted, and then nobody is there.
#[test]
fn without_a_watchdog_a_kernel_that_cannot_unpack_itself_waits_for_a_reset() -> Result {
    let station = with_no_kernel()?;
    let node = station.switch_on_without_watchdog()?;
    node.vm.serial().expect_after(0, NO_WATCHDOG, SOON)?;
    waits_for_a_reset_three_times(&station, node, "Failed to decompress kernel")
}

fn ask(node: &Node, path: &str) -> Result<Value> {
    Ok(http::get(node.vm.host_address(API_PORT)?, path, SOON)?.json()?)
}

#[test]
fn what_a_stand_in_keeps_outlives_a_power_cut_and_its_answer_is_its_roots() -> Result {
    let station = Station::new()?;
    let mut node = station.switch_on()?;
    node.wait_healthy_on(&old(), SOON)?;
    let told = ask(&node, "/probe/keep/4/7")?;
    assert_eq!((told["bytes"].as_u64(), told["sha256"].as_str()), (Some(4 << 20), Some(&*kept(4, 7))));
    let answer = node.ask("assistant", "why")?;
    assert_ne!(answer, node.ask("assistant", "how")?);
    node.vm.kill();

    let mut node = station.switch_on()?;
    node.wait_healthy_on(&old(), SOON)?;
    assert_eq!(ask(&node, "/probe/kept")?, told);
    assert_eq!(node.ask("assistant", "why")?, answer);
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// Waits until `bad`, blessed and so the one that is started, is seen to be up and what `holds` says.
fn is_seen(bad: &Release, holds: impl Fn(&Status) -> bool) -> Result {
    let station = Station::new()?;
    station.slots().install(bad, &bad.uki_name())?;
    let node = station.switch_on()?;
    let status = node.wait_for("the node was not seen bad", SOON, holds)?;
    assert_eq!(status.root_hash, bad.root_hash);
    Ok(())
}

#[test]
fn the_bad_stand_ins_are_up_and_never_healthy() -> Result {
    is_seen(&updates().unhealthy, |status| !status.healthy && status.reason.contains("assistant"))?;
    is_seen(&updates().crash, |status| {
        let mut services = status.services.iter();
        !status.healthy && services.any(|service| service.name == "agent" && service.restarts > 2)
    })
}
