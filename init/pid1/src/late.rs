//! A machine-config that comes late: its cloud's metadata server is asked again, for as long as nothing else gave one.
//!
//! A node without a machine-config knows no operator, so nobody could tell it to look again. Where the firmware names a
//! cloud and its server gave nothing at boot, the job `metadata` is run again and again: the pauses grow, so that a cloud
//! full of such nodes is not flooded, and they have an end, so that a document is found soon after it is there. What it
//! gives is read by the job `config`, as at boot. Until then nothing of the network but these jobs touches the links
//! (the services that wait for the machine-config aren't started), so each attempt borrows them as the first one did.
//!
//! It reboots nothing: a server that is slow at every boot would make that a loop.
//!
//! Nothing here allocates. The steps know nothing of processes beside their number, so that a table test walks them
//! without one.

use crate::boot::carry::carry;
use crate::ground::Ground;
use crate::job::{End, Job, Reason, Running, StartError};
use astromesh_node::places::EXIT_FOUND;
use astromesh_node::process;
use astromesh_proto::cloud::Cloud;
use astromesh_proto::ipc;
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Pid, WaitStatus};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// The job that asks.
pub const METADATA: Job = Job::of(process::METADATA);

/// The job that reads the document.
pub const CONFIG: Job = Job::of(process::CONFIG);

/// Pause before the server is asked for the second time: the first attempt has been patient already.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// Longest pause: how long an operator who has set the user data waits at most, and a question of some hundred bytes.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why nobody could be asked, or nothing be read.
#[derive(Debug, thiserror::Error)]
enum LateError {
    #[error("there is no memory for the answer: {0}")]
    MakeMemory(Errno),
    #[error("the process could not be started: {0}")]
    Start(#[from] StartError),
}

/// What a machine-config that is waited for did.
#[derive(Debug)]
pub enum News {
    /// It has not come, for this reason; it is asked for again.
    NotYet(Reason),
    /// It has come, and is read now.
    Come(Cloud),
    /// It was read: to its end, or not for this reason. Nobody is asked again.
    Read(Cloud, Result<(), Reason>),
}

/// The machine-config that is waited for, if one is. `R` is what is known of the job that runs: [`Running`], but in tests.
#[derive(Debug)]
pub struct Late<R = Running>(Option<Awaited<R>>);

#[derive(Debug)]
struct Awaited<R> {
    cloud: Cloud,
    pause: Duration,
    step: Step<R>,
}

#[derive(Debug)]
enum Step<R> {
    /// The server is asked again at this moment.
    Pause(Instant),
    /// It is asked; the answer is left in this memory.
    Asking(R, OwnedFd),
    /// It has answered with this.
    Given(OwnedFd),
    /// The answer is read.
    Reading(R),
}

impl<R> Default for Late<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R> Late<R> {
    /// From now on, this cloud's server is asked until it has given a machine-config.
    pub fn expect(&mut self, cloud: Cloud, now: Instant) {
        self.0 = Some(Awaited { cloud, pause: FIRST_PAUSE, step: Step::Pause(now + FIRST_PAUSE) });
    }

    /// Whether a machine-config is waited for.
    pub fn is_expected(&self) -> bool {
        self.0.is_some()
    }
}

impl<R> Awaited<R> {
    /// Nothing came of it: after a longer pause, the server is asked once more.
    fn again(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.step = Step::Pause(now + self.pause);
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(self.step, Step::Pause(at) if at <= now)
    }
}

impl Late {
    /// Starts the job that is due, and kills one that hangs.
    pub fn turn(&mut self, ground: &Ground, now: Instant) {
        let Some(awaited) = &mut self.0 else { return };
        let is_due = awaited.is_due(now);
        let next = match &mut awaited.step {
            Step::Asking(running, _) | Step::Reading(running) => {
                running.kill_if_overdue(now);
                return;
            }
            Step::Given(bytes) => read(bytes, ground),
            Step::Pause(_) if is_due => ask(awaited.cloud, ground),
            Step::Pause(_) => return,
        };
        match next {
            Ok(step) => awaited.step = step,
            Err(error) => {
                log::warn!("config: {error}; {} is asked for again later", awaited.cloud.source());
                awaited.again(now);
            }
        }
    }

    /// Takes note that a process ended: what became of the machine-config, if the process was one of these jobs.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus, now: Instant) -> Option<News> {
        let awaited = self.0.as_mut()?;
        let runs = match &awaited.step {
            Step::Asking(running, _) | Step::Reading(running) => Some(running.pid()),
            Step::Pause(_) | Step::Given(_) => None,
        };
        if runs != Some(pid) {
            return None;
        }
        let cloud = awaited.cloud;
        match core::mem::replace(&mut awaited.step, Step::Pause(now)) {
            Step::Asking(running, memory) => {
                let reason = match running.end(status) {
                    (End::Code(EXIT_FOUND), _) => match taken(&memory) {
                        Ok(bytes) => {
                            awaited.step = Step::Given(bytes);
                            return Some(News::Come(cloud));
                        }
                        Err(_) => ipc::cut("its answer can't be carried: there is no memory"),
                    },
                    (_, reason) => reason,
                };
                awaited.again(now);
                Some(News::NotYet(reason))
            }
            Step::Reading(running) => {
                self.0 = None;
                Some(News::Read(
                    cloud,
                    match running.end(status) {
                        (End::Code(0), _) => Ok(()),
                        (_, reason) => Err(reason),
                    },
                ))
            }
            // Neither has a process.
            Step::Pause(_) | Step::Given(_) => None,
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        match &self.0.as_ref()?.step {
            Step::Pause(at) => Some(*at),
            Step::Asking(running, _) | Step::Reading(running) => running.deadline(),
            // Its job is started in the same turn.
            Step::Given(_) => None,
        }
    }
}

fn ask(cloud: Cloud, ground: &Ground) -> Result<Step<Running>, LateError> {
    let memory = answer().map_err(LateError::MakeMemory)?;
    let streams = [ground.null.as_fd(), memory.as_fd()];
    let running = Running::start(&METADATA, Some(cloud.argument()), streams, ground)?;
    Ok(Step::Asking(running, memory))
}

fn read(bytes: &OwnedFd, ground: &Ground) -> Result<Step<Running>, LateError> {
    let streams = [bytes.as_fd(), ground.kmsg.as_fd()];
    Ok(Step::Reading(Running::start(&CONFIG, Some(c"plain"), streams, ground)?))
}

/// Memory into which the job `metadata` writes what it was given.
pub fn answer() -> Result<OwnedFd, Errno> {
    rustix::fs::memfd_create(c"metadata", MemfdFlags::CLOEXEC)
}

/// What the job left in that memory: copied and bounded, so that nothing that may still hold the memory can change it.
pub fn taken(memory: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::seek(memory, SeekFrom::Start(0))?;
    carry(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_with_growing_pauses_that_have_an_end_and_never_given_up() {
        let began = Instant::now();
        let mut late = Late::<u32>::default();
        assert!(!late.is_expected());
        late.expect(Cloud::Gce, began);
        let (mut now, mut asked, mut last) = (began, 0, Duration::ZERO);
        while now < began + Duration::from_secs(24 * 3600) {
            let awaited = late.0.as_mut().expect("nobody gave one");
            let Step::Pause(at) = awaited.step else { panic!("no job was started") };
            assert!(!awaited.is_due(now) && awaited.is_due(at));
            let pause = at - now;
            assert!(pause >= last && pause <= LONGEST_PAUSE, "{pause:?} after {last:?}");
            (now, asked, last) = (at, asked + 1, pause);
            awaited.again(now);
        }
        assert_eq!(last, LONGEST_PAUSE);
        assert!((280..300).contains(&asked), "{asked} times in a day");
    }
}
