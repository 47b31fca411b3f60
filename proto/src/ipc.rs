//! What PID 1 and its services say over a socketpair made at spawn.
//!
//! PID 1 allocates nothing after boot, so every message here is of fixed size: text is in `heapless` strings
//! that are cut, not grown. One frame is one datagram of a `SOCK_SEQPACKET` pair, so a service that dies in the
//! middle of a sentence can't leave half a frame behind, and PID 1 never waits for the rest of one.
//! A message that doesn't decode is a defect of the service: PID 1 logs it and drops it.

use crate::control::{Mode, StageOutcome};
use heapless::String;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Largest message, in bytes.
pub const MAX_MESSAGE: usize = 512;

/// Longest host name, in bytes: the kernel's `__NEW_UTS_LEN`.
pub const MAX_HOSTNAME: usize = 64;

/// Longest piece of text in a message, in bytes.
pub const MAX_TEXT: usize = 240;

/// Longest reason that a job leaves, in bytes.
pub const MAX_REASON: usize = 400;

/// What a service tells PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
    /// The service does its work now.
    Ready,
    /// The service can't do its work yet, and goes on trying.
    Waiting {
        /// For what.
        reason: String<MAX_TEXT>,
    },
    /// Whether health holds, and why not; from `control`, which probes the runtime.
    Health {
        /// Whether health holds.
        healthy: bool,
        /// Why it does not.
        reason: String<MAX_TEXT>,
    },
    /// Tell me what you know: answered by [`FromInit`] messages from [`FromInit::Node`] up to [`FromInit::End`].
    Ask {
        /// Whether to measure the memory of PID 1 and its services too, which takes a walk over their pages.
        memory: bool,
        /// Number of the question, for the end of its answer.
        number: u32,
    },
    /// Kill the agent runtime, which is then started again.
    RestartAgent,
    /// Shut down cleanly and start again.
    Reboot,
    /// Shut down cleanly and switch off.
    Poweroff,
    /// Have the boot partition or the idle slot worked on, by the job `slots`; from `update`. Answered by
    /// [`FromInit::Slots`] once that has ended.
    Slots {
        /// What is to be done.
        work: SlotsWork,
        /// A number that the answer carries: several may wait for one, each for its own. Never 0, which is PID 1's.
        number: u64,
    },
}

/// What the job `slots` is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotsWork {
    /// Look at both slots and write down what is there.
    Inspect,
    /// Check what is staged once more, and have it written into the idle slot.
    Install,
    /// Keep the release that runs: it has been healthy for long enough.
    Bless,
    /// Make the boot loader start the other slot from now on.
    Rollback,
    /// Copy the image layout of a drive that is attached to where `update` can read it.
    TakeDrive,
}

/// What PID 1 tells a service that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    /// The node as a whole.
    Node {
        /// What the node is doing.
        mode: Mode,
        /// Root hash in the live device-mapper table, in hex; empty if it could not be read.
        root_hash: String<64>,
        /// Whether the device-mapper target has seen only blocks that verify.
        root_verified: bool,
        /// Whether a hardware (or, failing that, software) watchdog is armed.
        watchdog: bool,
        /// What is wrong with the machine-config, in maintenance mode.
        config_error: String<MAX_TEXT>,
        /// Whether `/var` is the disk's (and not memory that is lost at the next start).
        var_on_disk: bool,
        /// How often PID 1 allocated memory since the boot was over: it should never.
        allocations: u32,
        /// Whether the machine's clock was so far behind that PID 1 had to set it.
        clock_was_behind: bool,
    },
    /// One stage of the boot.
    Stage {
        /// Name of the stage.
        name: String<16>,
        /// When it began, in microseconds since the kernel started.
        started_us: u64,
        /// How long it took, in microseconds.
        took_us: u64,
        /// Idle time of all processors in it, in microseconds.
        idle_us: u64,
        /// How it ended.
        outcome: StageOutcome,
        /// What it has to say.
        note: String<MAX_TEXT>,
    },
    /// One service.
    Service {
        /// Its name.
        name: String<16>,
        /// Its process id, 0 while it is not running.
        pid: u32,
        /// How often it was started again.
        restarts: u32,
        /// Resident set size in KiB; 0 for the agent, which PID 1 does not look into.
        rss_kib: u64,
        /// Proportional set size in KiB; 0 likewise.
        pss_kib: u64,
    },
    /// That was all, in answer to this question. A service that gave up on one and asks another gets both answers.
    End {
        /// Number of the question.
        number: u32,
    },
    /// Work on the slots has ended.
    Slots {
        /// What it was.
        work: SlotsWork,
        /// The number that it was asked for with; 0 for what PID 1 had done of its own accord.
        number: u64,
        /// Whether it is done.
        done: bool,
        /// Why it is not; empty when it is.
        reason: String<MAX_REASON>,
    },
}

/// What the job `config`, which parses the machine-config, leaves for PID 1 in a file of at most
/// [`MAX_MESSAGE`] bytes. PID 1 itself parses no YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Host name to set.
    pub hostname: String<MAX_HOSTNAME>,
    /// `None` when the machine-config is valid; else what is wrong with it.
    pub maintenance: Option<String<MAX_TEXT>>,
    /// Whether somebody may use the control API: operator access could be read.
    pub operator: bool,
    /// Whether the node may be updated, and how a new release is judged.
    pub trial: Option<TrialRules>,
    /// The moment at which the node's certificate begins to be valid, in seconds since 1970: a clock before it is wrong. 0
    /// when it is not known.
    pub not_before: u64,
}

/// How a new release is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRules {
    /// How long health must hold before it is kept, in seconds.
    pub bless_after_seconds: u32,
    /// How long it may take until health holds, in seconds; then the machine reboots.
    pub healthy_within_seconds: u32,
}

impl TrialRules {
    /// For a node whose machine-config says nothing of updates, or can't be read: a release on trial is judged all the
    /// same.
    pub const DEFAULT: Self = Self { bless_after_seconds: 60, healthy_within_seconds: 600 };
}

/// Encodes one message into `buffer`; `None` when it doesn't fit, which [`MAX_MESSAGE`] rules out.
pub fn encode<'a, T: Serialize>(message: &T, buffer: &'a mut [u8; MAX_MESSAGE]) -> Option<&'a [u8]> {
    postcard::to_slice(message, buffer).ok().map(|bytes| &*bytes)
}

/// Decodes one message; `None` when the bytes are not exactly one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

/// `text`, cut at a character boundary so that it fits.
pub fn cut<const N: usize>(text: &str) -> String<N> {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = String::new();
    // Can't fail: at most N bytes are pushed into N bytes.
    let _ = cut.push_str(&text[..end]);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_message_fits_its_bound() {
        let long = "é".repeat(500);
        let stage = FromInit::Stage {
            name: cut(&long),
            started_us: u64::MAX,
            took_us: u64::MAX,
            idle_us: u64::MAX,
            outcome: StageOutcome::Running,
            note: cut(&long),
        };
        let node = FromInit::Node {
            mode: Mode::Maintenance,
            root_hash: cut(&long),
            root_verified: true,
            watchdog: true,
            config_error: cut(&long),
            var_on_disk: true,
            allocations: u32::MAX,
            clock_was_behind: true,
        };
        let slots =
            FromInit::Slots { work: SlotsWork::TakeDrive, number: u64::MAX, done: false, reason: cut(&long) };
        for message in [stage, node, slots] {
            let mut buffer = [0; MAX_MESSAGE];
            let bytes = encode(&message, &mut buffer).unwrap();
            assert_eq!(decode::<FromInit>(bytes), Some(message));
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut buffer = [0; MAX_MESSAGE];
        let mut bytes = encode(&ToInit::Ready, &mut buffer).unwrap().to_vec();
        bytes.push(0);
        assert_eq!(decode::<ToInit>(&bytes), None);
    }

    #[test]
    fn text_is_cut_at_a_character_boundary() {
        assert_eq!(cut::<3>("aéé").as_str(), "aé");
        assert_eq!(cut::<2>("aéé").as_str(), "a");
    }
}
