//! The boot as it went: a fixed number of records, so that recording one can't fail for lack of memory.

use astromesh_node::clock::now_us;
use astromesh_proto::control::StageOutcome;
use astromesh_proto::ipc::{self, FromInit, MAX_TEXT};
use heapless::{String, Vec};
use rustix::fs::{Mode, OFlags};

/// Room for every stage of the table, the kernel's own share, `healthy` and `kept`.
const MOST: usize = 14;

/// One record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Name of the stage.
    pub name: &'static str,
    /// When it began, in microseconds since the kernel started.
    pub started_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Idle time of all processors in it, in microseconds; while it is running, up to its beginning.
    pub idle_us: u64,
    /// How it ended.
    pub outcome: StageOutcome,
    /// What it had to say.
    pub note: String<MAX_TEXT>,
    /// Whether that is why it took long.
    remarked: bool,
}

/// The records, in the order in which the stages began.
#[derive(Debug, Default)]
pub struct Timeline(Vec<Record, MOST>);

impl Timeline {
    /// Adds a record; past [`MOST`] it is lost, which the table's length rules out.
    pub fn push(&mut self, name: &'static str, began: Moment, outcome: StageOutcome, note: String<MAX_TEXT>) {
        let now = Moment::now();
        let (took_us, idle_us) = match outcome {
            StageOutcome::Running => (0, began.idle_us),
            // Before /proc there is no idle time to read; the first stages never wait.
            _ if began.idle_us == 0 => (now.us - began.us, 0),
            _ => (now.us - began.us, now.idle_us.saturating_sub(began.idle_us)),
        };
        let _ = self.0.push(Record {
            name,
            started_us: began.us,
            took_us,
            idle_us,
            outcome,
            note,
            remarked: false,
        });
    }

    /// Notes why a record is still running. The note stays when it has ended: it says what took so long.
    pub fn remark(&mut self, name: &str, note: &str) {
        let running =
            self.0.iter_mut().find(|record| record.name == name && record.outcome == StageOutcome::Running);
        if let Some(record) = running {
            record.note = ipc::cut(note);
            record.remarked = true;
        }
    }

    /// Ends a record that is still running; `false` when there is none of that name.
    pub fn finish(&mut self, name: &str, outcome: StageOutcome, note: &str) -> bool {
        let now = Moment::now();
        let running =
            self.0.iter_mut().find(|record| record.name == name && record.outcome == StageOutcome::Running);
        running.is_some_and(|record| {
            record.took_us = now.us - record.started_us;
            record.idle_us = now.idle_us.saturating_sub(record.idle_us);
            record.outcome = outcome;
            if !note.is_empty() && !record.remarked {
                record.note = ipc::cut(note);
            }
            true
        })
    }

    /// The records as messages.
    pub fn messages(&self) -> impl Iterator<Item = FromInit> + '_ {
        self.0.iter().map(|record| FromInit::Stage {
            name: ipc::cut(record.name),
            started_us: record.started_us,
            took_us: record.took_us,
            idle_us: record.idle_us,
            outcome: record.outcome,
            note: record.note.clone(),
        })
    }
}

/// A point in time: since the kernel started, and idle time of all processors up to then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// Microseconds since the kernel started.
    pub us: u64,
    /// Microseconds of idle time; 0 while there is no /proc.
    pub idle_us: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { us: now_us(), idle_us: idle_us() }
    }
}

/// The fourth and fifth numbers of the first line of /proc/stat, idle and waiting for a disk, in hundredths of a second
/// (proc_stat(5)). /proc/uptime has the first of them alone.
fn idle_us() -> u64 {
    let mut text = [0; 256];
    let count = rustix::fs::open(c"/proc/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut text))
        .unwrap_or(0);
    idle_hundredths(&text[..count]) * 10_000
}

fn idle_hundredths(text: &[u8]) -> u64 {
    let numbers = text
        .split(|byte| *byte == b' ')
        .filter_map(|word| core::str::from_utf8(word).ok()?.parse::<u64>().ok());
    numbers.skip(3).take(2).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_a_disk_are_both_idle() {
        let text = b"cpu  100 1 20 4000 300 7 8 0 0 0\ncpu0 100 1 20 4000 300 7 8 0 0 0\n";
        assert_eq!(idle_hundredths(text), 4300);
        assert_eq!(idle_hundredths(b""), 0);
    }

    #[test]
    fn what_a_stage_waited_for_is_still_said_when_it_has_ended() {
        let mut timeline = Timeline::default();
        timeline.push("control", Moment::now(), StageOutcome::Running, ipc::cut("starting"));
        timeline.remark("control", "can't listen on 10.0.0.7:7443 yet");
        assert!(timeline.finish("control", StageOutcome::Done, "serving"));
        // Too late.
        timeline.remark("control", "anything");
        assert_eq!(timeline.0[0].note.as_str(), "can't listen on 10.0.0.7:7443 yet");
        assert_eq!(timeline.0[0].outcome, StageOutcome::Done);
        // Twin: one that waited for nothing says how it ended.
        timeline.push("network", Moment::now(), StageOutcome::Running, ipc::cut("starting"));
        assert!(timeline.finish("network", StageOutcome::Done, "configured"));
        assert_eq!(timeline.0[1].note.as_str(), "configured");
    }

    #[test]
    fn only_a_running_record_can_be_finished_and_only_once() {
        let mut timeline = Timeline::default();
        timeline.push("network", Moment::now(), StageOutcome::Running, String::new());
        assert!(!timeline.finish("agent", StageOutcome::Done, ""));
        assert!(timeline.finish("network", StageOutcome::Done, "one address"));
        assert!(!timeline.finish("network", StageOutcome::Failed, ""));
    }
}
