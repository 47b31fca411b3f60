//! The control protocol: what an operator's `astromeshctl` and a node's `control` service say to each other.
//!
//! One TLS 1.3 connection with certificates on both sides and ALPN [`ALPN`]; the client sends one [`Request`],
//! the node answers with one [`Response`], or, for logs, with many and then [`Response::End`]. Frames as in
//! [`crate::frame`]. There is no HTTP, no text parser and no state between connections.
//!
//! postcard is not self-describing: a field is only ever added together with a new [`ALPN`], so that two
//! versions never misread each other but say so in the handshake.

use crate::update::{UpdateAnswer, UpdateRequest};
use serde::{Deserialize, Serialize};

/// Application protocol name, and with it the version, agreed on in the TLS handshake.
pub const ALPN: &[u8] = b"astromesh-control/2";

/// TCP port the service listens on unless machine-config says otherwise.
pub const DEFAULT_PORT: u16 = 7443;

/// Largest request, in bytes: requests carry next to nothing.
pub const MAX_REQUEST: usize = 1024;

/// Largest response, in bytes.
pub const MAX_RESPONSE: usize = 256 * 1024;

/// What an operator may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who the node is and how it is: answered by [`Response::Status`].
    Status,
    /// Every check, made now: answered by [`Response::Doctor`].
    Doctor,
    /// The stages of this boot: answered by [`Response::Boot`].
    Boot,
    /// The log ring: answered by [`Response::Logs`] frames, then [`Response::End`] unless `follow`.
    Logs {
        /// How many of the newest lines to begin with.
        lines: u32,
        /// Whether to go on as lines come, until the client hangs up.
        follow: bool,
    },
    /// Kill the agent runtime (SIGKILL to its whole cgroup), which PID 1 then starts again: answered by
    /// [`Response::Accepted`].
    RestartAgent,
    /// Shut down cleanly and start again: answered by [`Response::Accepted`] before it happens.
    Reboot,
    /// Shut down cleanly and switch off: answered by [`Response::Accepted`] before it happens.
    Poweroff,
    /// About updates: answered by [`Response::Update`] frames, as many as the request says.
    Update(UpdateRequest),
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Doctor`].
    Doctor(Vec<Check>),
    /// To [`Request::Boot`].
    Boot(Vec<Stage>),
    /// To [`Request::Logs`]: some lines, oldest first.
    Logs(Vec<LogLine>),
    /// No more frames will follow.
    End,
    /// The request was handed to PID 1.
    Accepted,
    /// The request can't be served; the text is for the operator.
    Refused(String),
    /// To [`Request::Update`].
    Update(UpdateAnswer),
}

/// Who a node is and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `node.id` of the machine-config; empty in maintenance mode without one.
    pub node: String,
    /// The node's host name.
    pub hostname: String,
    /// Version of the image.
    pub version: String,
    /// What the node is doing.
    pub mode: Mode,
    /// Whether health holds now: the runtime answers, and every declared agent is loaded.
    pub healthy: bool,
    /// Why it does not, or that it does; in maintenance mode, what is wrong with the machine-config.
    pub reason: String,
    /// Root hash of the mounted root in hex, as the kernel's device-mapper table gives it.
    pub root_hash: String,
    /// Time since the kernel started, in milliseconds.
    pub uptime_ms: u64,
    /// Addresses of the node as text, IPv6 ones with their prefix length.
    pub addresses: Vec<String>,
    /// The node's processes.
    pub services: Vec<Service>,
    /// Memory of the machine in KiB, as the kernel counts it.
    pub memory_total_kib: u64,
    /// Memory available for more work in KiB, as the kernel estimates it.
    pub memory_available_kib: u64,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A valid machine-config is applied; agents run or are being started.
    Running,
    /// No valid machine-config: only the control API serves.
    Maintenance,
    /// On its way down.
    Stopping,
}

/// One process of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name: `init`, `net`, `control`, `agent`.
    pub name: String,
    /// Process id on the node, 0 while it is not running.
    pub pid: u32,
    /// How often it was started again since boot.
    pub restarts: u32,
    /// Resident set size in KiB.
    pub rss_kib: u64,
    /// Proportional set size in KiB.
    pub pss_kib: u64,
}

/// One check of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked: `root`, `config`, `watchdog`, `init`, `var`, `clock`, `space`, `memory`, `runtime`,
    /// `agent/NAME`, `provider/NAME`, and `runtime/NAME` for what the runtime's own doctor says.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when there is nothing to do.
    pub hint: String,
}

/// One stage of the boot, as PID 1 timed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the stage.
    pub name: String,
    /// When it began, in microseconds since the kernel started.
    pub started_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// How much of that every processor together was idle, in microseconds, to the kernel's hundredth of a second.
    pub idle_us: u64,
    /// How it ended.
    pub outcome: StageOutcome,
    /// What it has to say for itself; empty when there is nothing.
    pub note: String,
}

/// How a stage of the boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageOutcome {
    /// As it should.
    Done,
    /// Not as it should, and the node goes on with less.
    Degraded,
    /// Not at all.
    Failed,
    /// Still under way.
    Running,
}

/// One line of the node's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was seen, in microseconds since the kernel started.
    pub at_us: u64,
    /// Who said it: `kernel`, or the name of a service.
    pub source: String,
    /// The line, without its end, at most 1 KiB, valid UTF-8 (what was not is replaced).
    pub text: String,
}
