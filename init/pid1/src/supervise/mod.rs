//! After the boot: PID 1 waits, for as long as the machine is up.
//!
//! One thread, one `poll`: signals (children to reap), the services' sockets, the power button, and the clock (restarts
//! that are due, the watchdog). Nothing here allocates, blocks, or reads a byte that came over the network. An answer
//! that a service does not take is dropped.

mod late;
mod memory;
mod power;
pub(crate) mod services;
pub(crate) mod trial;

use crate::boot::reboot;
use crate::boot::root::proof::device_name;
use crate::boot::timeline::Moment;
use crate::clearance::Clearance;
use crate::ground::Ground;
use crate::job::{End, Running};
use crate::jobs::{self, Jobs, Order};
use crate::node::{Config, Node};
use astromesh_node::clock::now_us;
use astromesh_node::places::OBSERVER;
use astromesh_node::twin::{self, Twin};
use astromesh_proto::control::{Mode, StageOutcome};
use astromesh_proto::ipc::{self, FromInit, MAX_MESSAGE, SlotsWork, ToInit};
use astromesh_sys::spawn::{Spawn, spawn};
use astromesh_sys::watchdog::PET_SECONDS;
use astromesh_sys::{heap, signals};
use astromesh_verity::Device;
use astromesh_verity::table::Verdict;
use power::{Buttons, How};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus};
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
        node.timeline.push(
            "healthy",
            Moment::now(),
            StageOutcome::Running,
            ipc::cut("waiting for the runtime"),
        );
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
        let taken = Taken::all(signals);
        let all_reaped = reap(node, &taken);
        restart_due(ground, node);
        node.jobs.kill_overdue(now);
        node.late.turn(ground, now);
        if let Some(how) = judge(node, now) {
            return how;
        }
        if let Some(how) = buttons.pressed().or(taken.how) {
            return how;
        }
        for service in Service::ALL {
            if let Some(how) = serve(ground, node, service) {
                return how;
            }
        }
        begin_job(ground, node);
        if node.jobs.reboot_is_due() {
            return How::Reboot;
        }
        let due =
            [node.services.next_due(), node.trial.next_due(), node.jobs.next_due(), node.late.next_due()];
        let due = due.into_iter().flatten().chain([pet_at]).min().unwrap_or(pet_at);
        // Who is left to be reaped has no signal any more that would wake us.
        let until = if all_reaped { due } else { now };
        wait(node, signals, buttons, until.saturating_duration_since(Instant::now()));
    }
}

/// The signals that were pending, taken. Children are reaped after that and never before: a child that ends in between has
/// sent its signal already, and nothing would wake us for it.
struct Taken {
    /// The machine is to stop, and how.
    how: Option<How>,
}

impl Taken {
    fn all(signals: &OwnedFd) -> Self {
        let mut how = None;
        while let Some(signal) = signals::next(signals) {
            match signal {
                libc::SIGTERM | libc::SIGPWR => how = how.or(Some(How::PowerOff)),
                libc::SIGINT => how = how.or(Some(How::Reboot)),
                _ => {}
            }
        }
        Self { how }
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
            if !node.jobs.ask(Order::own(SlotsWork::Bless)) {
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
    while let Some(order) = node.jobs.take_next() {
        match Jobs::start(order.work, ground) {
            Ok(running) => node.jobs.started(order, running),
            Err(error) => {
                log::error!("slots: {:?} can't be started: {error}", order.work);
                finish_job(node, order, &jobs::JobOutcome::not_started(&error));
            }
        }
    }
}

/// Takes note that the slots were looked at: the trial begins. An outcome that says nothing says "blessed".
fn begin_trial(node: &mut Node, found: &jobs::JobOutcome) {
    if node.trial.begin(node.rules, *found == jobs::JobOutcome::OnTrial) {
        let (outcome, note) = match found {
            jobs::JobOutcome::OnTrial => (StageOutcome::Done, "this release is on trial"),
            jobs::JobOutcome::Done => (StageOutcome::Done, "this release is kept"),
            jobs::JobOutcome::NotDone(_) => {
                (StageOutcome::Degraded, "the slots can't be looked at: no update, and no trial")
            }
        };
        log::info!("slots: {note}");
        node.timeline.finish("slots", outcome, note);
    }
}

/// Takes note of what became of work on the slots, and tells the service that may have asked for it.
fn finish_job(node: &mut Node, order: Order, outcome: &jobs::JobOutcome) {
    let work = order.work;
    if let jobs::JobOutcome::NotDone(reason) = outcome {
        log::warn!("slots: {work:?} is not done: {reason}");
    }
    if work == SlotsWork::Inspect {
        begin_trial(node, outcome);
    }
    if work == SlotsWork::Bless && node.trial.blessed(outcome.is_done()) {
        node.timeline.push(
            "kept",
            Moment::now(),
            StageOutcome::Done,
            ipc::cut("the boot loader counts no more"),
        );
    }
    tell_update(node, order, outcome);
}

/// Tells `update` how its work ended.
fn tell_update(node: &Node, Order { work, number }: Order, outcome: &jobs::JobOutcome) {
    if let Some(socket) = node.services.socket(Service::Update) {
        send(socket, &FromInit::Slots { work, number, done: outcome.is_done(), reason: outcome.reason() });
    }
}

/// Takes note that the job which grows `/var` has ended. What it left says how far it got.
fn finish_growth(node: &mut Node, growth: Running, status: WaitStatus) {
    let (end, left) = growth.end(status);
    let outcome = if end == End::Code(0) { StageOutcome::Done } else { StageOutcome::Degraded };
    node.timeline.finish("grow", outcome, &left);
}

/// Takes the ends of processes: of services, and of every orphan of the machine; whether that were all.
fn reap(node: &mut Node, _: &Taken) -> bool {
    // Bounded, so that a storm of dying orphans can't keep PID 1 from the watchdog.
    for _ in 0..AT_ONCE * 16 {
        let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else { return true };
        if let Some(growth) = node.growth.take_if(|growth| growth.pid() == pid) {
            finish_growth(node, growth, status);
            continue;
        }
        if let Some((order, outcome)) = node.jobs.ended(pid, status) {
            finish_job(node, order, &outcome);
            continue;
        }
        if late::ended(node, pid, status) {
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
    false
}

/// Starts again what is due.
fn restart_due(ground: &Ground, node: &mut Node) {
    for service in node.services.due() {
        let again = node.services.was_started(service);
        let started = match service {
            Service::Net => node.services.start(Own::Net, ground),
            Service::Control => node.services.start(Own::Control, ground),
            Service::Update => node.services.start(Own::Update, ground),
            Service::Agent => match &node.config {
                Config::Applied(config) => node.services.launch(Clearance::new(ground, config)),
                Config::Maintenance(_) => continue,
            },
        };
        if again {
            node.services.count_restart(service);
        }
        match started {
            Ok(()) if again => log::info!("{} started again", service.name()),
            Ok(()) => begun(node, service),
            Err(error) => {
                log::error!("{}: {error}", service.name());
                node.services.put_off(service);
            }
        }
    }
}

/// Takes note that a service runs for the first time, because its machine-config came late. Those that say when they are
/// ready end their record themselves.
fn begun(node: &mut Node, service: Service) {
    log::info!("{} started", service.name());
    match service {
        Service::Agent => node.timeline.finish("agent", StageOutcome::Done, "runtime started"),
        Service::Update => node.timeline.finish("update", StageOutcome::Done, "service started"),
        Service::Net | Service::Control => false,
    };
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
            node.timeline.finish("network", StageOutcome::Done, "configured");
        }
        (Service::Control, ToInit::Ready) => {
            node.timeline.finish("control", StageOutcome::Done, "serving");
        }
        (Service::Control, ToInit::Waiting { reason }) => {
            node.timeline.remark("control", &reason);
        }
        (Service::Control, ToInit::Health { healthy, reason }) => {
            node.trial.health(healthy);
            if healthy {
                node.timeline.finish("healthy", StageOutcome::Done, "health holds");
                log::info!("healthy after {} ms", now_us() / 1000);
            } else {
                log::warn!("health: {reason}");
            }
        }
        (Service::Control, ToInit::Ask { memory, number }) => answer(ground, node, memory, number),
        (Service::Control, ToInit::RestartAgent) => {
            log::warn!("the operator ends the agent");
            node.services.kill_agent();
        }
        (Service::Control, ToInit::Reboot) => return Some(How::Reboot),
        (Service::Update, ToInit::Reboot) => {
            node.jobs.ask_reboot();
            if node.jobs.is_busy() {
                log::info!("the reboot that update asks for waits for work on the slots");
            }
        }
        (Service::Update, ToInit::Slots { work, number }) => {
            let order = Order { work, number };
            if !node.jobs.ask(order) {
                // An answer and no more: the trial begins by what a look at the slots found, and none ended here.
                tell_update(node, order, &jobs::JobOutcome::asked_twice());
            }
        }
        (Service::Control, ToInit::Poweroff) => return Some(How::PowerOff),
        // Its row was widened, and nothing here was.
        (_, message) => log::warn!("{}: nothing is done for {message:?}", service.name()),
    }
    None
}

/// Tells `control` all there is to know; what it does not take at once is dropped.
fn answer(ground: &Ground, node: &Node, memory: bool, number: u32) {
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
        var_on_disk: node.var.is_some(),
        allocations: heap::allocations_since_sealed(),
        clock_was_behind: node.clock_was_behind,
    };
    send(socket, &about);
    for message in node.timeline.messages().chain(node.services.messages(memory)) {
        send(socket, &message);
    }
    send(socket, &FromInit::End { number });
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
    // It holds /var, which is to be unmounted. It ends with the step that it is in, and the next boot goes on.
    if let Some(growth) = &node.growth {
        growth.kill();
    }
    let deadline = Instant::now() + STOP_WITHIN;
    while (node.services.any_running() || node.growth.is_some()) && Instant::now() < deadline {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _ = rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&timeout));
        reap(node, &Taken::all(signals));
        node.services.stop_restarting();
        ground.pet();
    }
    node.services.kill_agent();
    node.services.signal(Signal::KILL);
    std::thread::sleep(Duration::from_millis(50));
    power::down(how)
}
