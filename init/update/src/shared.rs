//! What every thread of the service may use, and what each of them does with it.

use crate::error::{UpdateError, WorkError};
use crate::reconcile::{Next, missed_rollback, reconcile};
use crate::record;
use crate::terms;
use crate::waits::Waits;
use astromesh_node::ipc_client::Pid1;
use astromesh_node::places::SEEDS;
use astromesh_proto::deadlines::UPDATE_WAITS_FOR_A_JOB;
use astromesh_proto::ipc::{SlotsWork, ToInit};
use astromesh_proto::machine_config::{Update, UpdateMode};
use astromesh_proto::update::{Outcome, Record, SLOTS_FILE, Slots, State, parse};
use astromesh_proto::version::Version;
use astromesh_release::staged::now;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// What every thread may use.
pub struct Shared {
    /// The `update` section of the machine-config.
    pub policy: Update,
    /// The release that runs.
    pub running: Version,
    /// The way to PID 1.
    pub pid1: Pid1,
    /// One update at a time.
    pub busy: Mutex<()>,
    /// The attempts so far.
    pub record: Mutex<Record>,
    /// The jobs `slots` that were asked for.
    pub waits: Waits,
    /// Devices whose bytes need not be fetched again.
    pub seeds: [OwnedFd; SEEDS],
}

impl Shared {
    /// Brings the record up to date with the disk.
    pub fn settle(&self) -> Next {
        let found = slots();
        let mut next = Next::Nothing;
        self.notice_rollback();
        self.note(|record| {
            if let Some(attempt) = record.open() {
                let before = attempt.outcome;
                next = reconcile(attempt, self.running, found.as_ref());
                if attempt.outcome != before || attempt.outcome.is_final() {
                    log::info!("{}: {:?}: {}", attempt.release.version, attempt.outcome, attempt.reason);
                }
            }
        });
        next
    }

    /// Takes note of a rollback that is on the boot partition and not in the record.
    pub fn notice_rollback(&self) {
        let Some(slots) = slots() else { return };
        self.note(|record| {
            if let Some(from) = missed_rollback(record, self.running, &slots) {
                log::info!("{from} was given up by an operator, and is not installed again by itself");
                record.roll_back(from);
            }
        });
    }

    /// Takes note that the release that runs was blessed. An attempt at another one is none of its business.
    pub fn settle_blessed(&self) {
        let is_of_it = |record: &mut Record| {
            record.open().is_some_and(|attempt| attempt.release.version == self.running)
        };
        if is_of_it(&mut lock(&self.record)) {
            self.settle();
        }
    }

    /// Reboots the machine if what is installed waits for that and its terms allow it now; whether it does.
    pub fn reboot_on_terms(&self) -> bool {
        let mut reboots = false;
        self.note(|record| {
            reboots = terms::reboots_now(record, self.running, &self.policy, now());
            if let Some(attempt) = record.open().filter(|_| reboots) {
                attempt.interruptions += 1;
            }
        });
        if reboots {
            log::info!("the node reboots into the release that is installed");
            self.reboot();
        }
        reboots
    }

    /// Changes the record and writes it. The log says when it can't be written; what was begun does not depend on it.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        let mut record = lock(&self.record);
        let before = record.clone();
        change(&mut record);
        if *record != before {
            if let Err(error) = record::write(Path::new(record::FILE), &record) {
                log::error!("{} can't be written: {error}; /var may be full", record::FILE);
            }
        }
    }

    /// Changes the record only if it can be written: what begins by that must not be taken for something else after a power
    /// cut.
    pub fn note_durably(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let mut record = lock(&self.record);
        let mut changed = record.clone();
        change(&mut changed);
        record::write(Path::new(record::FILE), &changed)?;
        *record = changed;
        Ok(())
    }

    /// How updates stand.
    pub fn state(&self) -> State {
        let from = self.policy.image.as_deref().unwrap_or("a drive");
        let mode = match (self.policy.mode, self.policy.window) {
            (UpdateMode::Manual, _) => "when an operator says so".to_owned(),
            (UpdateMode::Auto, None) => format!("every {} minutes", self.policy.check_every_minutes),
            (UpdateMode::Auto, Some(window)) => {
                let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
                format!("from {} to {} UTC", clock(window.from_minute), clock(window.to_minute))
            }
        };
        let policy = format!("{from}, channel {}, {mode}", self.policy.channel);
        State { slots: slots(), policy, attempts: lock(&self.record).attempts.clone(), peak_kib: peak_kib() }
    }

    /// Has PID 1 start a job `slots` and waits for its end; the reason when it could not do its work.
    pub fn have_done(&self, work: SlotsWork) -> Result<(), WorkError> {
        let wait = self.waits.begin();
        let order = ToInit::Slots { work, number: wait.number() };
        self.pid1.tell(&order).map_err(WorkError::Ask)?;
        match wait.until(Instant::now() + UPDATE_WAITS_FOR_A_JOB) {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) if reason.is_empty() => Err(WorkError::End(work)),
            Some(Err(reason)) => Err(WorkError::Do(reason)),
            None => Err(WorkError::Await(work)),
        }
    }

    /// Begins work of which there is one at a time: it is over when what this returns is dropped.
    pub fn begin(&self) -> Result<MutexGuard<'_, ()>, UpdateError> {
        match self.busy.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(UpdateError::Begin),
        }
    }

    /// Has the machine reboot.
    pub fn reboot(&self) {
        if let Err(error) = self.pid1.tell(&ToInit::Reboot) {
            log::error!("{error}; reboot the node to go on");
        }
    }

    /// The outcome of the open attempt, with its reason.
    pub fn end(&self, outcome: Outcome, reason: &str) {
        self.note(|record| {
            if let Some(attempt) = record.open() {
                attempt.outcome = outcome;
                reason.clone_into(&mut attempt.reason);
            }
        });
    }
}

/// Both slots, as they were last looked at.
pub fn slots() -> Option<Slots> {
    parse(&std::fs::read(SLOTS_FILE).ok()?)
}

/// `VmHWM` of /proc/self/status (proc_pid_status(5)).
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
