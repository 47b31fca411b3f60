//! The services PID 1 keeps alive: how each is started, found again, and started again.
//!
//! Everything a restart needs - sockets aside - is made once, at boot: the cgroups, the pipe the runtime speaks into.
//! A restart after boot allocates nothing, so a node out of memory can still heal.

use super::memory;
use crate::cgroup;
use crate::clearance::Clearance;
use crate::ground::Ground;
use astromesh_node::places::SEEDS;
use astromesh_node::process::{self, Process};
use astromesh_proto::ipc::{self, FromInit};
use astromesh_sys::kernel_file::write_file;
use astromesh_sys::spawn::{Spawn, spawn};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A service, the agent runtime among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Links, addresses, resolver.
    Net,
    /// The operator API.
    Control,
    /// The agent runtime.
    Agent,
    /// Releases; it runs only where the machine-config says from where they come.
    Update,
}

/// How many there are.
pub const COUNT: usize = 4;

impl Service {
    /// All of them.
    pub const ALL: [Self; COUNT] = [Self::Net, Self::Control, Self::Agent, Self::Update];

    /// What is fixed about it.
    pub fn row(self) -> &'static Process {
        match self {
            Self::Net => process::NET,
            Self::Control => process::CONTROL,
            Self::Agent => process::AGENT,
            Self::Update => process::UPDATE,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name()
    }
}

/// A service of the node's own: what may be started without [`Clearance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// See [`Service::Net`].
    Net,
    /// See [`Service::Control`].
    Control,
    /// See [`Service::Update`].
    Update,
}

impl From<Own> for Service {
    fn from(own: Own) -> Self {
        match own {
            Own::Net => Self::Net,
            Own::Control => Self::Control,
            Own::Update => Self::Update,
        }
    }
}

/// First pause before a restart. Shorter, and a service that dies at once would take a processor with it.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before a restart: a node must come back by itself soon after the reason is gone.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A service that lived this long is taken to be well: its next pause is the first again.
pub const WELL_AFTER: Duration = Duration::from_secs(60);

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No socket for it.
    #[error("no socket for the service could be made: {0}")]
    MakeSocket(Errno),
    /// The agent would run without its limits.
    #[error("there is no cgroup for the agent, so nothing would limit it; read what the log says of cgroups")]
    FindCgroup,
    /// No process for it.
    #[error("the process could not be started: {0}")]
    Spawn(std::io::Error),
}

/// One service as it is now.
#[derive(Debug, Default)]
struct State {
    /// Its process, while it runs.
    pid: Option<Pid>,
    /// PID 1's end of the socket to it.
    socket: Option<OwnedFd>,
    /// How often it was started again.
    restarts: u32,
    /// When it is to be started again.
    restart_at: Option<Instant>,
    started_at: Option<Instant>,
    pause: Option<Duration>,
    cgroup: Option<OwnedFd>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Services {
    list: [State; COUNT],
    /// What the runtime writes into, and what `control` reads from: kept open here, so that neither end's restart
    /// loses a line.
    runtime_log: Option<(OwnedFd, OwnedFd)>,
    read_log: Option<OwnedFd>,
    /// Block devices that `update` may read from, see [`Services::seed`].
    seeds: [Option<OwnedFd>; SEEDS],
}

impl Services {
    /// Makes what outlives the services: their cgroups and the runtime's log pipe.
    pub fn prepare() -> Self {
        let mut services = Self::default();
        let root = c"/sys/fs/cgroup/cgroup.subtree_control";
        if let Err(cause) = write_file(root, b"+memory +pids +cpu") {
            log::warn!("cgroup controllers could not be enabled: {cause}; services run without limits");
        }
        for (service, which) in services.list.iter_mut().zip(Service::ALL) {
            let Some(cgroup) = &which.row().cgroup else { continue };
            match cgroup::make(cgroup) {
                Ok(cgroup) => service.cgroup = Some(cgroup),
                Err(cause) => log::warn!("{}: no cgroup: {cause}", which.name()),
            }
        }
        match rustix::pipe::pipe_with(PipeFlags::CLOEXEC) {
            Ok((reader, writer)) => services.runtime_log = Some((reader, writer)),
            Err(cause) => log::warn!("no pipe for the runtime's log: {cause}"),
        }
        services
    }

    /// What `update` may read from, so that what a node has is not fetched again: opened once, read-only.
    pub fn seed(&mut self, devices: [Option<OwnedFd>; SEEDS]) {
        self.seeds = devices;
    }

    /// Launches the agent runtime. There is no other way to start it.
    pub fn launch(&mut self, clearance: Clearance<'_>) -> Result<(), StartError> {
        self.start_any(Service::Agent, clearance.ground())
    }

    /// Starts one of the node's own services.
    pub fn start(&mut self, own: Own, ground: &Ground) -> Result<(), StartError> {
        self.start_any(own.into(), ground)
    }

    fn start_any(&mut self, which: Service, ground: &Ground) -> Result<(), StartError> {
        let (index, kmsg, null) = (which as usize, &ground.kmsg, &ground.null);
        let row = which.row();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(StartError::MakeSocket)?;
        // The service may wait on its end.
        let _ = rustix::fs::fcntl_setfl(&theirs, OFlags::RDWR);

        let speaks_to = match (&self.runtime_log, which) {
            (Some((_, writer)), Service::Agent) => writer.as_fd(),
            _ => kmsg.as_fd(),
        };
        let mut fds = heapless::Vec::<BorrowedFd<'_>, 8>::new();
        // Can't overflow: seven at most.
        let _ = fds.extend_from_slice(&[null.as_fd(), speaks_to, speaks_to, theirs.as_fd()]);
        match which {
            Service::Control => {
                // Opened anew each time: reading begins with the oldest record, and the ring is whole again.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                self.read_log = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()).ok();
                if let (Some(kernel), Some((reader, _))) = (&self.read_log, &self.runtime_log) {
                    let _ = fds.extend_from_slice(&[kernel.as_fd(), reader.as_fd()]);
                }
            }
            Service::Agent => {
                let _ = fds.push(kmsg.as_fd());
            }
            Service::Update => {
                for seed in &self.seeds {
                    let _ = fds.push(seed.as_ref().map_or(null.as_fd(), AsFd::as_fd));
                }
            }
            Service::Net => {}
        }
        let service = &self.list[index];
        if which == Service::Agent && service.cgroup.is_none() {
            return Err(StartError::FindCgroup);
        }
        let pid = spawn(&Spawn {
            name: row.name,
            argument: None,
            namespaces: row.namespaces.flags(),
            cgroup: service.cgroup.as_ref().map(AsFd::as_fd),
            fds: &fds,
        })
        .map_err(StartError::Spawn)?;
        drop(fds);
        self.read_log = None;
        let service = &mut self.list[index];
        service.pid = Some(pid);
        service.socket = Some(ours);
        service.started_at = Some(Instant::now());
        service.restart_at = None;
        Ok(())
    }

    /// Has a service started that never was, by who starts what is due.
    pub fn begin(&mut self, which: Service) {
        self.list[which as usize].restart_at = Some(Instant::now());
    }

    /// Whether a service was ever started.
    pub fn was_started(&self, which: Service) -> bool {
        self.list[which as usize].started_at.is_some()
    }

    /// Takes note that a process ended: `Some` if it was a service, which is then due for a restart.
    pub fn ended(&mut self, pid: Pid) -> Option<Service> {
        let index = self.list.iter().position(|service| service.pid == Some(pid))?;
        let service = &mut self.list[index];
        service.pid = None;
        service.socket = None;
        let well = service.started_at.is_some_and(|at| at.elapsed() >= WELL_AFTER);
        let pause = next_pause(service.pause, well);
        service.pause = Some(pause);
        service.restart_at = Some(Instant::now() + pause);
        Some(Service::ALL[index])
    }

    /// Counts a restart; called when one is made.
    pub fn count_restart(&mut self, which: Service) {
        let restarts = &mut self.list[which as usize].restarts;
        *restarts = restarts.saturating_add(1);
    }

    /// Puts a restart off after one that failed.
    pub fn put_off(&mut self, which: Service) {
        let service = &mut self.list[which as usize];
        let pause = next_pause(service.pause, false);
        service.pause = Some(pause);
        service.restart_at = Some(Instant::now() + pause);
    }

    /// The services that are due for a restart now.
    pub fn due(&self) -> impl Iterator<Item = Service> + use<> {
        let now = Instant::now();
        let mut due = heapless::Vec::<Service, COUNT>::new();
        for (which, service) in Service::ALL.into_iter().zip(&self.list) {
            if service.restart_at.is_some_and(|at| at <= now) {
                let _ = due.push(which);
            }
        }
        due.into_iter()
    }

    /// Nothing is started again from now on.
    pub fn stop_restarting(&mut self) {
        for service in &mut self.list {
            service.restart_at = None;
        }
    }

    /// The next moment at which something is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.list.iter().filter_map(|service| service.restart_at).min()
    }

    /// Whether any service runs.
    pub fn any_running(&self) -> bool {
        self.list.iter().any(|service| service.pid.is_some())
    }

    /// Signals every running service; the runtime, PID 1 of its own namespace, like the others.
    pub fn signal(&self, signal: Signal) {
        for pid in self.list.iter().filter_map(|service| service.pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills everything in the agent's cgroup, however deep it forked.
    pub fn kill_agent(&self) {
        let Some(cgroup) = &process::AGENT.cgroup else { return };
        if let Err(cause) = write_file(cgroup.kill, b"1") {
            log::warn!("agent: cgroup.kill: {cause}");
            if let Some(pid) = self.list[Service::Agent as usize].pid {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// The sockets of the services that run.
    pub fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.list.iter().filter_map(|service| service.socket.as_ref())
    }

    /// The socket of a service, while it runs.
    pub fn socket(&self, which: Service) -> Option<&OwnedFd> {
        self.list[which as usize].socket.as_ref()
    }

    /// Closes PID 1's end of a service's socket.
    pub fn hang_up(&mut self, which: Service) {
        self.list[which as usize].socket = None;
    }

    /// PID 1 itself and the services as messages. A service that was never started is none.
    pub fn messages(&self, memory: bool) -> impl Iterator<Item = FromInit> + '_ {
        let services = Service::ALL.into_iter().zip(&self.list);
        let services =
            services.filter(|(which, service)| *which != Service::Update || service.started_at.is_some());
        let services = services.map(move |(which, service)| {
            message(which.name(), service.pid, service.restarts, memory && which != Service::Agent)
        });
        core::iter::once(message(process::INIT.name(), Some(rustix::process::getpid()), 0, memory))
            .chain(services)
    }
}

fn message(name: &str, pid: Option<Pid>, restarts: u32, look_inside: bool) -> FromInit {
    let (rss_kib, pss_kib) = pid.filter(|_| look_inside).map_or((0, 0), memory::of);
    let pid = pid.map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    FromInit::Service { name: ipc::cut(name), pid, restarts, rss_kib, pss_kib }
}

/// The pause before the next restart: doubled each time, begun anew once the service lived well.
fn next_pause(last: Option<Duration>, well: bool) -> Duration {
    match last {
        Some(last) if !well => (last * 2).min(LONGEST_PAUSE),
        _ => FIRST_PAUSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_ceiling_and_falls_back_when_the_service_was_well() {
        let mut pause = None;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pause = Some(next_pause(pause, false));
            pauses.push(pause.unwrap().as_millis());
        }
        assert_eq!(pauses[..5], [50, 100, 200, 400, 800]);
        assert_eq!(pauses[11], 30_000);
        assert_eq!(next_pause(pause, true), FIRST_PAUSE);
    }
}
