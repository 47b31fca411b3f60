//! The promise: a machine is observed from outside, ends for a reason that QEMU gives, and never outlives its
//! owner. Proved on a boot sector; no image is needed.
#![allow(clippy::unwrap_used, reason = "a test file: its helpers may panic as its tests do")]

#[expect(dead_code, reason = "this file sends no frames")]
mod boot_sector;

use astromesh_qemu::{
    Disk, DiskInterface, ExitReason, SmbiosEntryPoint, Vm, VmBuilder, VmError, WatchdogModel,
};
use boot_sector::Program;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A boot to the sector takes about a second; the host may run a kernel build beside it.
const LIMIT: Duration = Duration::from_mins(2);

fn machine(program: Program) -> (TempDir, VmBuilder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    program.write(&path);
    (dir, Vm::builder().memory_mib(64).disk(Disk::new(path).snapshot().boot()))
}

fn exit_of(program: Program) -> ExitReason {
    let (_dir, builder) = machine(program);
    builder.start().unwrap().wait_exit(LIMIT).unwrap()
}

#[test]
fn the_console_is_seen_by_the_test_the_file_and_the_tee() {
    let (tell, told) = std::sync::mpsc::channel();
    let (dir, builder) = machine(Program::new().print("ready\r\n").halt());
    let log = dir.path().join("console.log");
    let tee = move |piece: &[u8]| tell.send(piece.to_vec()).unwrap();
    let vm = builder.serial_log(&log).serial_tee(tee).start().unwrap();
    vm.serial().expect("boot sector\r\nready\r\n", LIMIT).unwrap();
    assert_eq!(vm.status().unwrap(), "running");
    assert!(vm.is_running());
    drop(vm);
    assert_eq!(told.into_iter().flatten().collect::<Vec<u8>>(), b"boot sector\r\nready\r\n");
    assert_eq!(std::fs::read(log).unwrap(), b"boot sector\r\nready\r\n");
}

#[test]
fn the_console_is_kept_for_the_post_mortem_unasked() {
    let (_dir, builder) = machine(Program::new().halt());
    let vm = builder.start().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    let log = vm.serial_log().to_owned();
    drop(vm);
    assert!(std::fs::read_to_string(&log).unwrap().contains("boot sector"), "{}", log.display());
}

#[test]
fn each_bus_boots() {
    for interface in [DiskInterface::VirtioBlk, DiskInterface::VirtioScsi, DiskInterface::Nvme] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk, with a comma.raw");
        Program::new().halt().write(&path);
        let disk = Disk::new(path).interface(interface).serial("s1").boot();
        let vm = Vm::builder().memory_mib(64).disk(disk).start().unwrap();
        vm.serial().expect("boot sector", LIMIT).unwrap_or_else(|e| panic!("{interface:?}: {e}"));
    }
}

#[test]
fn a_reset_by_the_keyboard_controller_is_the_guests() {
    assert_eq!(exit_of(Program::new().out(0x64, 0xfe).halt()), ExitReason::GuestReset);
}

#[test]
fn a_triple_fault_is_the_guests_reset() {
    assert_eq!(exit_of(Program::new().triple_fault()), ExitReason::GuestReset);
}

#[test]
fn a_watchdog_that_nobody_pets_is_told_from_a_reset() {
    // ib700: a write to 0x443 arms it; 0x0e is two seconds.
    let (_dir, builder) = machine(Program::new().out(0x443, 0x0e).halt());
    let mut vm = builder.watchdog_model(WatchdogModel::Ib700).start().unwrap();
    assert_eq!(vm.wait_exit(LIMIT).unwrap(), ExitReason::Watchdog);
    assert!(vm.events().iter().any(|event| event.name == "WATCHDOG"));
}

#[test]
fn without_the_watchdog_the_same_guest_runs_on() {
    let (_dir, builder) = machine(Program::new().out(0x443, 0x0e).print("armed\r\n").halt());
    let mut vm = builder.start().unwrap();
    vm.serial().expect("armed", LIMIT).unwrap();
    assert!(matches!(vm.wait_exit(Duration::from_secs(4)), Err(VmError::ExitTimeout { .. })));
}

#[test]
fn the_hosts_reset_and_quit_are_not_the_guests() {
    let (_dir, builder) = machine(Program::new().halt());
    let mut vm = builder.start().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    vm.reset().unwrap();
    assert_eq!(vm.wait_exit(LIMIT).unwrap(), ExitReason::HostReset);

    let (_dir, builder) = machine(Program::new().halt());
    let mut vm = builder.start().unwrap();
    vm.quit().unwrap();
    assert_eq!(vm.wait_exit(LIMIT).unwrap(), ExitReason::HostQuit);
}

#[test]
fn with_reboots_allowed_a_reset_boots_again() {
    let (_dir, builder) = machine(Program::new().halt());
    let vm = builder.allow_reboot().start().unwrap();
    let behind = vm.serial().expect_after(0, "boot sector", LIMIT).unwrap();
    let events = vm.events().len();
    vm.reset().unwrap();
    vm.wait_for_event_after(events, "RESET", LIMIT).unwrap();
    vm.serial().expect_after(behind, "boot sector", LIMIT).unwrap();
    let missing = vm.wait_for_event("SHUTDOWN", Duration::from_millis(100)).unwrap_err().to_string();
    assert!(missing.contains("RESET") && missing.contains("| boot sector"), "{missing}");
}

#[test]
fn every_reset_of_a_machine_that_may_reboot_is_counted_with_its_reason() {
    let (_dir, builder) = machine(Program::new().out(0x64, 0xfe).halt());
    let vm = builder.allow_reboot().start().unwrap();
    let seen = vm.wait_resets(2, LIMIT).unwrap();
    assert_eq!(seen[..2], [ExitReason::GuestReset, ExitReason::GuestReset]);
    // Twin: one that halts is waited for no longer than the limit, and then reset by the host.
    let (_dir, builder) = machine(Program::new().halt());
    let vm = builder.allow_reboot().start().unwrap();
    let missing = vm.wait_resets(1, Duration::from_secs(3));
    assert!(matches!(missing, Err(VmError::ResetTimeout { .. })), "{missing:?}");
    vm.reset().unwrap();
    assert_eq!(vm.wait_resets(1, LIMIT).unwrap()[0], ExitReason::HostReset);
}

#[test]
fn a_guest_that_ignores_the_power_button_is_killed_and_reported() {
    let (_dir, builder) = machine(Program::new().halt());
    let mut vm = builder.start().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    let pid = vm.pid();
    let error = vm.power_off(Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, VmError::PowerOffTimeout { .. }), "{error}");
    assert!(error.to_string().contains("| boot sector"), "{error}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    // Killed, so QEMU gave no reason.
    assert!(matches!(vm.wait_exit(LIMIT).unwrap(), ExitReason::Crashed(_)));
}

#[test]
fn dropping_a_machine_leaves_no_process() {
    let (_dir, builder) = machine(Program::new().halt());
    let vm = builder.start().unwrap();
    let process = format!("/proc/{}", vm.pid());
    assert!(Path::new(&process).exists());
    let started = Instant::now();
    drop(vm);
    assert!(!Path::new(&process).exists());
    assert!(started.elapsed() < LIMIT);
}

/// What the next test starts in a process of its own, to kill it.
#[test]
#[ignore = "a part of a_killed_owner_leaves_no_machine"]
fn owner() {
    let (_dir, builder) = machine(Program::new().halt());
    let vm = builder.start().unwrap();
    println!("\nqemu {}", vm.pid());
    if std::env::var_os("ASTROMESH_TEST_OWNER").is_some() {
        std::thread::sleep(LIMIT);
    }
}

#[test]
fn a_killed_owner_leaves_no_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored", "--nocapture"])
        .env("ASTROMESH_TEST_OWNER", "1")
        // Whoever is killed cleans nothing up: its files go with this test.
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let qemu = lines.find_map(|line| line.strip_prefix("qemu ").map(String::from)).unwrap();
    // A process that nobody has reaped yet is a zombie: dead all the same.
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    assert!(alive());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let end = Instant::now() + LIMIT;
    while alive() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!alive());
}

#[test]
fn a_machine_outlives_the_thread_that_started_it() {
    // The kernel's parent-death signal follows a thread; the keeper must be the one it follows.
    let (_dir, builder) = machine(Program::new().halt());
    let vm = std::thread::spawn(move || builder.start().unwrap()).join().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(vm.is_running());
}

#[test]
fn a_machine_that_cannot_start_says_why() {
    let error = Vm::builder().disk(Disk::new("/nonexistent/disk.raw")).start().err().unwrap().to_string();
    assert!(error.contains("/nonexistent/disk.raw"), "{error}");
}

#[test]
fn long_oem_strings_arrive_in_the_guests_memory() {
    let text = format!("astromesh.config={}", "0123456789abcdef".repeat(1250));
    let (dir, builder) = machine(Program::new().halt());
    let vm =
        builder.smbios(&text).smbios("astromesh.second=2").fw_cfg("opt/astromesh/x", "y").start().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    let (first, second) = in_memory(&vm, dir.path(), &text);
    assert!(first);
    assert!(second, "the second string follows the first");
    drop(vm);

    // Mutation twin: without the strings the same look finds nothing.
    let (dir, builder) = machine(Program::new().halt());
    let vm = builder.start().unwrap();
    vm.serial().expect("boot sector", LIMIT).unwrap();
    assert_eq!(in_memory(&vm, dir.path(), &text), (false, false));
}

#[test]
fn a_machine_with_the_new_smbios_entry_point_boots() {
    let (_dir, builder) = machine(Program::new().halt());
    let builder = builder.smbios("astromesh=1").smbios_entry_point(SmbiosEntryPoint::V30);
    builder.start().unwrap().serial().expect("boot sector", LIMIT).unwrap();
}

/// Whether the firmware put the string, and one behind it, where the guest reads them.
fn in_memory(vm: &Vm, dir: &Path, text: &str) -> (bool, bool) {
    let dump = dir.join("memory");
    vm.dump_memory(&dump, 64 << 20).unwrap();
    let memory = std::fs::read(dump).unwrap();
    let both = format!("{text}\0astromesh.second=2\0");
    let starts = memory.iter().enumerate().filter(|(_, byte)| **byte == b'a').map(|(at, _)| at);
    let found: Vec<usize> = starts.filter(|at| memory[*at..].starts_with(text.as_bytes())).collect();
    (!found.is_empty(), found.iter().any(|at| memory[*at..].starts_with(both.as_bytes())))
}
