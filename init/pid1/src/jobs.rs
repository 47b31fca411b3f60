//! The jobs after the boot: one at a time, in the order in which they were asked for.
//!
//! All of them work on one boot partition and one pair of slots, so a second one waits. A blessing goes before what waits:
//! a release that has proven itself must not lose its place because somebody asks for another one. A job that hangs is
//! killed at its deadline ([`crate::job`]), and then the next begins.
//!
//! A reboot that `update` asks for waits until none of them runs or waits: what talks to the network must not be able to end
//! the machine between writing a release and reading it back. An operator's reboot doesn't wait.
//!
//! The queue knows nothing of processes beside their number, so that tests walk it without one.

use crate::job::{End, Job, Reason, Running, StartError};
use astromesh_node::places::{EXIT_DONE, EXIT_ON_TRIAL};
use astromesh_node::process;
use astromesh_proto::ipc::{self, SlotsWork};
use heapless::Deque;
use rustix::process::{Pid, WaitStatus};
use std::ffi::CStr;
use std::time::Instant;

/// The job that works on the slots.
const SLOTS: Job = Job::of(process::SLOTS);

/// Most jobs that wait: each kind of work once, so there is always room.
const MOST_WAITING: usize = 5;

/// Work, and who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What is to be done.
    pub work: SlotsWork,
    /// The number that the answer carries; 0 where nobody waits for one.
    pub number: u64,
}

impl Order {
    /// PID 1's own.
    pub fn own(work: SlotsWork) -> Self {
        Self { work, number: 0 }
    }
}

/// What became of work on the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would allocate, and PID 1 must not")]
pub enum JobOutcome {
    /// It is done; when looking, the release that runs is blessed.
    Done,
    /// When looking: the release that runs is on trial.
    OnTrial,
    /// It is not done, for this reason, and nothing that runs has changed.
    NotDone(Reason),
}

impl JobOutcome {
    fn of(work: SlotsWork, end: End, reason: Reason) -> Self {
        match (work, end) {
            (_, End::Code(EXIT_DONE)) => Self::Done,
            (SlotsWork::Inspect, End::Code(EXIT_ON_TRIAL)) => Self::OnTrial,
            _ => Self::NotDone(reason),
        }
    }

    /// Of work whose job could not be started.
    pub fn not_started(error: &StartError) -> Self {
        let mut reason = Reason::new();
        // What doesn't fit is left out.
        let _ = core::fmt::Write::write_fmt(&mut reason, format_args!("the job can't be started: {error}"));
        Self::NotDone(reason)
    }

    /// Of work that waits already.
    pub fn asked_twice() -> Self {
        Self::NotDone(ipc::cut("the same is asked for already, and waits for its turn"))
    }

    /// Why it is not done; empty when it is.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotDone(reason) => reason.clone(),
            _ => Reason::new(),
        }
    }

    /// Whether the work is done.
    pub fn is_done(&self) -> bool {
        !matches!(self, Self::NotDone(_))
    }
}

/// The queue. `R` is what is known of the job that runs: [`Running`], but in tests.
#[derive(Debug)]
pub struct Jobs<R = Running> {
    running: Option<(Order, R)>,
    waiting: Deque<Order, MOST_WAITING>,
    then_reboot: bool,
}

impl<R> Default for Jobs<R> {
    fn default() -> Self {
        Self { running: None, waiting: Deque::new(), then_reboot: false }
    }
}

impl<R> Jobs<R> {
    /// Asks for work; `false` when the same waits already.
    pub fn ask(&mut self, order: Order) -> bool {
        if self.waiting.iter().any(|waiting| waiting.work == order.work) {
            return false;
        }
        match order.work {
            SlotsWork::Bless => self.waiting.push_front(order).is_ok(),
            _ => self.waiting.push_back(order).is_ok(),
        }
    }

    /// Asks for a reboot once no job runs or waits.
    pub fn ask_reboot(&mut self) {
        self.then_reboot = true;
    }

    /// Whether a reboot was asked for.
    pub fn then_reboots(&self) -> bool {
        self.then_reboot
    }

    /// Whether the machine is to reboot now.
    pub fn reboot_is_due(&self) -> bool {
        self.then_reboot && !self.is_busy()
    }

    /// Whether any job runs or waits.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// The work to begin now: the first that waits, once nothing runs.
    pub fn take_next(&mut self) -> Option<Order> {
        if self.running.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Takes note of a job that was started.
    pub fn started(&mut self, order: Order, running: R) {
        self.running = Some((order, running));
    }

    /// Takes out the job that runs, if it is the one.
    pub fn take_if(&mut self, is_it: impl FnOnce(&R) -> bool) -> Option<(Order, R)> {
        self.running.take_if(|(_, running)| is_it(running))
    }
}

impl Jobs {
    /// Starts a job for `work`.
    pub fn start(work: SlotsWork, ground: &crate::ground::Ground) -> Result<Running, StartError> {
        use std::os::fd::AsFd as _;
        let streams = [ground.null.as_fd(), ground.kmsg.as_fd()];
        Running::start(&SLOTS, Some(argument(work)), streams, ground)
    }

    /// Takes note that a process ended: the work and what became of it, if the process was a job.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus) -> Option<(Order, JobOutcome)> {
        let (order, running) = self.take_if(|running| running.pid() == pid)?;
        let (end, reason) = running.end(status);
        Some((order, JobOutcome::of(order.work, end, reason)))
    }

    /// Kills the job that runs if it is past its deadline.
    pub fn kill_overdue(&mut self, now: Instant) {
        if let Some((_, running)) = &mut self.running {
            running.kill_if_overdue(now);
        }
    }

    /// When the job that runs must have ended.
    pub fn next_due(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|(_, running)| running.deadline())
    }
}

fn argument(work: SlotsWork) -> &'static CStr {
    match work {
        SlotsWork::Inspect => c"inspect",
        SlotsWork::Install => c"install",
        SlotsWork::Bless => c"bless",
        SlotsWork::Rollback => c"rollback",
        SlotsWork::TakeDrive => c"take-drive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(work: SlotsWork) -> Order {
        Order { work, number: 5 }
    }

    fn next(jobs: &mut Jobs<u32>) -> Option<SlotsWork> {
        jobs.take_next().map(|order| order.work)
    }

    #[test]
    fn jobs_run_one_at_a_time_and_in_their_order() {
        let mut jobs = Jobs::<u32>::default();
        let second = Order { work: SlotsWork::Install, number: 6 };
        assert!(jobs.ask(order(SlotsWork::Inspect)) && jobs.ask(second));
        assert_eq!(jobs.take_next(), Some(order(SlotsWork::Inspect)));
        jobs.started(order(SlotsWork::Inspect), 77);
        assert_eq!(jobs.take_next(), None, "one runs");
        assert!(jobs.take_if(|pid| *pid == 78).is_none(), "another process ended");
        assert_eq!(jobs.take_if(|pid| *pid == 77), Some((order(SlotsWork::Inspect), 77)));
        assert_eq!(jobs.take_next(), Some(second), "with the number it was asked for with");
        assert!(!jobs.is_busy());
    }

    #[test]
    fn a_blessing_goes_before_what_waits() {
        let mut jobs = Jobs::<u32>::default();
        jobs.started(order(SlotsWork::Inspect), 77);
        for work in [SlotsWork::TakeDrive, SlotsWork::Install, SlotsWork::Bless] {
            assert!(jobs.ask(order(work)));
        }
        jobs.take_if(|_| true);
        assert_eq!(next(&mut jobs), Some(SlotsWork::Bless));
        assert_eq!(next(&mut jobs), Some(SlotsWork::TakeDrive));
    }

    #[test]
    fn what_waits_already_is_not_asked_for_twice_and_a_blessing_has_always_room() {
        let mut jobs = Jobs::<u32>::default();
        for work in [SlotsWork::Inspect, SlotsWork::Install, SlotsWork::Rollback, SlotsWork::TakeDrive] {
            assert!(jobs.ask(order(work)));
            assert!(!jobs.ask(order(work)));
        }
        assert!(jobs.ask(Order::own(SlotsWork::Bless)));
        assert_eq!(next(&mut jobs), Some(SlotsWork::Bless));
    }

    #[test]
    fn a_reboot_that_update_asks_for_waits_until_no_job_runs_or_waits() {
        let mut jobs = Jobs::<u32>::default();
        assert!(!jobs.reboot_is_due(), "nobody asked");
        // In one breath, whichever is said first.
        assert!(jobs.ask(order(SlotsWork::Install)));
        jobs.ask_reboot();
        assert!(!jobs.reboot_is_due(), "one waits");
        let install = jobs.take_next().unwrap();
        jobs.started(install, 77);
        assert!(!jobs.reboot_is_due(), "one runs");
        assert!(jobs.ask(Order::own(SlotsWork::Bless)));
        jobs.take_if(|_| true);
        assert!(!jobs.reboot_is_due(), "another waits");
        jobs.take_next();
        assert!(jobs.reboot_is_due());
    }

    #[test]
    fn only_a_look_can_find_a_trial_and_what_failed_says_why() {
        let why = || Reason::try_from("why").unwrap();
        let of = |work, end| JobOutcome::of(work, end, why());
        assert_eq!(of(SlotsWork::Inspect, End::Code(EXIT_ON_TRIAL)), JobOutcome::OnTrial);
        assert_eq!(of(SlotsWork::Bless, End::Code(EXIT_DONE)), JobOutcome::Done);
        for end in [End::Code(1), End::Code(EXIT_ON_TRIAL), End::Signal(9), End::Overdue] {
            assert_eq!(of(SlotsWork::Bless, end), JobOutcome::NotDone(why()));
        }
    }
}
