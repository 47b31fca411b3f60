//! A job: a process that PID 1 starts for one piece of work, and that ends.
//!
//! Every job is started here and has four things: a cgroup with limits, a deadline after which everything in that cgroup is
//! killed, an [`End`] that is a type, and a piece of memory in which it leaves its reason when it fails. So a job that hangs,
//! grows or dies costs its own work and nothing else, and whoever asked for it reads why. A job that nothing waits for may
//! lack the deadline.
//!
//! While the boot stands still for a job, [`run`] waits for it; after the boot they are one of a queue ([`crate::jobs`]), but
//! for the one that grows `/var`. Nothing here allocates.

use crate::cgroup;
use crate::ground::Ground;
use astromesh_node::process::{Cgroup, Kind, Process};
use astromesh_node::twin::{self, Twin};
use astromesh_proto::ipc::MAX_REASON;
use astromesh_sys::kernel_file::write_file;
use astromesh_sys::spawn::{Spawn, spawn};
use heapless::String;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A process that has what every job has, by its row.
#[derive(Debug)]
pub struct Job {
    process: &'static Process,
    cgroup: &'static Cgroup,
    within: Option<Duration>,
}

impl Job {
    /// The job of this row. In a constant, a row that isn't of a job, or lacks cgroup or deadline, is an error of the
    /// compiler.
    ///
    /// # Panics
    ///
    /// Elsewhere, on such a row.
    pub const fn of(process: &'static Process) -> Self {
        match (&process.cgroup, process.kind) {
            (Some(cgroup), Kind::Job { within: within @ Some(_) }) => Self { process, cgroup, within },
            _ => panic!("a job has a cgroup and a deadline"),
        }
    }

    /// The job of this row, which nothing waits for. In a constant, a row with a deadline or without a cgroup is an error of
    /// the compiler.
    ///
    /// # Panics
    ///
    /// Elsewhere, on such a row.
    pub const fn without_deadline(process: &'static Process) -> Self {
        match (&process.cgroup, process.kind) {
            (Some(cgroup), Kind::Job { within: None }) => Self { process, cgroup, within: None },
            _ => panic!("a job without a deadline has a cgroup, and says so"),
        }
    }

    fn name(&self) -> &'static str {
        self.process.name()
    }
}

/// How long the boot waits for the end of a job that was killed. Only one that waits for a device takes longer than
/// milliseconds.
const DIES_WITHIN: Duration = Duration::from_secs(10);

/// Why a job could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would run without its limits.
    #[error("its cgroup can't be made: {0}")]
    MakeCgroup(Errno),
    /// It could not leave a reason.
    #[error("no memory for its reason: {0}")]
    MakeReason(Errno),
    /// There is no process.
    #[error("the process can't be started: {0}")]
    Spawn(std::io::Error),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By a signal that PID 1 did not send.
    Signal(i32),
    /// It was not done at its deadline, and was killed.
    Overdue,
}

/// Text that a job left.
pub type Reason = String<MAX_REASON>;

/// A job that runs.
#[derive(Debug)]
pub struct Running {
    what: &'static Job,
    pid: Pid,
    /// How long it may take, and when that is over.
    limit: Option<(Duration, Instant)>,
    overdue: bool,
    reason: OwnedFd,
}

impl Running {
    /// Starts a job with its input and output; it says on the node's log what it has to say.
    pub fn start(
        what: &'static Job,
        argument: Option<&'static CStr>,
        [input, output]: [BorrowedFd<'_>; 2],
        ground: &Ground,
    ) -> Result<Self, StartError> {
        let shorter = twin::is(Twin::HangTakeDrive).then(|| Duration::from_secs(15));
        let limit = what.within.map(|within| shorter.unwrap_or(within));
        let cgroup = cgroup::make(what.cgroup).map_err(StartError::MakeCgroup)?;
        let reason = rustix::fs::memfd_create(what.process.name, MemfdFlags::CLOEXEC)
            .map_err(StartError::MakeReason)?;
        let pid = spawn(&Spawn {
            name: what.process.name,
            argument,
            namespaces: what.process.namespaces.flags(),
            cgroup: Some(cgroup.as_fd()),
            fds: &[input, output, ground.kmsg.as_fd(), reason.as_fd()],
        })
        .map_err(StartError::Spawn)?;
        let limit = limit.map(|within| (within, Instant::now() + within));
        Ok(Self { what, pid, limit, overdue: false, reason })
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// When it must have ended; `None` once it was killed for not having, and where it may take as long as it takes.
    pub fn deadline(&self) -> Option<Instant> {
        self.limit.filter(|_| !self.overdue).map(|(_, deadline)| deadline)
    }

    /// Kills it, and whatever it started, if it is past its deadline.
    pub fn kill_if_overdue(&mut self, now: Instant) {
        let Some((within, _)) = self.limit.filter(|(_, deadline)| !self.overdue && now >= *deadline) else {
            return;
        };
        self.overdue = true;
        log::error!("{} is not done after {} s and is killed", self.what.name(), within.as_secs());
        self.kill();
    }

    /// Kills it, and whatever it started.
    pub fn kill(&self) {
        if let Err(cause) = write_file(self.what.cgroup.kill, b"1") {
            log::warn!("{}: cgroup.kill: {cause}", self.what.name());
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// What became of it, from what the kernel says of its process.
    pub fn end(self, status: WaitStatus) -> (End, Reason) {
        let end = match (self.overdue, status.exit_status(), status.terminating_signal()) {
            (true, ..) => End::Overdue,
            (_, Some(code), _) => End::Code(code),
            (_, _, signal) => End::Signal(signal.unwrap_or_default()),
        };
        let reason = match end {
            End::Code(_) => left(&self.reason),
            End::Signal(signal) => text(format_args!("{} was ended by signal {signal}", self.what.name())),
            End::Overdue => {
                let seconds = self.limit.map_or(0, |(within, _)| within.as_secs());
                text(format_args!("{} was not done after {seconds} s, and was killed", self.what.name()))
            }
        };
        (end, reason)
    }
}

/// Starts a job and waits for its end, while the boot stands still and the watchdog is petted.
pub fn run(
    what: &'static Job,
    argument: Option<&'static CStr>,
    streams: [BorrowedFd<'_>; 2],
    ground: &Ground,
) -> Result<(End, Reason), StartError> {
    let mut running = Running::start(what, argument, streams, ground)?;
    loop {
        match rustix::process::waitpid(Some(running.pid()), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Ok(running.end(status)),
            // It was reaped already, which only PID 1 could have done: nothing is known of its end.
            Err(_) => return Ok((End::Signal(0), Reason::new())),
            Ok(None) => {}
        }
        let now = Instant::now();
        running.kill_if_overdue(now);
        if running.limit.is_some_and(|(_, deadline)| deadline + DIES_WITHIN < now) {
            // It waits for a device that doesn't answer. The boot goes on, and the job is reaped like any orphan.
            return Ok((End::Overdue, text(format_args!("{} can't be killed: a device hangs", what.name()))));
        }
        ground.pet();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a job left as its reason: as much as fits, and only what is text.
fn left(memory: &OwnedFd) -> Reason {
    let mut bytes = [0; MAX_REASON];
    let count = rustix::io::pread(memory, &mut bytes, 0).unwrap_or(0);
    let bytes = &bytes[..count];
    let valid = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    astromesh_proto::ipc::cut(valid)
}

fn text(arguments: core::fmt::Arguments<'_>) -> Reason {
    let mut text = Reason::new();
    // What doesn't fit is left out: the names and numbers above do.
    let _ = core::fmt::Write::write_fmt(&mut text, arguments);
    text
}
