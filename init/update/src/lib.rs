//! The `update` service: fetches releases, verifies them, and asks PID 1 to have them installed.
//!
//! It talks to registries, so it has no right worth taking: its own user, no capability, at most 24 MiB. It can fill the
//! staging folder and ask; what is installed is verified again by the process that writes the slot (`slots`), and
//! what stays is decided by PID 1 when health has held.
//!
//! What it did last is decided at each start from what is on the disk ([`reconcile`]): power may fail at any step.

mod apply;
mod error;
mod origin;
mod reconcile;
mod record;
mod schedule;
mod serve;
mod shared;

use apply::Job;
use astromesh_node::inherited::{Inherited, NotGiven};
use astromesh_node::ipc_client::Pid1;
use astromesh_node::places::{SEEDS, UPDATE_SOCKET};
#[cfg(feature = "twins")]
use astromesh_node::twin::{self, Twin};
use astromesh_node::{log_sink, process, service};
use astromesh_proto::ipc::{FromInit, SlotsWork};
use astromesh_proto::update::Origin;
use astromesh_release::running::running_version;
use astromesh_settings::read_update;
use reconcile::Next;
use shared::{Shared, lock, slots};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
            Ok(FromInit::Slots { work, done, reason }) => {
                if work == SlotsWork::Bless {
                    shared.settle();
                } else {
                    let worked = if done { Ok(()) } else { Err(reason.as_str().to_owned()) };
                    *lock(&shared.worked) = Some((work, worked));
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
        Next::Reboot => {
            // Only what was about to happen when the service ended; an operator who asked for no reboot gets none.
            log::info!("a release is installed and waits for a reboot");
        }
        Next::Resume => apply::resume(shared),
    }
    let mut looked: Option<Instant> = None;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if schedule::is_due(&shared.policy, now, looked.map(|at| at.elapsed().as_secs())) {
            let job = Job { origin: Origin::Channel, dry_run: false, reboot: true, resumed: true };
            // A registry that can't be reached is asked again at the next look at the clock.
            looked = apply::by_itself(shared, &job).then(Instant::now);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
