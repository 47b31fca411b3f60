//! The whole machine: firmware and boot loader, PID 1 with its queue of jobs, the job `slots`, the service `update`, the
//! operator, the power. A step is what one of them does next; what it decides, the real functions decide.

use crate::attempts::Attempts;
use crate::disk::{self, Disk, Number, number};
use crate::rules::Rules;
use crate::state::{Asked, Doing, Life, Running, SlotsWorkOf, State, Step};
use astromesh_proto::machine_config::{Update, UpdateMode, Window};

/// What may happen beside what must.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, whatever the others are")]
pub struct World {
    pub rules: Rules,
    /// The releases that there are beside the first.
    pub releases: &'static [Number],
    /// Modes of the machine-config that it may begin with.
    pub modes: &'static [bool],
    /// The machine-config may change between two boots.
    pub mode_changes: bool,
    /// `/var` may fill up and the window close at any moment.
    pub weather: bool,
    /// Processes may die.
    pub deaths: bool,
    /// What talks to the network belongs to an attacker: it may order what PID 1 lets `update` order, and change staged files.
    pub attacked: bool,
}

/// A step, and where it leads; why that must not be.
pub type Successor = (Step, State, Option<String>);

impl World {
    pub fn beginnings(&self) -> Vec<State> {
        let begin = |auto| State {
            disk: Disk::new(),
            attempts: Attempts::default(),
            auto,
            window_is_open: true,
            var_is_full: false,
            life: None,
            word: None,
            rolled_back: 0,
        };
        self.modes.iter().copied().map(begin).collect()
    }

    pub fn policy(state: &State) -> Update {
        Update {
            image: None,
            channel: String::new(),
            keys: Vec::new(),
            mode: if state.auto { UpdateMode::Auto } else { UpdateMode::Manual },
            check_every_minutes: 60,
            // The clock of the model stands at midnight.
            window: (!state.window_is_open).then_some(Window { from_minute: 60, to_minute: 120 }),
            max_bytes_per_second: None,
            account: None,
            plain_http: false,
            bless_after_seconds: 60,
            healthy_within_seconds: 600,
        }
    }

    /// Everything that may happen next.
    pub fn successors(&self, state: &State, found: &mut Vec<Successor>) {
        found.clear();
        match state.life {
            None => self.while_off(state, found),
            Some(life) => {
                let mut sink = Sink { world: self, found };
                sink.power(state);
                sink.weather(state);
                sink.pid_1(state, &life);
                sink.job(state, &life);
                sink.update(state, &life);
            }
        }
        for (_, state, fault) in found.iter_mut() {
            if fault.is_none() {
                *fault = state.disk.fault();
            }
        }
    }

    pub fn while_off(&self, state: &State, found: &mut Vec<Successor>) {
        for entry in state.disk.loader_may_start() {
            let release = number(entry.version);
            let mut next = *state;
            let counted = disk::counted(&entry);
            if let Some(counted) = &counted {
                next.disk.remove(&entry);
                // The firmware's rename, cut: the name is gone.
                found.push((Step::PowerFailsWhileTheLoaderCounts, next, None));
                next.disk.add(counted);
            }
            let fault = (release == state.rolled_back && !self.attacked)
                .then(|| format!("{} is started again, and an operator went back from it", entry.version));
            if state.disk.has(release) {
                let look = Asked { work: SlotsWorkOf::Inspect, waits: false };
                next.life = Some(Life {
                    running: release,
                    said: counted.and_then(|entry| entry.tries).map(|tries| (tries.left, tries.done)),
                    seen: None,
                    trial: None,
                    blessed: false,
                    job: Some(Running { asked: look, stage: 0, release: 0 }),
                    waiting: [None; 4],
                    then_reboot: false,
                    doing: Doing::Starting,
                    waits_for_reboot: false,
                    answers: false,
                    attempts: next.attempts,
                    staged: 0,
                });
            }
            found.push((Step::Boots, next, fault));
        }
        if self.mode_changes {
            let next = State { auto: !state.auto, window_is_open: true, ..*state };
            found.push((Step::TheMachineConfigSays { auto: next.auto }, next, None));
        }
    }
}

/// Where successors go.
pub struct Sink<'a> {
    pub world: &'a World,
    pub found: &'a mut Vec<Successor>,
}

impl Sink<'_> {
    pub fn push(&mut self, step: Step, state: State) {
        self.push_unless(step, state, None);
    }

    /// A step after which PID 1 reboots if that is due.
    pub fn push_unless(&mut self, step: Step, mut state: State, fault: Option<String>) {
        if state.life.is_some_and(|life| life.queue().reboot_is_due()) {
            state.life = None;
        }
        state.disk.forget_what_is_gone();
        self.found.push((step, state, fault));
    }

    pub fn power(&mut self, state: &State) {
        self.push(Step::PowerFails, state.off());
        if self.world.deaths {
            let mut next = *state;
            if let Some(life) = &mut next.life {
                life.attempts = state.attempts;
                life.doing = Doing::Starting;
                life.waits_for_reboot = false;
                life.answers = false;
                let job = life.job.iter_mut().map(|job| &mut job.asked);
                job.chain(life.waiting.iter_mut().flatten()).for_each(|asked| asked.waits = false);
            }
            self.push(Step::UpdateDies, next);
            if state.life.is_some_and(|life| life.job.is_some()) {
                self.end_job(Step::TheJobDies, *state, false);
            }
        }
    }

    pub fn weather(&mut self, state: &State) {
        if self.world.weather {
            self.push(Step::VarFillsUpOrHasRoom, State { var_is_full: !state.var_is_full, ..*state });
            if state.auto {
                let window_is_open = !state.window_is_open;
                self.push(Step::TheWindowOpensOrCloses, State { window_is_open, ..*state });
            }
        }
    }

    pub fn pid_1(&mut self, state: &State, life: &Life) {
        let blesses = |asked: &Asked| asked.work == SlotsWorkOf::Bless;
        let asked_already =
            life.waiting.iter().flatten().any(blesses) || life.job.is_some_and(|job| blesses(&job.asked));
        if life.trial.is_some() && !life.blessed && !asked_already {
            let mut next = *state;
            let mut life = *life;
            life.ask(SlotsWorkOf::Bless, false);
            next.life = Some(life);
            self.push(Step::HealthHolds, next);
        }
        if life.trial == Some(true) && !life.blessed {
            self.push(Step::HealthDoesNotComeToHold, state.off());
        }
        if self.world.attacked {
            for work in [SlotsWorkOf::Inspect, SlotsWorkOf::Rollback] {
                let mut next = *state;
                let mut life = *life;
                life.ask(work, false);
                next.life = Some(life);
                self.push(Step::AnybodyOrders(work), next);
            }
            for release in self.world.releases.iter().copied() {
                let mut next = *state;
                let mut life = Life { staged: release, ..*life };
                life.ask(SlotsWorkOf::Install, false);
                next.life = Some(life);
                self.push(Step::AnybodyOrders(SlotsWorkOf::Install), next);
            }
            let mut next = *state;
            if let Some(life) = &mut next.life {
                life.ask_reboot();
            }
            self.push(Step::AnybodyReboots, next);
        }
    }
}
