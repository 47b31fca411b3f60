//! The `update` service: fetches releases, verifies them, and asks PID 1 to have them installed.
//!
//! It talks to registries, so it has no right worth taking: its own user, no capability, at most 24 MiB. It can fill the
//! staging folder and ask; what is installed is verified again by the process that writes the slot ([`crate::slots`]), and
//! what stays is decided by PID 1 when health has held.
//!
//! What it did last is decided at each start from what is on the disk ([`reconcile`]): power may fail at any step.

mod apply;
mod origin;
mod reconcile;
mod record;
mod schedule;
pub mod serve;

use crate::config::read_update;
use crate::slots::running_version;
use apply::Job;
use astromesh_node::ipc_client::{Pid1, Pid1Error};
use astromesh_node::places::{SEEDS, UPDATE_SOCKET};
use astromesh_node::{log_sink, service};
use astromesh_proto::ipc::{FromInit, SlotsWork, ToInit};
use astromesh_proto::machine_config::{Update, UpdateMode};
use astromesh_proto::update::{
    INSTALL_SAID_FILE, Origin, Outcome, Record, SAID_FILE, SLOTS_FILE, Slots, State, parse,
};
use astromesh_proto::version::Version;
use astromesh_sys::descriptors;
use reconcile::{Next, reconcile};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a `slots` process may take: it hashes two roots and writes one, on an emulated machine.
const WORK_WITHIN: Duration = Duration::from_secs(900);

/// How long it may take until it is known what is in the slots; without, the last attempt stays as it is.
const SLOTS_ARE_LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);

/// How often the clock is looked at for `auto`.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What every thread may use.
struct Shared {
    policy: Update,
    running: Version,
    pid1: Pid1,
    /// One update at a time.
    busy: Mutex<()>,
    record: Mutex<Record>,
    /// How the last `slots` process ended, until somebody takes it.
    worked: Mutex<Option<(SlotsWork, bool)>>,
    has_worked: Condvar,
    /// Devices whose bytes need not be fetched again.
    seeds: [OwnedFd; SEEDS],
}

/// The service.
pub fn main() -> i32 {
    let socket = descriptors::inherited(service::IPC_FD);
    let seeds = [0, 1, 2].map(|number| descriptors::inherited(service::EXTRA_FD + number));
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start("update", kmsg);
    }
    if let Err(error) = service::become_service(service::UPDATE_ID, CapabilitySet::empty()) {
        log::error!("{error}");
        return 1;
    }
    // What is staged is for the installer to read, which has another user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (Some(policy), Some(running)) = (read_update(), running_version()) else {
        log::error!("no update section, or no version in /etc/os-release: nothing to do");
        return 1;
    };
    let shared = Arc::new(Shared {
        policy,
        running,
        pid1: Pid1::new(socket),
        busy: Mutex::new(()),
        record: Mutex::new(record::read(Path::new(record::FILE))),
        worked: Mutex::new(None),
        has_worked: Condvar::new(),
        seeds,
    });
    let server = Arc::clone(&shared);
    let served = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        if let Err(error) = serve::listen(&server) {
            log::error!("{UPDATE_SOCKET} can't be listened on: {error}; operators can't ask");
        }
    });
    let worker = Arc::clone(&shared);
    let worked = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || work(&worker));
    if served.is_err() || worked.is_err() {
        log::error!("a thread can't be started");
        return 1;
    }
    hear(&shared)
}

/// Takes what PID 1 says, for as long as the service lives.
fn hear(shared: &Shared) -> i32 {
    loop {
        match shared.pid1.next() {
            Ok(FromInit::Slots { work, done }) => {
                if work == SlotsWork::Bless {
                    shared.settle();
                } else {
                    *lock(&shared.worked) = Some((work, done));
                    shared.has_worked.notify_all();
                }
            }
            Ok(_) => {}
            Err(error) => {
                log::error!("{error}");
                return 1;
            }
        }
    }
}

/// Goes on with what was interrupted, then looks for releases as the policy says.
fn work(shared: &Arc<Shared>) {
    // PID 1 has the slots looked at when the boot is over.
    let deadline = Instant::now() + SLOTS_ARE_LOOKED_AT_WITHIN;
    while slots().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    match shared.settle() {
        Next::Nothing => {}
        Next::Restart => {
            // Only what was about to happen when the service ended; an operator who asked for no restart gets none.
            log::info!("a release is installed and waits for a restart");
        }
        Next::Resume => apply::resume(shared),
    }
    let mut looked: Option<Instant> = None;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if schedule::is_due(&shared.policy, now, looked.map(|at| at.elapsed().as_secs())) {
            let job = Job { origin: Origin::Channel, dry_run: false, restart: true, resumed: true };
            // A registry that can't be reached is asked again at the next look at the clock.
            looked = apply::by_itself(shared, &job).then(Instant::now);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Shared {
    /// Brings the record up to date with the disk.
    fn settle(&self) -> Next {
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

    /// Changes the record and keeps it. What can't be kept is said; the update itself does not depend on it.
    fn note(&self, change: impl FnOnce(&mut Record)) {
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
    fn state(&self) -> State {
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

    /// Has PID 1 start a `slots` process and waits for its end; the reason when it could not do its work.
    fn have_done(&self, work: SlotsWork) -> Result<(), String> {
        *lock(&self.worked) = None;
        self.pid1.tell(&ToInit::Slots(work)).map_err(|error: Pid1Error| error.to_string())?;
        let deadline = Instant::now() + WORK_WITHIN;
        let mut worked = lock(&self.worked);
        loop {
            match worked.take() {
                Some((of, true)) if of == work => return Ok(()),
                Some((of, false)) if of == work => {
                    let mut said = String::new();
                    let file = if work == SlotsWork::Install { INSTALL_SAID_FILE } else { SAID_FILE };
                    let _ = File::open(file).and_then(|file| file.take(1024).read_to_string(&mut said));
                    return Err(if said.is_empty() { "see the log".to_owned() } else { said });
                }
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("it takes too long".to_owned());
            }
            worked = self.has_worked.wait_timeout(worked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the machine restarted.
    fn restart(&self) {
        if let Err(error) = self.pid1.tell(&ToInit::Reboot) {
            log::error!("{error}; restart the node to go on");
        }
    }

    /// The outcome of the open attempt, with its reason.
    fn end(&self, outcome: Outcome, reason: &str) {
        self.note(|record| {
            if let Some(attempt) = record.open() {
                attempt.outcome = outcome;
                reason.clone_into(&mut attempt.reason);
            }
        });
    }
}

/// Both slots, as they were last looked at.
fn slots() -> Option<Slots> {
    parse(&std::fs::read(SLOTS_FILE).ok()?)
}

/// `VmHWM` of /proc/self/status (proc_pid_status(5)).
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
