//! What a node tells of its slots and its updates: to the operator, and to itself across a reboot.
//!
//! [`Slots`] is what the job `slots` found on the disk, [`Record`] what the service `update` has on `/var`.
//! Both are JSON, because both are read by another release than wrote them: after a rollback the older one reads what the
//! newer one left. A field is only ever added, with a default, and never changes its meaning.

use crate::boot_entry::BootEntry;
use crate::version::Version;
use serde::{Deserialize, Serialize};

/// Where [`Slots`] lie on a running node.
pub const SLOTS_FILE: &str = "/run/node/slots";
/// Largest it may be, in bytes.
pub const MAX_FILE: usize = 64 * 1024;
/// How many attempts a record has: enough to see a habit, little enough to read.
pub const MOST_ATTEMPTS: usize = 32;

/// Both slots as they are on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The release that runs.
    pub running: Version,
    /// The entry that the boot loader started and counts: `None` for a release that is blessed, or that was not started by a
    /// boot loader.
    pub counted: Option<BootEntry>,
    /// Every boot entry of ours, newest release first.
    pub entries: Vec<BootEntry>,
    /// The partitions of both slots.
    pub partitions: Vec<SlotPartition>,
    /// The oldest release that may be installed; `None` before health has held once.
    pub floor: Option<Version>,
}

/// One partition of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPartition {
    /// Its label: `root_VERSION`, `verity_VERSION`, or `_empty`.
    pub label: String,
    /// Its number in the table.
    pub number: u32,
    /// The half of the root hash that is its PARTUUID, as 32 hex digits.
    pub partuuid: String,
}

impl Slots {
    /// Whether the release that runs was kept, by the name of its boot entry.
    pub fn is_kept(&self) -> bool {
        self.entries.contains(&BootEntry::blessed(self.running))
    }

    /// The release in a partition's label.
    pub fn installed(&self, kind: &str) -> impl Iterator<Item = Version> + '_ {
        let prefix = format!("{kind}_");
        self.partitions.iter().filter_map(move |slot| slot.label.strip_prefix(&prefix)?.parse().ok())
    }
}

/// A release somewhere outside, with a signature that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// Digest of its manifest: `sha256:` and hex.
    pub digest: String,
    /// Its root hash in hex.
    pub root_hash: String,
    /// Its kernel's version.
    pub kernel: String,
    /// Its agent runtime's version.
    pub runtime: String,
    /// Bytes of what would be installed.
    pub size: u64,
}

/// How an attempt to update stands, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Its files are being fetched or are waiting, whole and verified.
    Staging,
    /// `systemd-sysupdate` writes the idle slot.
    Installing,
    /// The slot is written; the machine is, or is about to be, rebooted into it.
    Trying,
    /// Health has held, the release is blessed: an operator reads that it is kept.
    Kept,
    /// It ran out of tries, or gave up its place, and the older release runs again.
    RolledBack,
    /// It was refused, or could not be fetched or written; nothing that runs has changed.
    Failed,
}

impl Outcome {
    /// Whether it is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Kept | Self::RolledBack | Self::Failed)
    }
}

/// On whose word a release is installed, and so when the machine may reboot into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terms {
    /// An operator's order.
    Order {
        /// Whether the machine is to reboot once the release is installed.
        restart: bool,
    },
    /// The node's own look at its channel.
    Auto,
}

/// One attempt to update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was to be installed.
    pub release: Release,
    /// What ran when it began.
    pub from: Version,
    /// When it began, in seconds since 1970 by the node's clock.
    pub began: u64,
    /// How it stands.
    pub outcome: Outcome,
    /// Why, for a person.
    pub reason: String,
    /// Bytes that came over the network.
    #[serde(default)]
    pub moved: u64,
    /// Bytes that were there already.
    #[serde(default)]
    pub reused: u64,
    /// How often a power cut or a reboot interrupted it.
    #[serde(default)]
    pub interruptions: u32,
}

/// What the `update` service keeps on `/var`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Attempts, newest first, at most [`MOST_ATTEMPTS`].
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// On whose word the newest attempt was begun; `None` where an older release began it, which didn't write that down.
    /// It stands here because attempts are also told to operators' clients of other releases, in a form that takes no more
    /// fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The newest release that an operator went back from, since an operator last had one installed: neither it nor an older
    /// one is installed by the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<Version>,
}

/// What an operator may ask of updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateRequest {
    /// What is there to install: answered by [`UpdateAnswer::Found`] or [`UpdateAnswer::Refused`].
    Check(Origin),
    /// Fetch, verify, install, and reboot into it: [`UpdateAnswer::Progress`] until one of the others.
    Apply {
        /// From where.
        origin: Origin,
        /// Stop before anything is written.
        dry_run: bool,
        /// Whether to reboot the machine once it is installed.
        restart: bool,
    },
    /// Answered by [`UpdateAnswer::State`].
    State,
    /// Go back to the other slot now: answered by [`UpdateAnswer::Done`] or [`UpdateAnswer::Refused`].
    Rollback,
}

/// Where a release is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The machine-config's channel.
    Channel,
    /// Another tag, or a digest, of the machine-config's repository.
    Tag(String),
    /// A drive labelled `ASTROUPDATE` with an OCI image layout on it, and the tag in that.
    Drive(String),
}

/// What the node answers, frame by frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateAnswer {
    /// How far it is.
    Progress {
        /// What is being done.
        step: Step,
        /// Bytes done.
        done: u64,
        /// Bytes in all; 0 where that is not known.
        total: u64,
    },
    /// A release that would be installed.
    Found(Release),
    /// How updates stand.
    State(Box<State>),
    /// It is done; no more frames follow.
    Done(String),
    /// It can't be done, and nothing that runs has changed; no more frames follow.
    Refused(String),
}

/// A step of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Asking for the release and checking its signature.
    Verify,
    /// Fetching its files.
    Fetch,
    /// Writing them into the idle slot.
    Install,
}

/// How updates stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Both slots; `None` where the boot partition can't be read.
    pub slots: Option<Slots>,
    /// From where and when, in words; empty for a node that is never updated.
    pub policy: String,
    /// Attempts, newest first.
    pub attempts: Vec<Attempt>,
    /// Most memory that the `update` service has had resident since it started, in KiB.
    pub peak_kib: u64,
}

/// Reads one of the JSON files, whoever wrote it; `None` when it is too large or is none.
#[cfg(feature = "documents")]
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() > MAX_FILE { None } else { serde_json::from_slice(bytes).ok() }
}

impl Record {
    /// Adds an attempt as the newest. What is left out for it is the oldest that nothing depends on: a release that was
    /// rolled back must not be forgotten because others could not be fetched.
    pub fn begin(&mut self, attempt: Attempt, terms: Terms) {
        self.goes_on(terms);
        self.attempts.insert(0, attempt);
        while self.attempts.len() > MOST_ATTEMPTS {
            let may_go = |attempt: &Attempt| attempt.outcome != Outcome::RolledBack;
            let oldest = self.attempts.iter().skip(1).rposition(may_go).map(|index| index + 1);
            self.attempts.remove(oldest.unwrap_or(self.attempts.len() - 1));
        }
    }

    /// Takes note on whose word the newest attempt goes on from now on.
    pub fn goes_on(&mut self, terms: Terms) {
        self.terms = Some(terms);
        if let Terms::Order { .. } = terms {
            self.rolled_back = None;
        }
    }

    /// Takes note that an operator went back from a release.
    pub fn roll_back(&mut self, from: Version) {
        self.rolled_back = self.rolled_back.max(Some(from));
        let was_installed = |attempt: &&mut Attempt| {
            attempt.release.version == from && !matches!(attempt.outcome, Outcome::Failed)
        };
        if let Some(attempt) = self.attempts.iter_mut().find(was_installed) {
            attempt.outcome = Outcome::RolledBack;
            "an operator went back to the other slot".clone_into(&mut attempt.reason);
        }
    }

    /// The newest attempt, if it is not over.
    pub fn open(&mut self) -> Option<&mut Attempt> {
        self.attempts.first_mut().filter(|attempt| !attempt.outcome.is_final())
    }

    /// Whether this very image was installed before and did not stay: it is not tried again by itself.
    pub fn has_failed(&self, digest: &str) -> bool {
        self.attempts
            .iter()
            .any(|attempt| attempt.release.digest == digest && attempt.outcome == Outcome::RolledBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(digest: &str, outcome: Outcome) -> Attempt {
        let release = Release {
            version: "0.2.0".parse().unwrap(),
            digest: digest.to_owned(),
            root_hash: String::new(),
            kernel: String::new(),
            runtime: String::new(),
            size: 1,
        };
        let from = "0.1.0".parse().unwrap();
        Attempt {
            release,
            from,
            began: 0,
            outcome,
            reason: String::new(),
            moved: 0,
            reused: 0,
            interruptions: 0,
        }
    }

    #[cfg(feature = "documents")]
    #[test]
    fn what_a_newer_release_wrote_is_read_by_an_older_one() {
        let record = Record { attempts: vec![attempt("a", Outcome::Kept)], ..Record::default() };
        let mut value = serde_json::to_value(record).unwrap();
        value["since_the_future"] = 1.into();
        value["attempts"][0]["since_the_future"] = 1.into();
        value["attempts"][0].as_object_mut().unwrap().remove("interruptions");
        let record: Record = parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(record.attempts, [attempt("a", Outcome::Kept)]);
        assert_eq!(parse::<Record>(&vec![b' '; MAX_FILE + 1]), None);
        assert_eq!(parse::<Record>(b"{"), None);
    }

    #[test]
    fn a_release_that_was_rolled_back_has_failed_and_a_fetch_that_broke_has_not() {
        let record = |outcome| Record { attempts: vec![attempt("a", outcome)], ..Record::default() };
        assert!(record(Outcome::RolledBack).has_failed("a"));
        assert!(!record(Outcome::RolledBack).has_failed("b"));
        assert!(!record(Outcome::Failed).has_failed("a"));
    }

    #[test]
    fn the_list_of_attempts_is_bounded_and_the_newest_is_first() {
        let mut record = Record::default();
        for _ in 0..MOST_ATTEMPTS {
            record.begin(attempt("old", Outcome::Failed), Terms::Auto);
        }
        assert!(record.open().is_none());
        record.begin(attempt("new", Outcome::Staging), Terms::Auto);
        assert_eq!(record.attempts.len(), MOST_ATTEMPTS);
        assert_eq!(record.open().unwrap().release.digest, "new");
    }

    #[test]
    fn a_release_that_was_rolled_back_is_not_forgotten_because_others_could_not_be_fetched() {
        let mut record = Record::default();
        record.begin(attempt("bad", Outcome::RolledBack), Terms::Auto);
        for _ in 0..3 * MOST_ATTEMPTS {
            record.begin(attempt("broken line", Outcome::Failed), Terms::Auto);
        }
        assert_eq!(record.attempts.len(), MOST_ATTEMPTS);
        assert!(record.has_failed("bad"));
        // Nothing else is left: the oldest goes, and the newest is there.
        for _ in 0..2 * MOST_ATTEMPTS {
            record.begin(attempt("worse", Outcome::RolledBack), Terms::Auto);
        }
        record.begin(attempt("new", Outcome::Staging), Terms::Auto);
        assert_eq!(record.attempts.len(), MOST_ATTEMPTS);
        assert_eq!(record.open().unwrap().release.digest, "new");
        assert!(!record.has_failed("bad"));
    }

    #[test]
    fn a_rollback_is_remembered_until_an_operator_has_a_release_installed() {
        let from = "0.2.0".parse().unwrap();
        let mut record = Record::default();
        record.begin(attempt("a", Outcome::Kept), Terms::Auto);
        record.begin(attempt("a", Outcome::Failed), Terms::Auto);
        record.roll_back(from);
        let outcomes: Vec<_> = record.attempts.iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(outcomes, [Outcome::Failed, Outcome::RolledBack], "the one that was installed");
        assert_eq!(record.rolled_back, Some(from));
        record.begin(attempt("b", Outcome::Staging), Terms::Auto);
        assert_eq!(record.rolled_back, Some(from));
        record.begin(attempt("a", Outcome::Staging), Terms::Order { restart: false });
        assert_eq!(record.rolled_back, None);
    }

    /// What release 0.1.0 of this project wrote, byte for byte.
    #[cfg(feature = "documents")]
    #[test]
    fn what_an_older_release_wrote_is_read() {
        let text = r#"{"attempts":[{"release":{"version":"0.2.0","digest":"sha256:00","root_hash":"","kernel":"",
            "runtime":"","size":1},"from":"0.1.0","began":5,"outcome":"Trying","reason":"it is installed","moved":1,
            "reused":2,"interruptions":1}]}"#;
        let record: Record = parse(text.as_bytes()).unwrap();
        assert_eq!((record.terms, record.rolled_back), (None, None));
        assert_eq!(record.attempts[0].interruptions, 1);
    }
}
