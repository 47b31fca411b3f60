//! The processes of the node, one row each: who it is, what it keeps, where it lives, what PID 1 believes of it.
//!
//! **Why one table.** A process's user stands in the root's passwd, on its folders and in what it becomes; its name in the
//! log and in its `argv[0]`; its limits in a cgroup; its rights in the documentation. Everything that is known of a process
//! is taken from its row, and so it can't be known differently in two places.
//!
//! **What always holds.** Names and users are unique. Who isn't PID 1 keeps no capability but those that are listed here,
//! each with its reason, and says nothing to PID 1 but what is listed here. The tests below, and those of the crates that
//! read the table, see to that.
//!
//! **Refuses** to do anything: rows are values. What a row asks for is done by PID 1 when it starts the process, and by the
//! process itself in its first lines ([`crate::service::become_service`]).

#[cfg(test)]
mod tests;

use crate::places::KEYS_FOLDER;
use astromesh_proto::deadlines::SLOTS_JOB_WITHIN;
use astromesh_proto::ipc::{SlotsWork, ToInit};
use rustix::thread::CapabilitySet;
use std::ffi::CStr;
use std::time::Duration;

/// One process of the node.
///
/// There is no label of an LSM here yet, because no policy is loaded. Its place is this row, beside the namespaces, so that
/// who writes a new process can't forget it.
#[derive(Debug)]
pub struct Process {
    /// What it is started as (`argv[0]`), what its lines in the log begin with, and the name of its user and group.
    pub name: &'static CStr,
    /// User and group id. There are no supplementary groups.
    pub id: u32,
    /// How it comes to be, and what happens when it ends.
    pub kind: Kind,
    /// Capabilities that it keeps; everything else is gone from every set, the bounding set included.
    pub keeps: &'static [Kept],
    /// The cgroup it is born in; `None` for PID 1's own.
    pub cgroup: Option<Cgroup>,
    /// The namespaces that it doesn't share with PID 1.
    pub namespaces: Namespaces,
    /// The folder of `/run/config` that its group may read. `config` fills it.
    pub reads: Option<&'static CStr>,
    /// The folders that belong to it, parents first. PID 1 makes them.
    pub owns: &'static [Directory],
    /// What it may say to PID 1; everything else is refused before anything is done.
    pub may_say: &'static [Say],
}

/// How a process comes to be, and what happens when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PID 1: the kernel starts it, and panics when it ends.
    Pid1,
    /// Kept alive: PID 1 starts it again when it ends.
    Service,
    /// Started for one piece of work, and not again when it ends.
    Job {
        /// When it must have ended, or everything in its cgroup is killed; `None` where nothing waits for its end.
        within: Option<Duration>,
    },
    /// The agent runtime: kept alive like a service, but launched only from a verified root.
    Agent,
    /// Not started by itself: the process of this name becomes it for a part of its work.
    Part(&'static str),
}

/// Capabilities that a process keeps.
#[derive(Debug)]
pub struct Kept {
    /// Which, capabilities(7).
    pub capabilities: CapabilitySet,
    /// What for.
    pub why: &'static str,
}

/// A cgroup (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub path: &'static CStr,
    /// The file in it that kills everything in it.
    pub kill: &'static CStr,
    /// Its limits.
    pub limits: &'static [Limit],
}

/// A limit of a cgroup.
#[derive(Debug)]
pub struct Limit {
    /// The file in the cgroup's directory.
    pub file: &'static CStr,
    /// What is written to it.
    pub value: &'static str,
    /// Why so much and no more.
    pub why: &'static str,
}

/// Namespaces of its own, as the bits of clone(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None: it shares those of PID 1, which are the machine's.
    pub const MACHINE: Self = Self(0);
    /// Its own mounts: `CLONE_NEWNS` of linux/sched.h.
    pub const MOUNT: Self = Self(0x0002_0000);
    /// It sees no process but its own: `CLONE_NEWPID`.
    pub const PID: Self = Self(0x2000_0000);
    /// Its own network, which is none at all: `CLONE_NEWNET`.
    pub const NET: Self = Self(0x4000_0000);

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As flags of clone(2).
    pub const fn flags(self) -> u64 {
        self.0
    }
}

/// A folder that belongs to a process.
#[derive(Debug)]
pub struct Directory {
    /// Where.
    pub path: &'static CStr,
    /// Its mode.
    pub mode: u32,
}

/// A kind of message to PID 1: what [`ToInit`] says, without what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// [`ToInit::Ready`].
    Ready,
    /// [`ToInit::Waiting`].
    Waiting,
    /// [`ToInit::Health`].
    Health,
    /// [`ToInit::Ask`].
    Ask,
    /// [`ToInit::RestartAgent`].
    RestartAgent,
    /// [`ToInit::Reboot`].
    Reboot,
    /// [`ToInit::Poweroff`].
    Poweroff,
    /// [`ToInit::Slots`], for this work.
    Slots(SlotsWork),
}

impl Say {
    /// The kind of a message.
    pub const fn of(message: &ToInit) -> Self {
        match message {
            ToInit::Ready => Self::Ready,
            ToInit::Waiting { .. } => Self::Waiting,
            ToInit::Health { .. } => Self::Health,
            ToInit::Ask { .. } => Self::Ask,
            ToInit::RestartAgent => Self::RestartAgent,
            ToInit::Reboot => Self::Reboot,
            ToInit::Poweroff => Self::Poweroff,
            ToInit::Slots { work, .. } => Self::Slots(*work),
        }
    }
}

/// `CAP_CHECKPOINT_RESTORE`, the last capability that Linux 6.12 knows (linux/capability.h).
pub const LAST_CAPABILITY: u32 = 40;

/// Every capability that Linux 6.12 knows.
pub const EVERY_CAPABILITY: CapabilitySet = CapabilitySet::from_bits_retain((1 << (LAST_CAPABILITY + 1)) - 1);

const USER_ONLY: u32 = 0o700;
const READABLE: u32 = 0o755;

/// Of `slots`, with its part.
const SLOTS_CGROUP: Cgroup = Cgroup {
    path: c"/sys/fs/cgroup/slots",
    kill: c"/sys/fs/cgroup/slots/cgroup.kill",
    limits: &[
        Limit { file: c"pids.max", value: "16", why: "the job, the updater, and what that starts" },
        Limit {
            file: c"memory.max",
            value: "96M",
            why: "what it reads and writes counts too, and is given back at the limit",
        },
    ],
};

/// Every process of the node.
pub static PROCESSES: [Process; 11] = [
    Process {
        name: c"init",
        id: 0,
        kind: Kind::Pid1,
        keeps: &[Kept {
            capabilities: EVERY_CAPABILITY,
            why: "mounts, starts every other process with the rights of its row, ends the machine",
        }],
        cgroup: None,
        namespaces: Namespaces::MACHINE,
        reads: None,
        // What PID 1 and `slots` leave for those who report it; no service may change it.
        owns: &[Directory { path: c"/run/node", mode: READABLE }],
        may_say: &[],
    },
    // Reads ahead what the runtime will need first.
    Process {
        name: c"prefetch",
        id: 904,
        // Nothing waits for it.
        kind: Kind::Job { within: None },
        keeps: &[],
        // What it reads must stay in memory when it is gone, so it is counted to no cgroup of its own.
        cgroup: None,
        namespaces: Namespaces::MACHINE,
        reads: None,
        owns: &[],
        may_say: &[],
    },
    // Grows the file system on `/var` to the end of its partition.
    Process {
        name: c"grow",
        id: 908,
        // A step can't be interrupted, there may be hundreds, and nothing waits for them.
        kind: Kind::Job { within: None },
        keeps: &[Kept {
            capabilities: CapabilitySet::SYS_RESOURCE,
            why: "without it the kernel grows no file system",
        }],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/grow",
            kill: c"/sys/fs/cgroup/grow/cgroup.kill",
            limits: &[Limit {
                file: c"pids.max",
                value: "1",
                why: "it is one process, and nothing outlives it",
            }],
        }),
        namespaces: Namespaces::MACHINE,
        reads: None,
        owns: &[],
        may_say: &[],
    },
    // Parses the machine-config: the only process that sees it as a whole, so it has nothing to lose.
    Process {
        name: c"config",
        id: 901,
        kind: Kind::Job { within: Some(Duration::from_secs(30)) },
        keeps: &[],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/config",
            kill: c"/sys/fs/cgroup/config/cgroup.kill",
            limits: &[
                Limit { file: c"pids.max", value: "1", why: "it is one process, and nothing outlives it" },
                Limit { file: c"memory.max", value: "64M", why: "a machine-config has at most 1 MiB" },
            ],
        }),
        namespaces: Namespaces::MACHINE,
        reads: None,
        owns: &[Directory { path: c"/run/config", mode: READABLE }],
        may_say: &[],
    },
    // Asks a cloud's metadata server for the machine-config.
    Process {
        name: c"metadata",
        id: 905,
        // Its own longest limit of 90 s, and what an emulated machine needs to start it and to notice its end.
        kind: Kind::Job { within: Some(Duration::from_secs(100)) },
        keeps: &[
            Kept {
                capabilities: CapabilitySet::NET_ADMIN,
                why: "a link, an address and a route to ask over",
            },
            Kept { capabilities: CapabilitySet::NET_RAW, why: "DHCP before there is an address" },
        ],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/metadata",
            kill: c"/sys/fs/cgroup/metadata/cgroup.kill",
            limits: &[
                Limit { file: c"pids.max", value: "1", why: "it is one process, and nothing outlives it" },
                Limit { file: c"memory.max", value: "64M", why: "a machine-config has at most 1 MiB" },
            ],
        }),
        namespaces: Namespaces::MACHINE,
        reads: None,
        owns: &[],
        may_say: &[],
    },
    // Links, addresses, routes, resolver.
    Process {
        name: c"net",
        id: 902,
        kind: Kind::Service,
        keeps: &[
            Kept { capabilities: CapabilitySet::NET_ADMIN, why: "links, addresses and routes" },
            Kept { capabilities: CapabilitySet::NET_RAW, why: "DHCP before there is an address" },
            Kept { capabilities: CapabilitySet::NET_BIND_SERVICE, why: "the port of DHCP's client, 68" },
        ],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/net",
            kill: c"/sys/fs/cgroup/net/cgroup.kill",
            limits: &[Limit {
                file: c"pids.max",
                value: "8",
                why: "it is one thread, and starts no program",
            }],
        }),
        namespaces: Namespaces::MACHINE,
        reads: Some(c"/run/config/net"),
        owns: &[Directory { path: c"/run/net", mode: READABLE }],
        may_say: &[Say::Ready],
    },
    // The operator API, the log ring and the health probe.
    Process {
        name: c"control",
        id: 903,
        kind: Kind::Service,
        keeps: &[],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/control",
            kill: c"/sys/fs/cgroup/control/cgroup.kill",
            limits: &[Limit {
                file: c"pids.max",
                value: "32",
                why: "three threads, one for each of 8 requests, 16 for clients that have not asked yet",
            }],
        }),
        namespaces: Namespaces::MACHINE,
        reads: Some(c"/run/config/control"),
        owns: &[],
        // What operators may order, and what health needs.
        may_say: &[
            Say::Ready,
            Say::Waiting,
            Say::Health,
            Say::Ask,
            Say::RestartAgent,
            Say::Reboot,
            Say::Poweroff,
        ],
    },
    // Fetches releases, and decides when one is installed.
    Process {
        name: c"update",
        id: 906,
        kind: Kind::Service,
        keeps: &[],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/update",
            kill: c"/sys/fs/cgroup/update/cgroup.kill",
            limits: &[
                Limit {
                    file: c"pids.max",
                    value: "8",
                    why: "three threads, one for each of 4 connections, one for a name",
                },
                Limit {
                    file: c"memory.max",
                    value: "24M",
                    why: "its peak with what it reads and writes, as SPECIFICATION.md promises",
                },
            ],
        }),
        namespaces: Namespaces::MACHINE,
        reads: Some(c"/run/config/update"),
        // Readable by all: what is staged is public, and the installer has another user.
        owns: &[
            Directory { path: c"/run/update", mode: READABLE },
            Directory { path: c"/var/lib/update", mode: READABLE },
            Directory { path: c"/var/lib/update/stage", mode: READABLE },
        ],
        // Not `Bless`: which release stays is for PID 1 alone to say.
        may_say: &[
            Say::Reboot,
            Say::Slots(SlotsWork::Inspect),
            Say::Slots(SlotsWork::Install),
            Say::Slots(SlotsWork::Rollback),
            Say::Slots(SlotsWork::TakeDrive),
        ],
    },
    // Inspects the slots, blesses or gives up the release that runs. It stays user 0, because the boot partition, the
    // floor and what it leaves in /run/node are root's; it has no capability once its mounts are made. To install it
    // becomes `install`, to take a release from a drive it becomes `update`.
    Process {
        name: c"slots",
        id: 0,
        kind: Kind::Job { within: Some(SLOTS_JOB_WITHIN) },
        keeps: &[],
        cgroup: Some(SLOTS_CGROUP),
        namespaces: Namespaces::MOUNT.and(Namespaces::PID).and(Namespaces::NET),
        reads: None,
        // The first two are its mount points, in its own namespace. In the third is what no service may change: the oldest
        // release that may be installed.
        owns: &[
            Directory { path: c"/run/esp", mode: USER_ONLY },
            Directory { path: c"/run/efivars", mode: USER_ONLY },
            Directory { path: c"/var/lib/node", mode: READABLE },
        ],
        may_say: &[],
    },
    // The part of `slots` that has the idle slot written by a foreign program.
    Process {
        name: c"install",
        id: 907,
        kind: Kind::Part("slots"),
        keeps: &[],
        cgroup: Some(SLOTS_CGROUP),
        namespaces: Namespaces::MOUNT.and(Namespaces::PID).and(Namespaces::NET),
        reads: Some(KEYS_FOLDER),
        owns: &[Directory { path: c"/run/install", mode: READABLE }],
        may_say: &[],
    },
    // Sets up the runtime's view, then becomes the runtime.
    Process {
        name: c"agent",
        id: 1000,
        kind: Kind::Agent,
        keeps: &[],
        cgroup: Some(Cgroup {
            path: c"/sys/fs/cgroup/agent",
            kill: c"/sys/fs/cgroup/agent/cgroup.kill",
            limits: &[
                Limit { file: c"pids.max", value: "512", why: "a fork bomb in an agent ends here" },
                Limit {
                    file: c"memory.oom.group",
                    value: "1",
                    why: "a runtime without one of its processes is none: the OOM killer takes all of them",
                },
            ],
        }),
        namespaces: Namespaces::MOUNT.and(Namespaces::PID),
        reads: Some(c"/run/config/agent"),
        owns: &[Directory { path: c"/var/lib/astromesh", mode: USER_ONLY }],
        may_say: &[],
    },
];

/// PID 1.
pub const INIT: &Process = row("init");
/// Reads ahead what the runtime will need first.
pub const PREFETCH: &Process = row("prefetch");
/// Grows the file system on `/var`.
pub const GROW: &Process = row("grow");
/// Parses the machine-config.
pub const CONFIG: &Process = row("config");
/// Asks a cloud's metadata server for the machine-config.
pub const METADATA: &Process = row("metadata");
/// Links, addresses, routes, resolver.
pub const NET: &Process = row("net");
/// The operator API, the log ring and the health probe.
pub const CONTROL: &Process = row("control");
/// Fetches releases, and decides when one is installed.
pub const UPDATE: &Process = row("update");
/// Inspects the slots, blesses or gives up the release that runs.
pub const SLOTS: &Process = row("slots");
/// The part of [`SLOTS`] that has the idle slot written by a foreign program.
pub const INSTALL: &Process = row("install");
/// The agent runtime.
pub const AGENT: &Process = row("agent");

impl Process {
    /// Its name as text.
    pub const fn name(&self) -> &'static str {
        match self.name.to_str() {
            Ok(name) => name,
            // Not so: a test reads every name.
            Err(_) => "",
        }
    }

    /// Every capability that it keeps.
    pub fn capabilities(&self) -> CapabilitySet {
        self.keeps.iter().fold(CapabilitySet::empty(), |all, kept| all | kept.capabilities)
    }

    /// Whether it may say this to PID 1.
    pub fn may_say(&self, message: &ToInit) -> bool {
        self.may_say.contains(&Say::of(message))
    }
}

/// The row of this name; a name that has none is an error of the compiler, where it is asked for in a constant.
const fn row(name: &str) -> &'static Process {
    let mut index = 0;
    while index < PROCESSES.len() {
        if is_same(PROCESSES[index].name.to_bytes(), name.as_bytes()) {
            return &PROCESSES[index];
        }
        index += 1;
    }
    panic!("no process has this name")
}

/// Slices can't be compared with `==` in a constant yet.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// The folders below a directory that belong to processes, each with the id of its owner, parents first.
pub fn directories(below: &str) -> impl Iterator<Item = (&'static Directory, u32)> {
    PROCESSES
        .iter()
        .flat_map(|process| process.owns.iter().map(|directory| (directory, process.id)))
        .filter(move |(directory, _)| directory.path.to_bytes().starts_with(below.as_bytes()))
}

/// The folders of `/run/config`, each with the id of the group that may read it.
pub fn config_directories() -> impl Iterator<Item = (&'static CStr, u32)> {
    PROCESSES.iter().filter_map(|process| Some((process.reads?, process.id)))
}
