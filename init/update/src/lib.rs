//! The `update` service: fetches releases, verifies them, and asks PID 1 to have them installed.
//!
//! It talks to registries, so it has no right worth taking: its own user, no capability, at most 24 MiB. It can fill the
//! staging folder and ask; what is installed is verified again by the process that writes the slot (`slots`), and
//! what stays is decided by PID 1 when health has held.
//!
//! What it did last is decided at each start from what is on the disk ([`reconcile`]): power may fail at any step. What it may
//! do next is decided by on whose word it acts ([`terms`], [`schedule`]). These three are pure, and public so that
//! they can be tested together with what PID 1 and `slots` decide.

mod apply;
mod error;
#[cfg(test)]
mod fixture;
mod origin;
pub mod reconcile;
mod record;
pub mod schedule;
mod serve;
mod shared;
pub mod terms;
mod waits;

use apply::Job;
use astromesh_node::clock::now_us;
use astromesh_node::inherited::{Inherited, NotGiven};
use astromesh_node::ipc_client::Pid1;
use astromesh_node::places::{SEEDS, UPDATE_SOCKET};
#[cfg(feature = "twins")]
use astromesh_node::twin::{self, Twin};
use astromesh_node::{log_sink, process, service};
use astromesh_proto::ipc::{FromInit, SlotsWork};
use astromesh_proto::update::{Origin, Terms};
use astromesh_release::running::running_version;
use astromesh_release::staged::now;
use astromesh_settings::read_update;
use reconcile::Next;
use shared::{Shared, lock, slots};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use waits::Waits;

/// How long it may take until it is known what is in the slots; without, the last attempt stays as it is.
const SLOTS_ARE_LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);

/// How often the clock is looked at for `auto`.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The service.
pub fn main(mut inherited: Inherited) -> i32 {
    #[cfg(feature = "twins")]
    if twin::is(Twin::BelieveAnyone) || twin::is(Twin::BelieveFetched) {
        astromesh_oci::believe_anyone();
    }
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::UPDATE, kmsg);
    }
    let (socket, seeds) = match given(&mut inherited) {
        Ok(given) => given,
        Err(error) => {
            log::error!("{error}");
            return 1;
        }
    };
    if let Err(error) = service::become_service(process::UPDATE) {
        log::error!("{error}");
        return 1;
    }
    // What is staged is for the installer to read, which has another user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (Some(policy), Some(running)) = (read_update(), running_version()) else {
        log::error!("no update section, or no version in /etc/os-release: nothing to do");
        return 1;
    };
    origin::forget_drive();
    let shared = Arc::new(Shared {
        policy,
        running,
        pid1: Pid1::new(socket),
        busy: Mutex::new(()),
        record: Mutex::new(record::read(Path::new(record::FILE))),
        // In microseconds since the kernel started: no life of this service asks for a job in each of them.
        waits: Waits::new(now_us()),
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

/// The socket to PID 1, and the devices that need not be fetched again.
fn given(inherited: &mut Inherited) -> Result<(OwnedFd, [OwnedFd; SEEDS]), NotGiven> {
    let socket = inherited.ipc()?;
    let seeds = [
        inherited.extra("root that runs", 0)?,
        inherited.extra("root of the other slot", 1)?,
        inherited.extra("boot partition", 2)?,
    ];
    Ok((socket, seeds))
}

/// Takes what PID 1 says, for as long as the service lives.
fn hear(shared: &Shared) -> i32 {
    loop {
        match shared.pid1.next() {
            Ok(FromInit::Slots { work: SlotsWork::Bless, .. }) => shared.settle_blessed(),
            Ok(FromInit::Slots { number, done, reason, .. }) => {
                shared.waits.end(number, if done { Ok(()) } else { Err(reason.as_str().to_owned()) });
            }
            Ok(_) => {}
            Err(error) => {
                log::error!("{error}");
                return 1;
            }
        }
    }
}

/// Finds out what became of the last attempt.
fn settle_with_the_last(shared: &Shared) -> Next {
    if lock(&shared.record).open().is_none() {
        return shared.settle();
    }
    // An earlier life of this service may have left an installer at work. A look waits for its end, as every job does; what
    // was seen before it would begin the same attempt again. Until then nothing else is begun.
    let _busy = shared.begin();
    if let Err(error) = shared.have_done(SlotsWork::Inspect) {
        log::warn!("the slots could not be looked at: {error}");
    }
    shared.settle()
}

/// Goes on with what was interrupted, then looks for releases as the policy says.
fn work(shared: &Arc<Shared>) {
    // PID 1 has the slots looked at when the boot is over.
    let deadline = Instant::now() + SLOTS_ARE_LOOKED_AT_WITHIN;
    while slots().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    let next = settle_with_the_last(shared);
    // Whether what is installed may have to be rebooted into from here: an operator's connection does that itself.
    let mut waits_for_reboot = match next {
        Next::Nothing => false,
        Next::Reboot => {
            log::info!("a release is installed and waits for a reboot");
            true
        }
        Next::Resume => {
            apply::resume(shared);
            true
        }
    };
    let mut looked: Option<Instant> = None;
    loop {
        let since = looked.map(|at| at.elapsed().as_secs());
        // While the release that runs is on trial nothing is installed, so nothing is looked for.
        let is_kept = slots().is_some_and(|slots| slots.is_kept());
        if is_kept && schedule::is_due(&shared.policy, now(), since) {
            shared.notice_rollback();
            let job = Job { origin: Origin::Channel, dry_run: false, terms: Terms::Auto };
            // A registry that can't be reached is asked again at the next look at the clock.
            looked = apply::apply(shared, &job, &mut |_, _, _| ()).asked.then(Instant::now);
            waits_for_reboot = true;
        }
        if waits_for_reboot {
            waits_for_reboot = !shared.reboot_on_terms();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
