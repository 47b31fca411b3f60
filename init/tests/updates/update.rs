//! The service `update`: what it does next, and what it hears of its jobs.

use crate::attempts::{Word, attempt, digest};
use crate::disk::{Number, number, version};
use crate::machine::{Sink, World};
use crate::state::{Doing, Life, SlotsWorkOf, State, Step};
use astromesh_proto::update::{Outcome, Terms};
use astromesh_release::staged::Standing;
use astromesh_update::reconcile::{Next, missed_rollback, reconcile};

impl Sink<'_> {
    pub fn settle_blessed(&self, state: &mut State) {
        let Some(life) = state.life else { return };
        if life.doing == Doing::Starting {
            return;
        }
        let running = version(life.running);
        let of_it = life.attempts.record().open().is_some_and(|attempt| attempt.release.version == running);
        if of_it {
            self.settle(state);
        }
    }

    pub fn notice_rollback(&self, state: &mut State) {
        let Some(life) = state.life else { return };
        let Some(slots) = life.slots().filter(|_| self.world.rules.remembers_rollback) else { return };
        state.note(|attempts| {
            attempts.note(|record| {
                if let Some(from) = missed_rollback(record, version(life.running), &slots) {
                    record.roll_back(from);
                }
            });
        });
    }

    pub fn settle(&self, state: &mut State) -> Next {
        self.notice_rollback(state);
        let Some(life) = state.life else { return Next::Nothing };
        let (slots, running) = (life.slots(), version(life.running));
        let settled = state.note(|attempts| {
            attempts.note(|record| {
                record.open().map_or(Next::Nothing, |attempt| reconcile(attempt, running, slots.as_ref()))
            })
        });
        settled.unwrap_or(Next::Nothing)
    }

    /// `update` has the answer that it waits for.
    pub fn heard(&self, state: &mut State, done: bool) {
        let Some(life) = &mut state.life else { return };
        match life.doing {
            Doing::Looking => self.go_on_with_the_last(state),
            Doing::WaitingForInstall(_, word) if done => {
                life.doing = Doing::LookingAfterInstall(word);
                if !life.ask(SlotsWorkOf::Inspect, true) {
                    self.installed(state, word);
                }
            }
            Doing::WaitingForInstall(..) => state.fail(),
            Doing::LookingAfterInstall(word) => self.installed(state, word),
            Doing::WaitingForRollback => {
                life.doing = if done { Doing::Answered } else { Doing::Idle };
                let running = version(life.running);
                if done && self.world.rules.remembers_rollback {
                    state.note(|attempts| attempts.note(|record| record.roll_back(running)));
                }
            }
            _ => {}
        }
    }

    pub fn installed(&self, state: &mut State, word: Word) {
        state.note(|attempts| attempts.end(Outcome::Trying));
        let reboots = (self.world.rules.may_reboot)(&World::policy(state), Some(word.terms()), 0);
        let Some(life) = &mut state.life else { return };
        life.doing = if life.answers && reboots { Doing::Answered } else { Doing::Idle };
        life.waits_for_reboot |= !life.answers;
        life.answers = false;
    }

    /// At its start, once it has looked.
    pub fn go_on_with_the_last(&self, state: &mut State) {
        let next = self.settle(state);
        let policy = World::policy(state);
        let Some(life) = &mut state.life else { return };
        life.doing = Doing::Idle;
        life.waits_for_reboot = next != Next::Nothing;
        if next == Next::Resume {
            let record = life.attempts.record();
            let (release, terms) = (number(record.attempts[0].release.version), record.terms);
            if !astromesh_update::terms::may_go_on(&policy, terms) {
                return state.fail();
            }
            self.apply(state, release, terms.unwrap_or(Terms::Auto));
        }
    }

    /// Begins or goes on with an attempt, if the node takes it.
    pub fn apply(&self, state: &mut State, release: Number, terms: Terms) -> bool {
        let Some(life) = &mut state.life else { return false };
        let Some(slots) = life.slots() else { return false };
        let (rules, running) = (self.world.rules, version(life.running));
        let standing = Standing { running, floor: slots.floor, entries: &slots.entries };
        let record = life.attempts.record();
        // An attempt that can't be written down is not begun.
        if state.var_is_full
            || !(rules.admits)(release, &standing)
            || !(rules.may_try)(&record, Some(&slots), terms, version(release), &digest(release))
        {
            return false;
        }
        life.doing = Doing::Fetching(release, Word::of(terms));
        let remembers = rules.remembers_rollback;
        state.note(|attempts| {
            attempts.note(|record| {
                match record.open() {
                    Some(open) if open.release.version == version(release) => {
                        open.outcome = Outcome::Staging;
                        record.goes_on(terms);
                    }
                    open => {
                        if let Some(open) = open {
                            open.outcome = Outcome::Failed;
                        }
                        record.begin(attempt(release, Outcome::Staging, 0), terms);
                    }
                }
                if !remembers {
                    record.rolled_back = None;
                }
            });
        });
        true
    }

    pub fn update(&mut self, state: &State, life: &Life) {
        let mut next = *state;
        match life.doing {
            Doing::Starting => {
                let open = life.attempts.is_open();
                let mut life = *life;
                life.doing = Doing::Looking;
                let waits = open && life.ask(SlotsWorkOf::Inspect, true);
                next.life = Some(life);
                if !waits {
                    self.go_on_with_the_last(&mut next);
                }
                self.push(Step::UpdateStarts, next);
            }
            Doing::Idle => self.idle(state, life),
            Doing::Fetching(release, word) => {
                if let Some(life) = &mut next.life {
                    life.staged = release;
                    life.doing = Doing::WaitingForInstall(release, word);
                }
                next.note(|attempts| attempts.end(Outcome::Installing));
                let taken = next.life.as_mut().is_some_and(|life| life.ask(SlotsWorkOf::Install, true));
                if !taken {
                    next.fail();
                }
                self.push(Step::UpdateFetched, next);
                let mut next = *state;
                next.fail();
                self.push(Step::UpdateCanNotFetch, next);
            }
            Doing::Answered => {
                let rolls_back = state.rolled_back == life.running;
                let fault = self.forbids_reboot(state).filter(|_| !rolls_back);
                if let Some(life) = &mut next.life {
                    life.doing = Doing::Idle;
                    life.ask_reboot();
                }
                self.push_unless(Step::UpdateReboots, next, fault);
            }
            Doing::Looking
            | Doing::WaitingForInstall(..)
            | Doing::LookingAfterInstall(_)
            | Doing::WaitingForRollback => {
                if !self.world.rules.refuses_while_busy {
                    if let Some(life) = &mut next.life {
                        life.ask(SlotsWorkOf::Rollback, false);
                    }
                    self.push(Step::OperatorRollsBack, next);
                }
            }
        }
    }

    pub fn idle(&mut self, state: &State, life: &Life) {
        let policy = World::policy(state);
        let begin = |sink: &mut Self, step, release, terms| {
            let mut next = *state;
            if terms == Terms::Auto {
                sink.notice_rollback(&mut next);
            }
            if sink.apply(&mut next, release, terms) {
                next.word = Some(Word::of(terms));
                if let (Terms::Order { .. }, Some(life)) = (terms, &mut next.life) {
                    next.rolled_back = 0;
                    life.answers = true;
                }
                sink.push(step, next);
            }
        };
        for release in self.world.releases.iter().copied() {
            for restart in [true, false] {
                let step = Step::OperatorOrders { release, restart };
                begin(self, step, release, Terms::Order { restart });
            }
            let is_kept = life.slots().is_some_and(|slots| slots.is_kept());
            if is_kept && astromesh_update::schedule::is_due(&policy, 0, None) {
                begin(self, Step::AutoLooks { release }, release, Terms::Auto);
            }
        }
        let mut next = *state;
        if let Some(life) = &mut next.life {
            life.doing = Doing::WaitingForRollback;
            if !life.ask(SlotsWorkOf::Rollback, true) {
                life.doing = Doing::Idle;
            }
        }
        self.push(Step::OperatorRollsBack, next);
        let reboots =
            (self.world.rules.reboots_now)(&life.attempts.record(), version(life.running), &policy, 0);
        if life.waits_for_reboot && reboots {
            let mut next = *state;
            next.note(|attempts| {
                attempts.note(|record| {
                    if let Some(attempt) = record.open() {
                        attempt.interruptions += 1;
                    }
                });
            });
            if let Some(life) = &mut next.life {
                life.waits_for_reboot = false;
                life.ask_reboot();
            }
            let fault = self.forbids_reboot(state);
            self.push_unless(Step::UpdateReboots, next, fault);
        }
    }

    /// Why the machine may not reboot into what is installed now, by what was really ordered.
    pub fn forbids_reboot(&self, state: &State) -> Option<String> {
        let may = match state.word {
            Some(Word::Order) => true,
            Some(Word::OrderWithoutRestart) | None => false,
            Some(Word::Auto) => state.auto && state.window_is_open,
        };
        (!may && !self.world.attacked)
            .then(|| format!("it reboots on {:?}, with auto {}", state.word, state.auto))
    }
}
