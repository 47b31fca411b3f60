//! After the boot: PID 1 waits, for as long as the machine is up.
//!
//! One thread, one `poll`: signals (children to reap), the services' sockets, the power button, and the clock (restarts
//! that are due, the watchdog). Nothing here allocates, blocks, or reads a byte that came over the network. An answer
//! that a service does not take is dropped.

mod memory;
mod power;
pub(crate) mod services;
pub(crate) mod trial;

use crate::boot::reboot;
use crate::boot::root::proof::device_name;
use crate::boot::timeline::Moment;
use crate::clearance::Clearance;
use crate::ground::Ground;
use crate::jobs::{self, Jobs};
use crate::node::{Config, Node};
use astromesh_node::clock::now_us;
use astromesh_node::places::OBSERVER;
use astromesh_node::twin::{self, Twin};
use astromesh_proto::control::{Mode, Outcome};
use astromesh_proto::ipc::{self, FromInit, MAX_MESSAGE, SlotsWork, ToInit};
use astromesh_sys::spawn::{Spawn, spawn};
use astromesh_sys::watchdog::PET_SECONDS;
use astromesh_sys::{heap, signals};
use astromesh_verity::Device;
use astromesh_verity::table::Verdict;
use power::{Buttons, How};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions};
use services::{COUNT, Own, Service};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use trial::Due;

/// How long services may take to end before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Most children reaped, or messages read from one service, before the others get their turn.
const AT_ONCE: usize = 64;

/// Supervises the node until it is told to stop, then stops it.
pub fn run((ground, mut node): (Ground, Node)) -> ! {
    let signals = signals::block_and_open(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR]);
    let buttons = Buttons::open();
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals can't be received: {error}");
            reboot()
        }
    };
    if node.maintenance().is_none() {
        node.timeline.push("healthy", Moment::now(), Outcome::Running, ipc::cut("waiting for the runtime"));
    }
    log::info!("boot is over after {} ms", now_us() / 1000);
    if twin::is(Twin::Observed) {
        observe(&ground);
    }
    astromesh_sys::pages::forget_code();
    heap::seal();
    let how = watch(&ground, &mut node, &signals, &buttons);
    stop(&ground, &mut node, &signals, how)
}

/// Starts the process that writes down what each other one is. It waits by itself until the boot has settled; PID 1 reaps it
/// like any orphan.
fn observe(ground: &Ground) {
    let fds = [ground.null.as_fd(), ground.kmsg.as_fd(), ground.kmsg.as_fd()];
    let what = Spawn { name: OBSERVER, argument: None, namespaces: 0, cgroup: None, fds: &fds };
    if let Err(error) = spawn(&what) {
        log::error!("{}: {error}", OBSERVER.to_string_lossy());
    }
}

/// Waits for events and serves them, until one of them is a reason to stop.
fn watch(ground: &Ground, node: &mut Node, signals: &OwnedFd, buttons: &Buttons) -> How {
    let mut pet_at = Instant::now();
    loop {
        let now = Instant::now();
        if pet_at <= now {
            ground.pet();
            pet_at = now + Duration::from_secs(PET_SECONDS);
        }
        reap(node);
        restart_due(ground, node);
        node.jobs.kill_overdue(now);
        if let Some(how) = judge(node, now) {
            return how;
        }
        if let Some(how) = buttons.pressed() {
            return how;
        }
        while let Some(signal) = signals::next(signals) {
            match signal {
                libc::SIGTERM | libc::SIGPWR => return How::PowerOff,
                libc::SIGINT => return How::Reboot,
                _ => {}
            }
        }
        for service in Service::ALL {
            if let Some(how) = serve(ground, node, service) {
                return how;
            }
        }
        begin_job(ground, node);
        let due =
            [node.services.next_due(), node.trial.next_due(), node.jobs.next_due()].into_iter().flatten();
        let until = due.chain([pet_at]).min().unwrap_or(pet_at);
        wait(node, signals, buttons, until.saturating_duration_since(Instant::now()));
    }
}

/// Sleeps until something happens, or for `longest`.
fn wait(node: &Node, signals: &OwnedFd, buttons: &Buttons, longest: Duration) {
    let mut fds = heapless::Vec::<PollFd<'_>, { COUNT + 1 + power::MOST_BUTTONS }>::new();
    let _ = fds.push(PollFd::new(signals, PollFlags::IN));
    for socket in node.services.sockets() {
        let _ = fds.push(PollFd::new(socket, PollFlags::IN));
    }
    for button in buttons.fds() {
        let _ = fds.push(PollFd::new(button, PollFlags::IN));
    }
    // Rounded up, so that what is due is due when we wake.
    let longest = longest + Duration::from_millis(1);
    let timeout = Timespec {
        tv_sec: i64::try_from(longest.as_secs()).unwrap_or(1),
        tv_nsec: longest.subsec_nanos().into(),
    };
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
}

/// Does what the trial of this release asks for; `Some` when that is a reason to stop.
fn judge(node: &mut Node, now: Instant) -> Option<How> {
    match node.trial.due(now) {
        Due::Nothing => None,
        Due::Bless => {
            node.trial.blessing();
            if !node.jobs.ask(SlotsWork::Bless) {
                // One waits already, and its end is the answer to this one too.
                log::warn!("slots: a blessing waits already");
            }
            None
        }
        Due::Reboot => {
            log::error!("health did not come to hold in time: this release loses a try");
            Some(How::Reboot)
        }
    }
}

/// Starts the job that is next, if none runs.
fn begin_job(ground: &Ground, node: &mut Node) {
    while let Some(work) = node.jobs.take_next() {
        match Jobs::start(work, ground) {
            Ok(running) => node.jobs.started(work, running),
            Err(error) => {
                log::error!("slots: {work:?} can't be started: {error}");
                finish_job(node, work, &jobs::Outcome::not_started(&error));
            }
        }
    }
}

/// Takes note that the slots were looked at: the trial begins. An outcome that says nothing says "blessed".
fn begin_trial(node: &mut Node, found: &jobs::Outcome) {
    if node.trial.begin(node.rules, *found == jobs::Outcome::OnTrial) {
        let (outcome, note) = match found {
            jobs::Outcome::OnTrial => (Outcome::Done, "this release is on trial"),
            jobs::Outcome::Done => (Outcome::Done, "this release is kept"),
            jobs::Outcome::NotDone(_) => {
                (Outcome::Degraded, "the slots can't be looked at: no update, and no trial")
            }
        };
        log::info!("slots: {note}");
        node.timeline.finish("slots", outcome, note);
    }
}

/// Takes note of what became of work on the slots, and tells the service that may have asked for it.
fn finish_job(node: &mut Node, work: SlotsWork, outcome: &jobs::Outcome) {
    if let jobs::Outcome::NotDone(reason) = outcome {
        log::warn!("slots: {work:?} is not done: {reason}");
    }
    if work == SlotsWork::Inspect {
        begin_trial(node, outcome);
    }
    let done = outcome.is_done();
    if work == SlotsWork::Bless && node.trial.blessed(done) {
        node.timeline.push("kept", Moment::now(), Outcome::Done, ipc::cut("the boot loader counts no more"));
    }
    if let Some(socket) = node.services.socket(Service::Update) {
        send(socket, &FromInit::Slots { work, done, reason: outcome.reason() });
    }
}

/// Takes the ends of processes: of services, and of every orphan of the machine.
fn reap(node: &mut Node) {
    // Bounded, so that a storm of dying orphans can't keep PID 1 from the watchdog; SIGCHLD stays pending.
    for _ in 0..AT_ONCE * 16 {
        let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else { return };
        if let Some((work, outcome)) = node.jobs.ended(pid, status) {
            finish_job(node, work, &outcome);
            continue;
        }
        if let Some(service) = node.services.ended(pid) {
            let name = service.name();
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => log::warn!("{name} ended with exit code {code}"),
                (_, Some(signal)) => log::warn!("{name} was ended by signal {signal}"),
                _ => log::warn!("{name} ended"),
            }
            if service == Service::Agent {
                // Whatever it left behind must not meet its successor.
                node.services.kill_agent();
            }
            if service == Service::Control {
                // Nobody probes any more: health that held is not known to hold.
                node.trial.health(false);
            }
        }
    }
}

/// Starts again what is due.
fn restart_due(ground: &Ground, node: &mut Node) {
    for service in node.services.due() {
        let started = match service {
            Service::Net => node.services.start(Own::Net, ground),
            Service::Control => node.services.start(Own::Control, ground),
            Service::Update => node.services.start(Own::Update, ground),
            Service::Agent => match &node.config {
                Config::Applied(config) => node.services.launch(Clearance::new(ground, config)),
                Config::Maintenance(_) => continue,
            },
        };
        node.services.count_restart(service);
        match started {
            Ok(()) => log::info!("{} started again", service.name()),
            Err(error) => {
                log::error!("{}: {error}", service.name());
                node.services.put_off(service);
            }
        }
    }
}

/// Reads what a service says and does it; `Some` when it is a reason to stop.
fn serve(ground: &Ground, node: &mut Node, service: Service) -> Option<How> {
    let mut buffer = [0; MAX_MESSAGE];
    for _ in 0..AT_ONCE {
        let received = node.services.socket(service).map(|socket| rustix::io::read(socket, &mut buffer));
        match received {
            Some(Ok(0)) => node.services.hang_up(service),
            Some(Ok(count)) => match ipc::decode::<ToInit>(&buffer[..count]) {
                Some(message) => {
                    if let Some(how) = obey(ground, node, service, message) {
                        return Some(how);
                    }
                }
                None => log::warn!("{}: {count} bytes that are no message", service.name()),
            },
            None | Some(Err(_)) => break,
        }
    }
    None
}

/// Does what a service asks for, if its row lets it ask for that. `control` may ask for what operators may; `update` for
/// work on the slots, but not for a blessing: that is for PID 1 alone.
fn obey(ground: &Ground, node: &mut Node, service: Service, message: ToInit) -> Option<How> {
    if !service.row().may_say(&message) {
        log::warn!("{}: may not say {message:?}", service.name());
        return None;
    }
    match (service, message) {
        (Service::Net, ToInit::Ready) => {
            node.timeline.finish("network", Outcome::Done, "configured");
        }
        (Service::Control, ToInit::Ready) => {
            node.timeline.finish("control", Outcome::Done, "serving");
        }
        (Service::Control, ToInit::Waiting { reason }) => {
            node.timeline.remark("control", &reason);
        }
        (Service::Control, ToInit::Health { healthy, reason }) => {
            node.trial.health(healthy);
            if healthy {
                node.timeline.finish("healthy", Outcome::Done, "health holds");
                log::info!("healthy after {} ms", now_us() / 1000);
            } else {
                log::warn!("health: {reason}");
            }
        }
        (Service::Control, ToInit::Ask { memory }) => answer(ground, node, memory),
        (Service::Control, ToInit::RestartAgent) => {
            log::warn!("the operator ends the agent");
            node.services.kill_agent();
        }
        (Service::Control | Service::Update, ToInit::Reboot) => return Some(How::Reboot),
        (Service::Update, ToInit::Slots(work)) => {
            if !node.jobs.ask(work) {
                finish_job(node, work, &jobs::Outcome::asked_twice());
            }
        }
        (Service::Control, ToInit::Poweroff) => return Some(How::PowerOff),
        // Its row was widened, and nothing here was.
        (_, message) => log::warn!("{}: nothing is done for {message:?}", service.name()),
    }
    None
}

/// Tells `control` all there is to know; what it does not take at once is dropped.
fn answer(ground: &Ground, node: &Node, memory: bool) {
    let Some(socket) = node.services.socket(Service::Control) else { return };
    let status = Device::status(&device_name());
    let (hash, verified) = match &status {
        Ok(status) => {
            let mut hash = heapless::String::new();
            let _ = core::fmt::Write::write_fmt(&mut hash, format_args!("{}", status.table.root_hash));
            let verified = status.verdict == Verdict::Valid && status.read_only;
            (hash, verified && *ground.root().hash() == status.table.root_hash)
        }
        Err(_) => (heapless::String::new(), false),
    };
    let about = FromInit::Node {
        mode: if node.maintenance().is_some() { Mode::Maintenance } else { Mode::Running },
        root_hash: hash,
        root_verified: verified,
        watchdog: ground.watchdog.is_some(),
        config_error: node.maintenance().cloned().unwrap_or_default(),
        var_on_disk: node.var_on_disk,
        allocations: heap::allocations_since_sealed(),
    };
    send(socket, &about);
    for message in node.timeline.messages().chain(node.services.messages(memory)) {
        send(socket, &message);
    }
    send(socket, &FromInit::End);
}

fn send(socket: &OwnedFd, message: &FromInit) {
    let mut buffer = [0; MAX_MESSAGE];
    if let Some(bytes) = ipc::encode(message, &mut buffer) {
        match rustix::io::write(socket.as_fd(), bytes) {
            Ok(_) | Err(Errno::AGAIN | Errno::PIPE) => {}
            Err(cause) => log::warn!("control does not listen: {cause}"),
        }
    }
}

/// Ends the services, unmounts what is written to, and ends the machine. The watchdog stays armed to the last.
fn stop(ground: &Ground, node: &mut Node, signals: &OwnedFd, how: How) -> ! {
    log::info!("stopping: {how:?}");
    node.services.stop_restarting();
    node.services.signal(Signal::TERM);
    let deadline = Instant::now() + STOP_WITHIN;
    while node.services.any_running() && Instant::now() < deadline {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _ = rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&timeout));
        while signals::next(signals).is_some() {}
        reap(node);
        node.services.stop_restarting();
        ground.pet();
    }
    node.services.kill_agent();
    node.services.signal(Signal::KILL);
    std::thread::sleep(Duration::from_millis(50));
    power::down(how)
}
