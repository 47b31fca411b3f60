//! After the boot: PID 1 waits, for as long as the machine is up.
//!
//! One thread, one `poll`: signals (children to reap), the services' sockets, the power button, and the clock (restarts
//! that are due, the watchdog). Nothing here allocates, blocks, or reads a byte that came over the network. An answer
//! that a service does not take is dropped.

mod memory;
mod power;
pub(crate) mod services;
pub(crate) mod trial;

use crate::boot::restart;
use crate::boot::root::proof::{VerifiedRoot, device_name};
use crate::boot::timeline::Moment;
use crate::node::Node;
use astromesh_node::clock::now_us;
use astromesh_node::places::{EXIT_DONE, EXIT_ON_TRIAL};
use astromesh_proto::control::{Mode, Outcome};
use astromesh_proto::ipc::{self, FromInit, MAX_MESSAGE, SlotsWork, ToInit};
use astromesh_sys::watchdog::PET_SECONDS;
use astromesh_sys::{heap, signals};
use astromesh_verity::Device;
use astromesh_verity::table::Verdict;
use power::{Buttons, How};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions};
use services::{AGENT, CONTROL, COUNT, NET, UPDATE};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use trial::Due;

/// How long services may take to end before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Most children reaped, or messages read from one service, before the others get their turn.
const AT_ONCE: usize = 64;

/// Supervises the node until it is told to stop, then stops it.
pub fn run(mut node: Node) -> ! {
    let signals = signals::block_and_open(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR]);
    let buttons = Buttons::open();
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals can't be received: {error}");
            restart()
        }
    };
    if node.plan.maintenance.is_none() {
        node.timeline.push("healthy", Moment::now(), Outcome::Running, ipc::cut("waiting for the runtime"));
    }
    log::info!("boot is over after {} ms", now_us() / 1000);
    astromesh_sys::pages::forget_code();
    heap::seal();
    let how = watch(&mut node, &signals, &buttons);
    stop(&mut node, &signals, how)
}

/// Waits for events and serves them, until one of them is a reason to stop.
fn watch(node: &mut Node, signals: &OwnedFd, buttons: &Buttons) -> How {
    let mut pet_at = Instant::now();
    loop {
        let now = Instant::now();
        if pet_at <= now {
            if let Some(watchdog) = &node.watchdog {
                watchdog.pet();
            }
            pet_at = now + Duration::from_secs(PET_SECONDS);
        }
        reap(node);
        restart_due(node);
        if let Some(how) = judge(node, now) {
            return how;
        }
        if let Some(how) = buttons.pressed() {
            return how;
        }
        while let Some(signal) = signals::next(signals) {
            match signal {
                libc::SIGTERM | libc::SIGPWR => return How::PowerOff,
                libc::SIGINT => return How::Restart,
                _ => {}
            }
        }
        for index in 0..COUNT {
            if let Some(how) = serve(node, index) {
                return how;
            }
        }
        let due = node.services.next_due().into_iter().chain(node.trial.next_due());
        let until = due.chain([pet_at]).min().unwrap_or(pet_at);
        wait(node, signals, buttons, until.saturating_duration_since(Instant::now()));
    }
}

/// Sleeps until something happens, or for `longest`.
fn wait(node: &Node, signals: &OwnedFd, buttons: &Buttons, longest: Duration) {
    let mut fds = heapless::Vec::<PollFd<'_>, { COUNT + 1 + power::MOST_BUTTONS }>::new();
    let _ = fds.push(PollFd::new(signals, PollFlags::IN));
    for socket in node.services.sockets().into_iter().flatten() {
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

/// Does what the judgement on this release asks for; `Some` when that is a reason to stop.
fn judge(node: &mut Node, now: Instant) -> Option<How> {
    match node.trial.due(now) {
        Due::Nothing => None,
        Due::Bless => {
            begin_work(node, SlotsWork::Bless);
            None
        }
        Due::Restart => {
            log::error!("health did not come to hold in time: this release loses a try");
            Some(How::Restart)
        }
    }
}

/// Starts a `slots` process; whether it could be.
fn begin_work(node: &mut Node, work: SlotsWork) -> bool {
    match trial::start(work, &node.kmsg, &node.null) {
        Ok(pid) => {
            node.trial.started(pid, work);
            true
        }
        Err(error) => {
            log::error!("slots: {work:?} can't be started: {error}");
            false
        }
    }
}

/// Takes note that the slots were looked at: the judgement begins. An exit code that says nothing says "kept".
fn begin_judgement(node: &mut Node, code: Option<i32>) {
    let on_trial = code == Some(EXIT_ON_TRIAL);
    if node.trial.begin(node.plan.trial, on_trial) {
        let (outcome, note) = match code {
            Some(EXIT_ON_TRIAL) => (Outcome::Done, "this release is on trial"),
            Some(EXIT_DONE) => (Outcome::Done, "this release is kept"),
            _ => (Outcome::Degraded, "the slots can't be looked at: no update, and no trial"),
        };
        log::info!("slots: {note}");
        node.timeline.finish("slots", outcome, note);
    }
}

/// Takes note of how a `slots` process ended, and tells who may have asked for it.
fn finish_work(node: &mut Node, work: SlotsWork, done: bool) {
    if work == SlotsWork::Bless && node.trial.blessed(done) {
        node.timeline.push("kept", Moment::now(), Outcome::Done, ipc::cut("the boot loader counts no more"));
    }
    if let Some(socket) = node.services.sockets()[UPDATE] {
        send(socket, &FromInit::Slots { work, done });
    }
}

/// Takes the ends of processes: of services, and of every orphan of the machine.
fn reap(node: &mut Node) {
    // Bounded, so that a storm of dying orphans can't keep PID 1 from the watchdog; SIGCHLD stays pending.
    for _ in 0..AT_ONCE * 16 {
        let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else { return };
        if let Some(work) = node.trial.ended(pid) {
            let code = status.exit_status();
            if !matches!(code, Some(EXIT_DONE | EXIT_ON_TRIAL)) {
                log::warn!("slots: {work:?} ended with {code:?}, signal {:?}", status.terminating_signal());
            }
            if work == SlotsWork::Inspect {
                begin_judgement(node, code);
            }
            let on_trial = work == SlotsWork::Inspect && code == Some(EXIT_ON_TRIAL);
            finish_work(node, work, on_trial || code == Some(EXIT_DONE));
            if let Some(waiting) = node.trial.take_waiting() {
                if !begin_work(node, waiting) {
                    finish_work(node, waiting, false);
                }
            }
            continue;
        }
        if let Some(index) = node.services.ended(pid) {
            let name = services::name(index);
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => log::warn!("{name} ended with exit code {code}"),
                (_, Some(signal)) => log::warn!("{name} was ended by signal {signal}"),
                _ => log::warn!("{name} ended"),
            }
            if index == AGENT {
                // Whatever it left behind must not meet its successor.
                node.services.kill_agent();
            }
            if index == CONTROL {
                // Nobody probes any more: health that held is not known to hold.
                node.trial.health(false);
            }
        }
    }
}

/// Starts again what is due.
fn restart_due(node: &mut Node) {
    for index in node.services.due() {
        let started = match (&node.root, index) {
            (Some(root), AGENT) => node.services.launch(root, &node.kmsg, &node.null),
            (None, AGENT) => continue,
            _ => node.services.start(index, &node.kmsg, &node.null),
        };
        node.services.count_restart(index);
        match started {
            Ok(()) => log::info!("{} started again", services::name(index)),
            Err(error) => {
                log::error!("{}: {error}", services::name(index));
                node.services.put_off(index);
            }
        }
    }
}

/// Reads what a service says and does it; `Some` when it is a reason to stop.
fn serve(node: &mut Node, index: usize) -> Option<How> {
    let mut buffer = [0; MAX_MESSAGE];
    for _ in 0..AT_ONCE {
        let received = node.services.sockets()[index].map(|socket| rustix::io::read(socket, &mut buffer));
        match received {
            Some(Ok(0)) => node.services.hang_up(index),
            Some(Ok(count)) => match ipc::decode::<ToInit>(&buffer[..count]) {
                Some(message) => {
                    if let Some(how) = obey(node, index, message) {
                        return Some(how);
                    }
                }
                None => log::warn!("{}: {count} bytes that are no message", services::name(index)),
            },
            None | Some(Err(_)) => break,
        }
    }
    None
}

/// Does what a service may ask for. `control` may ask for what operators may; `update` for work on the slots, but not to
/// keep a release: that is for PID 1 alone.
fn obey(node: &mut Node, index: usize, message: ToInit) -> Option<How> {
    match (index, message) {
        (NET, ToInit::Ready) => {
            node.timeline.finish("network", Outcome::Done, "configured");
        }
        (CONTROL, ToInit::Ready) => {
            node.timeline.finish("control", Outcome::Done, "serving");
        }
        (CONTROL, ToInit::Health { healthy, reason }) => {
            node.trial.health(healthy);
            if healthy {
                node.timeline.finish("healthy", Outcome::Done, "health holds");
                log::info!("healthy after {} ms", now_us() / 1000);
            } else {
                log::warn!("health: {reason}");
            }
        }
        (CONTROL, ToInit::Ask { memory }) => answer(node, memory),
        (CONTROL, ToInit::RestartAgent) => {
            log::warn!("the operator ends the agent");
            node.services.kill_agent();
        }
        (CONTROL | UPDATE, ToInit::Reboot) => return Some(How::Restart),
        (UPDATE, ToInit::Slots(work)) if work != SlotsWork::Bless => {
            if node.trial.is_busy() {
                if !node.trial.put_off(work) {
                    finish_work(node, work, false);
                }
            } else if !begin_work(node, work) {
                finish_work(node, work, false);
            }
        }
        (CONTROL, ToInit::Poweroff) => return Some(How::PowerOff),
        (_, message) => log::warn!("{}: may not say {message:?}", services::name(index)),
    }
    None
}

/// Tells `control` all there is to know; what it does not take at once is dropped.
fn answer(node: &Node, memory: bool) {
    let Some(socket) = node.services.sockets()[CONTROL] else { return };
    let status = Device::status(&device_name());
    let (hash, verified) = match &status {
        Ok(status) => {
            let mut hash = heapless::String::new();
            let _ = core::fmt::Write::write_fmt(&mut hash, format_args!("{}", status.table.root_hash));
            let opened_with = node.root.as_ref().map(VerifiedRoot::hash);
            let verified = status.verdict == Verdict::Valid && status.read_only;
            (hash, verified && opened_with == Some(&status.table.root_hash))
        }
        Err(_) => (heapless::String::new(), false),
    };
    let about = FromInit::Node {
        mode: if node.plan.maintenance.is_some() { Mode::Maintenance } else { Mode::Running },
        root_hash: hash,
        root_verified: verified,
        watchdog: node.watchdog.is_some(),
        config_error: node.plan.maintenance.clone().unwrap_or_default(),
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
fn stop(node: &mut Node, signals: &OwnedFd, how: How) -> ! {
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
        if let Some(watchdog) = &node.watchdog {
            watchdog.pet();
        }
    }
    node.services.kill_agent();
    node.services.signal(Signal::KILL);
    std::thread::sleep(Duration::from_millis(50));
    power::down(how)
}
