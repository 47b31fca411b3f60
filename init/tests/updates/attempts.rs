//! The record of the `update` service, as small as it can be told apart, and back.

use crate::disk::{Number, RELEASES, number, version};
use astromesh_proto::update::{Attempt, Outcome, Record, Release, Terms};

/// The newest attempt, what became of earlier ones by release, and what an operator went back from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    newest: Option<Newest>,
    /// How the last attempt at each release ended that ended with it on the disk.
    last: [Ended; 3],
    /// Which were rolled back at some time before that.
    failed: [bool; 3],
    rolled_back: Number,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Newest {
    release: Number,
    outcome: Step,
    terms: Word,
    interruptions: u8,
}

/// [`Outcome`], with what the model needs to be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Staging,
    Installing,
    Trying,
    Kept,
    RolledBack,
    Failed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Ended {
    #[default]
    Never,
    Kept,
    RolledBack,
}

/// [`Terms`], with what the model needs to be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    Order,
    OrderWithoutRestart,
    Auto,
}

impl Word {
    pub fn of(terms: Terms) -> Self {
        match terms {
            Terms::Order { restart: true } => Self::Order,
            Terms::Order { restart: false } => Self::OrderWithoutRestart,
            Terms::Auto => Self::Auto,
        }
    }

    pub fn terms(self) -> Terms {
        match self {
            Self::Order => Terms::Order { restart: true },
            Self::OrderWithoutRestart => Terms::Order { restart: false },
            Self::Auto => Terms::Auto,
        }
    }
}

const STEPS: [(Step, Outcome); 6] = [
    (Step::Staging, Outcome::Staging),
    (Step::Installing, Outcome::Installing),
    (Step::Trying, Outcome::Trying),
    (Step::Kept, Outcome::Kept),
    (Step::RolledBack, Outcome::RolledBack),
    (Step::Failed, Outcome::Failed),
];

/// What the model calls the digest of a release.
pub fn digest(release: Number) -> String {
    release.to_string()
}

pub fn attempt(release: Number, outcome: Outcome, interruptions: u8) -> Attempt {
    let release = Release {
        version: version(release),
        digest: digest(release),
        root_hash: String::new(),
        kernel: String::new(),
        runtime: String::new(),
        size: 0,
    };
    let from = version(1);
    Attempt {
        release,
        from,
        began: 0,
        outcome,
        reason: String::new(),
        moved: 0,
        reused: 0,
        interruptions: interruptions.into(),
    }
}

impl Attempts {
    pub fn of(record: &Record) -> Self {
        let mut attempts = Self { rolled_back: record.rolled_back.map_or(0, number), ..Self::default() };
        for (index, one) in record.attempts.iter().enumerate() {
            let release = number(one.release.version);
            let (last, failed) = (
                &mut attempts.last[usize::from(release) - 1],
                &mut attempts.failed[usize::from(release) - 1],
            );
            if index == 0 {
                let outcome = STEPS.iter().find(|(_, outcome)| *outcome == one.outcome).unwrap().0;
                let interruptions = u8::try_from(one.interruptions).unwrap();
                let terms = Word::of(record.terms.unwrap());
                attempts.newest = Some(Newest { release, outcome, terms, interruptions });
                continue;
            }
            match one.outcome {
                Outcome::Kept if *last == Ended::Never => *last = Ended::Kept,
                Outcome::RolledBack if *last == Ended::Never => *last = Ended::RolledBack,
                Outcome::RolledBack => *failed = true,
                _ => {}
            }
        }
        attempts
    }

    pub fn record(&self) -> Record {
        let newest = self.newest.map(|Newest { release, outcome, interruptions, .. }| {
            let outcome = STEPS.iter().find(|(step, _)| *step == outcome).unwrap().1;
            attempt(release, outcome, interruptions)
        });
        let mut attempts: Vec<_> = newest.into_iter().collect();
        for (release, (last, failed)) in RELEASES.into_iter().zip(self.last.iter().zip(self.failed)) {
            match last {
                Ended::Never => {}
                Ended::Kept => attempts.push(attempt(release, Outcome::Kept, 0)),
                Ended::RolledBack => attempts.push(attempt(release, Outcome::RolledBack, 0)),
            }
            if failed {
                attempts.push(attempt(release, Outcome::RolledBack, 0));
            }
        }
        let rolled_back = (self.rolled_back != 0).then(|| version(self.rolled_back));
        Record { attempts, terms: self.newest.map(|newest| newest.terms.terms()), rolled_back }
    }

    pub fn is_open(&self) -> bool {
        self.record().open().is_some()
    }

    /// Changes it as the service does.
    pub fn note<T>(&mut self, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.record();
        let result = change(&mut record);
        *self = Self::of(&record);
        result
    }

    pub fn end(&mut self, outcome: Outcome) {
        self.note(|record| {
            if let Some(attempt) = record.open() {
                attempt.outcome = outcome;
            }
        });
    }
}
