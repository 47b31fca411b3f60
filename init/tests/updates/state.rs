//! What the model knows of a machine at one moment, and the steps from one to the next.

use crate::attempts::{Attempts, Word};
use crate::disk::{self, Disk, Names, Number, version};
use astromesh_pid1::jobs::{Jobs, Order};
use astromesh_proto::boot_entry::{BootEntry, Tries};
use astromesh_proto::ipc::SlotsWork;
use astromesh_proto::update::{Outcome, Slots};
use astromesh_release::entries::on_trial;

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    PowerFails,
    PowerFailsInARename,
    Boots,
    PowerFailsWhileTheLoaderCounts,
    TheMachineConfigSays { auto: bool },
    TheWindowOpensOrCloses,
    VarFillsUpOrHasRoom,
    UpdateDies,
    TheJobDies,
    UpdateStarts,
    HealthHolds,
    HealthDoesNotComeToHold,
    TheJobGoesOn(SlotsWorkOf),
    TheJobWritesSomethingElse,
    OperatorOrders { release: Number, restart: bool },
    OperatorRollsBack,
    AutoLooks { release: Number },
    UpdateFetched,
    UpdateCanNotFetch,
    UpdateReboots,
    AnybodyOrders(SlotsWorkOf),
    AnybodyReboots,
}

/// [`SlotsWork`], as far as the model has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotsWorkOf {
    Inspect,
    Install,
    Bless,
    Rollback,
}

impl SlotsWorkOf {
    pub fn of(work: SlotsWork) -> Self {
        match work {
            SlotsWork::Inspect => Self::Inspect,
            SlotsWork::Install => Self::Install,
            SlotsWork::Bless => Self::Bless,
            SlotsWork::Rollback => Self::Rollback,
            SlotsWork::TakeDrive => panic!("no drive in the model"),
        }
    }

    pub fn work(self) -> SlotsWork {
        match self {
            Self::Inspect => SlotsWork::Inspect,
            Self::Install => SlotsWork::Install,
            Self::Bless => SlotsWork::Bless,
            Self::Rollback => SlotsWork::Rollback,
        }
    }
}

/// An order to PID 1, and whether the `update` that runs waits for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    pub work: SlotsWorkOf,
    pub waits: bool,
}

impl Asked {
    /// The number that stands for it: PID 1's own, this life's, an earlier life's.
    pub fn order(self) -> Order {
        Order { work: self.work.work(), number: if self.waits { 1 } else { 2 } }
    }

    pub fn of(order: Order) -> Self {
        Self { work: SlotsWorkOf::of(order.work), waits: order.number == 1 }
    }
}

/// A job that runs: how far it is, and what it installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Running {
    pub asked: Asked,
    pub stage: u8,
    pub release: Number,
}

/// What `/run/node/slots` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub names: [Names; 3],
    pub floor: Number,
}

/// What the service `update` is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doing {
    Starting,
    /// Waits for the look that tells it what became of its attempt.
    Looking,
    Idle,
    Fetching(Number, Word),
    WaitingForInstall(Number, Word),
    LookingAfterInstall(Word),
    WaitingForRollback,
    /// It has answered, and has the machine reboot next.
    Answered,
}

/// A machine that is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "four processes know something of it, each by itself")]
pub struct Life {
    pub running: Number,
    /// The entry that the boot loader counts.
    pub said: Option<(u32, u32)>,
    pub seen: Option<Seen>,
    /// Whether the release is on trial; `None` until the first look ended.
    pub trial: Option<bool>,
    pub blessed: bool,
    pub job: Option<Running>,
    pub waiting: [Option<Asked>; 4],
    pub then_reboot: bool,
    pub doing: Doing,
    /// Whether `update` reboots into what waits for it.
    pub waits_for_reboot: bool,
    /// Whether what `doing` reports was ordered by an operator of this life, who gets an answer.
    pub answers: bool,
    /// What `update` has in its memory of its record.
    pub attempts: Attempts,
    /// What is staged.
    pub staged: Number,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub disk: Disk,
    /// The record on `/var`.
    pub attempts: Attempts,
    pub auto: bool,
    pub window_is_open: bool,
    pub var_is_full: bool,
    pub life: Option<Life>,
    /// On whose word the newest attempt was really begun.
    pub word: Option<Word>,
    /// What an operator went back from, while that holds.
    pub rolled_back: Number,
}

impl Life {
    pub fn queue(&self) -> Jobs<()> {
        let mut jobs = Jobs::default();
        if let Some(job) = self.job {
            jobs.started(job.asked.order(), ());
        }
        for asked in self.waiting.iter().flatten() {
            assert!(jobs.ask(asked.order()));
        }
        if self.then_reboot {
            jobs.ask_reboot();
        }
        jobs
    }

    /// Takes over the queue, and begins the job that is next.
    pub fn set_queue(&mut self, mut jobs: Jobs<()>, began: Option<Running>) {
        self.job = began;
        if let Some(order) = jobs.take_next() {
            self.job = Some(Running { asked: Asked::of(order), stage: 0, release: 0 });
            jobs.started(order, ());
        }
        self.then_reboot = jobs.then_reboots();
        self.waiting = [None; 4];
        jobs.take_if(|()| true);
        for place in &mut self.waiting {
            *place = jobs.take_next().map(Asked::of);
        }
        assert!(jobs.take_next().is_none());
    }

    /// Asks PID 1 for work; whether it took the order.
    pub fn ask(&mut self, work: SlotsWorkOf, waits: bool) -> bool {
        let mut jobs = self.queue();
        let asked = jobs.ask(Asked { work, waits }.order());
        self.set_queue(jobs, self.job);
        asked
    }

    pub fn ask_reboot(&mut self) {
        self.then_reboot = true;
    }

    pub fn slots(&self) -> Option<Slots> {
        let seen = self.seen?;
        Some(Slots {
            running: version(self.running),
            counted: None,
            entries: disk::entries(seen.names),
            partitions: Vec::new(),
            floor: (seen.floor != 0).then(|| version(seen.floor)),
        })
    }

    /// A look at the slots writes down what it finds. The first one tells PID 1 whether the release is on trial.
    pub fn look(&mut self, disk: &Disk, said: Option<BootEntry>) {
        let on_trial = on_trial(&disk.entries(), version(self.running), said).is_some();
        self.seen = Some(Seen { names: disk.names, floor: disk.floor });
        self.trial = self.trial.or(Some(on_trial));
    }

    pub fn said(&self) -> Option<BootEntry> {
        let (left, done) = self.said?;
        let tries = Some(Tries { left, done });
        Some(BootEntry { version: version(self.running), tries })
    }
}

impl State {
    pub fn off(mut self) -> Self {
        self.life = None;
        self
    }

    /// Writes down what `update` has in its memory, if there is room.
    pub fn write_record(&mut self) {
        if let (Some(life), false) = (&self.life, self.var_is_full) {
            self.attempts = life.attempts;
        }
    }

    pub fn note<T>(&mut self, change: impl FnOnce(&mut Attempts) -> T) -> Option<T> {
        let result = change(&mut self.life.as_mut()?.attempts);
        self.write_record();
        Some(result)
    }

    /// The attempt ends here, and nothing that runs has changed.
    pub fn fail(&mut self) {
        self.note(|attempts| attempts.end(Outcome::Failed));
        if let Some(life) = &mut self.life {
            (life.doing, life.answers) = (Doing::Idle, false);
        }
    }
}
