//! What every thread of the service may use, and what each of them does with it.

use crate::error::WorkError;
use crate::reconcile::{Next, reconcile};
use crate::record;
use astromesh_node::ipc_client::Pid1;
use astromesh_node::places::SEEDS;
use astromesh_proto::deadlines::UPDATE_WAITS_FOR_A_JOB;
use astromesh_proto::ipc::{SlotsWork, ToInit};
use astromesh_proto::machine_config::{Update, UpdateMode};
use astromesh_proto::update::{Outcome, Record, SLOTS_FILE, Slots, State, parse};
use astromesh_proto::version::Version;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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
    /// How the last `slots` process ended, until somebody takes it.
    pub worked: Mutex<Option<(SlotsWork, Result<(), String>)>>,
    /// Told when `worked` is set.
    pub has_worked: Condvar,
    /// Devices whose bytes need not be fetched again.
    pub seeds: [OwnedFd; SEEDS],
}

impl Shared {
    /// Brings the record up to date with the disk.
    pub fn settle(&self) -> Next {
        let found = slots();
        let mut next = Next::Nothing;
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

    /// Changes the record and writes it. The log says when it can't be written; the update itself does not depend on it.
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
        *lock(&self.worked) = None;
        self.pid1.tell(&ToInit::Slots(work)).map_err(WorkError::Ask)?;
        let deadline = Instant::now() + UPDATE_WAITS_FOR_A_JOB;
        let mut worked = lock(&self.worked);
        loop {
            match worked.take() {
                Some((of, Ok(()))) if of == work => return Ok(()),
                Some((of, Err(reason))) if of == work => {
                    return Err(if reason.is_empty() { WorkError::End(work) } else { WorkError::Do(reason) });
                }
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WorkError::Await(work));
            }
            worked = self.has_worked.wait_timeout(worked, left).unwrap_or_else(PoisonError::into_inner).0;
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
