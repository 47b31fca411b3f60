//! The whole life of an update on a boot partition in memory and a boot loader of a few lines: each count, each step
//! failing, power going at each step. The gate boots real firmware; this walks what it can't.

use super::*;
use std::io;

/// What a step of the boot partition does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails, with nothing changed.
    Error,
    /// Power goes before it.
    CutBefore,
    /// Power goes right after it.
    CutAfter,
}

/// A boot partition in memory. What is renamed is on the disk only after a sync, or by luck.
#[derive(Debug, Clone)]
struct Memory {
    cached: Vec<BootEntry>,
    disk: Vec<BootEntry>,
    /// The number of the step that has a fault.
    fault: Option<(u32, Fault)>,
    step: u32,
    /// Whether power is gone: nothing reaches the disk any more.
    dark: bool,
}

impl Memory {
    fn new(names: &[&str]) -> Self {
        let entries: Vec<_> = names.iter().map(|name| BootEntry::parse(name).unwrap()).collect();
        Self { cached: entries.clone(), disk: entries, fault: None, step: 0, dark: false }
    }

    fn step(&mut self, work: impl FnOnce(&mut Self)) -> Result<(), EspError> {
        self.step += 1;
        let fault = self.fault.filter(|(number, _)| *number == self.step).map(|(_, fault)| fault);
        if self.dark || fault == Some(Fault::CutBefore) {
            self.dark = true;
            return Err(EspError::Sync(io::ErrorKind::BrokenPipe.into()));
        }
        if fault == Some(Fault::Error) {
            return Err(EspError::Sync(io::ErrorKind::Other.into()));
        }
        work(self);
        self.dark = fault == Some(Fault::CutAfter);
        Ok(())
    }

    /// The boot loader: the newest entry that has tries left, else the newest; counts down; tells which it counts.
    fn boot(&mut self) -> (Version, Option<BootEntry>) {
        self.cached = self.disk.clone();
        (self.dark, self.step) = (false, 0);
        let order = |entry: &BootEntry| (entry.is_bootable(), entry.version);
        let index = (0..self.disk.len()).max_by_key(|&index| order(&self.disk[index])).unwrap();
        if let Some(Tries { left, done }) = self.disk[index].tries {
            self.disk[index].tries = Some(Tries { left: left.saturating_sub(1), done: done + 1 });
        }
        self.cached = self.disk.clone();
        let started = self.disk[index];
        (started.version, started.tries.is_some().then_some(started))
    }
}

impl BootPartition for Memory {
    fn entries(&mut self) -> Result<Vec<BootEntry>, EspError> {
        self.step(|_| ())?;
        Ok(self.cached.clone())
    }

    fn rename(&mut self, from: &BootEntry, to: &BootEntry) -> Result<(), EspError> {
        self.step(|memory| {
            if let Some(entry) = memory.cached.iter_mut().find(|entry| *entry == from) {
                *entry = *to;
            }
        })
    }

    fn sync(&mut self) -> Result<(), EspError> {
        self.step(|memory| memory.disk = memory.cached.clone())
    }
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn slots(labels: &[&str]) -> Vec<SlotPartition> {
    let one = |(number, label): (u32, &&str)| SlotPartition {
        label: (*label).to_owned(),
        number,
        partuuid: String::new(),
    };
    (2..).zip(labels).map(one).collect()
}

const OLD: &str = "astromesh_0.1.0.efi";
const NEW: &str = "astromesh_0.2.0+3-0.efi";

#[test]
fn a_release_that_is_never_healthy_is_tried_three_times_and_then_the_old_one_runs() {
    let mut esp = Memory::new(&[OLD, NEW]);
    let started: Vec<_> = (0..6).map(|_| esp.boot().0.to_string()).collect();
    assert_eq!(started, ["0.2.0", "0.2.0", "0.2.0", "0.1.0", "0.1.0", "0.1.0"]);
    assert!(esp.disk.contains(&BootEntry::parse("astromesh_0.2.0+0-3.efi").unwrap()));
}

#[test]
fn twin_a_release_without_a_count_is_tried_for_ever() {
    let mut esp = Memory::new(&[OLD, "astromesh_0.2.0.efi"]);
    assert!((0..50).all(|_| esp.boot().0 == version("0.2.0")));
}

#[test]
fn a_release_that_is_healthy_at_its_last_try_is_kept() {
    for failures in 0..3 {
        let mut esp = Memory::new(&[OLD, NEW]);
        for _ in 0..failures {
            esp.boot();
        }
        let (running, counted) = esp.boot();
        assert!(bless(&mut esp, running, counted).unwrap().is_some());
        assert!((0..5).all(|_| esp.boot() == (version("0.2.0"), None)), "after {failures}");
    }
}

#[test]
fn every_step_of_a_blessing_may_fail_or_lose_power_at_every_count() {
    for tries_before in 1..=3_u32 {
        for step in 1..=4 {
            for fault in [Fault::Error, Fault::CutBefore, Fault::CutAfter] {
                let name = format!("astromesh_0.2.0+{tries_before}-{}.efi", 3 - tries_before);
                let mut esp = Memory::new(&[OLD, &name]);
                let (running, counted) = esp.boot();
                assert_eq!(running, version("0.2.0"));
                esp.fault = Some((step, fault));
                let mut blessed = bless(&mut esp, running, counted).is_ok();
                esp.fault = None;
                // PID 1 tries again in the same life, unless power is gone.
                if !blessed && !esp.dark {
                    blessed = bless(&mut esp, running, counted).is_ok();
                }
                // The old release's entry is never touched, and there is always something to start.
                assert!(esp.disk.contains(&BootEntry::parse(OLD).unwrap()), "{step} {fault:?}");
                assert_eq!(esp.disk.len(), 2);
                // A blessing that was reported holds whatever comes.
                if blessed {
                    assert!(esp.disk.contains(&BootEntry::blessed(running)), "{step} {fault:?}");
                }
                // Whoever tries again at the next start, if there is one, ends in one of the two good states.
                let (next, counted) = esp.boot();
                if next == running {
                    bless(&mut esp, next, counted).unwrap();
                }
                let settled = esp.boot();
                assert!(
                    settled == (version("0.2.0"), None) || settled == (version("0.1.0"), None),
                    "{settled:?}"
                );
            }
        }
    }
}

#[test]
fn a_release_that_is_kept_needs_no_change_and_one_that_is_gone_is_an_error() {
    let entry = |name| BootEntry::parse(name).unwrap();
    let counted = entry("astromesh_0.2.0+2-1.efi");
    let (one, two) = (entry(OLD), entry("astromesh_0.2.0.efi"));
    let change = |entries: &[BootEntry], counted| blessing(entries, version("0.2.0"), counted);
    assert_eq!(change(&[two, one], None).unwrap(), None);
    assert_eq!(change(&[two, one], Some(counted)).unwrap(), None);
    assert_eq!(change(&[two, counted, one], Some(counted)).unwrap(), None, "both names");
    assert!(matches!(change(&[one], Some(counted)), Err(BlessError::FindEntry(entry)) if entry == counted));
}

/// Rolls back, and tells where to.
fn goes_back(
    esp: &mut Memory,
    running: Version,
    said: Option<BootEntry>,
    there: &[SlotPartition],
) -> Version {
    let (changes, other) = rollback(&esp.entries().unwrap(), running, said, there).unwrap();
    for change in &changes {
        carry_out(esp, change).unwrap();
    }
    other
}

#[test]
fn a_rollback_starts_the_other_slot_at_once_and_from_then_on() {
    let there = slots(&["root_0.1.0", "verity_0.1.0", "root_0.2.0", "verity_0.2.0"]);
    for names in [
        &[OLD, "astromesh_0.2.0.efi"][..],
        &[OLD, "astromesh_0.2.0+3-0.efi"],
        // Its last try: the boot loader has counted to none, and it runs.
        &[OLD, "astromesh_0.2.0+1-2.efi"],
        // Both names of one file, as power leaves them in the middle of a blessing.
        &[OLD, "astromesh_0.2.0.efi", "astromesh_0.2.0+2-1.efi"],
    ] {
        let mut esp = Memory::new(names);
        let (running, counted) = esp.boot();
        assert_eq!(running, version("0.2.0"));
        assert_eq!(goes_back(&mut esp, running, counted, &there), version("0.1.0"));
        // Asked for once more, there is nothing left to change.
        let again = rollback(&esp.entries().unwrap(), running, counted, &there).unwrap();
        assert_eq!(again, (Vec::new(), version("0.1.0")));
        // A blessing that was asked for before doesn't undo it.
        let _ = bless(&mut esp, running, counted);
        assert!((0..5).all(|_| esp.boot() == (version("0.1.0"), None)), "{names:?}");
        let given_up: Vec<_> = esp.disk.iter().filter(|entry| entry.version == running).collect();
        assert!(given_up.iter().all(|entry| entry.is_given_up()), "{given_up:?}");
    }
}

#[test]
fn a_rollback_that_leads_nowhere_says_why_and_changes_nothing() {
    let entries =
        |names: &[&str]| -> Vec<_> { names.iter().map(|name| BootEntry::parse(name).unwrap()).collect() };
    let both = slots(&["root_0.1.0", "verity_0.1.0", "root_0.2.0", "verity_0.2.0"]);
    let (one, two) = (version("0.1.0"), version("0.2.0"));
    let decided =
        |names: &[&str], running, there: &[SlotPartition]| rollback(&entries(names), running, None, there);
    assert!(decided(&[OLD, "astromesh_0.2.0.efi"], two, &both).is_ok(), "the twin");
    assert_eq!(decided(&["astromesh_0.2.0.efi"], two, &both), Err(RollbackError::FindOther(two)));
    let bad = ["astromesh_0.2.0+0-3.efi", OLD];
    assert_eq!(decided(&bad, one, &both), Err(RollbackError::TriesLeft(two)));
    let half = slots(&["root_0.1.0", "_empty", "root_0.2.0", "verity_0.2.0"]);
    assert_eq!(decided(&[OLD, "astromesh_0.2.0.efi"], two, &half), Err(RollbackError::FindSlot(one)));
    assert_eq!(decided(&[OLD], two, &both), Err(RollbackError::FindRunning(two)));
}

#[test]
fn only_a_release_that_was_kept_is_a_place_to_go_back_to() {
    let both = slots(&["root_0.1.0", "verity_0.1.0", "root_0.2.0", "verity_0.2.0"]);
    let decided = |name: &str| {
        let entries: Vec<_> = [OLD, name].iter().map(|name| BootEntry::parse(name).unwrap()).collect();
        rollback(&entries, version("0.1.0"), None, &both).map(|(_, other)| other)
    };
    let two = version("0.2.0");
    // What an update has just written, before and after it was read back, and what was tried and is not kept.
    assert_eq!(decided("astromesh_0.2.0+3-0.efi"), Err(RollbackError::NeverKept(two)));
    assert_eq!(decided("astromesh_0.2.0+0-0.efi"), Err(RollbackError::TriesLeft(two)));
    assert_eq!(decided("astromesh_0.2.0+1-2.efi"), Err(RollbackError::NeverKept(two)));
    assert_eq!(decided("astromesh_0.2.0.efi"), Ok(two), "the twin");
}

#[test]
fn a_release_has_no_try_until_it_was_read_back() {
    let mut esp = Memory::new(&[OLD, "astromesh_0.2.0+0-0.efi"]);
    assert!((0..5).all(|_| esp.boot() == (version("0.1.0"), None)));
    let change = arming(&esp.entries().unwrap(), version("0.2.0")).unwrap();
    carry_out(&mut esp, &change).unwrap();
    assert_eq!(arming(&esp.entries().unwrap(), version("0.2.0")), None, "once");
    assert_eq!(esp.boot().0, version("0.2.0"));
    // One that failed gets no tries by this way.
    let failed = [BootEntry::parse("astromesh_0.2.0+0-3.efi").unwrap()];
    assert_eq!(arming(&failed, version("0.2.0")), None);
}

#[test]
fn what_the_boot_loader_said_at_the_start_is_no_trial_once_the_release_is_kept() {
    let mut esp = Memory::new(&[OLD, NEW]);
    let (running, counted) = esp.boot();
    assert!(counted.is_some());
    assert_eq!(on_trial(&esp.entries().unwrap(), running, counted), counted);
    bless(&mut esp, running, counted).unwrap();
    assert_eq!(on_trial(&esp.entries().unwrap(), running, counted), None);
}
