//! The job `slots`: what it changes on the disk, and what is there where power fails between two of its steps.

use crate::attempts::Word;
use crate::disk::{self, Disk, Names, version};
use crate::machine::Sink;
use crate::state::{Asked, Life, Running, SlotsWorkOf, State, Step};
use astromesh_release::entries::{arming, blessing};
use astromesh_release::staged::Standing;

impl Sink<'_> {
    /// The disk between two steps of a job: power may fail there, and the job may die there.
    pub fn between(&mut self, state: &State, disk: Disk) {
        self.push(Step::PowerFails, State { disk, ..*state }.off());
        if self.world.deaths {
            self.end_job(Step::TheJobDies, State { disk, ..*state }, false);
        }
    }

    pub fn job(&mut self, state: &State, life: &Life) {
        let Some(job) = life.job else { return };
        let step = Step::TheJobGoesOn(job.asked.work);
        match job.asked.work {
            SlotsWorkOf::Inspect => {
                let mut next = *state;
                if let Some(life) = &mut next.life {
                    let said = life.said();
                    life.look(&state.disk, said);
                }
                self.end_job(step, next, true);
            }
            SlotsWorkOf::Bless => {
                let Ok(change) = blessing(&state.disk.entries(), version(life.running), life.said()) else {
                    return self.end_job(step, *state, false);
                };
                let mut next = *state;
                if let Some(change) = change {
                    next.disk.add(&change.to);
                    // Both names for one file.
                    self.push(Step::PowerFailsInARename, next.off());
                    next.disk.remove(&change.from);
                    self.between(state, next.disk);
                }
                if !state.var_is_full {
                    next.disk.floor = next.disk.floor.max(life.running);
                }
                if let Some(life) = &mut next.life {
                    life.blessed = true;
                    life.look(&next.disk, None);
                }
                self.end_job(step, next, true);
            }
            SlotsWorkOf::Rollback => {
                let (entries, partitions) = (state.disk.entries(), state.disk.partitions());
                let running = version(life.running);
                let changes = (self.world.rules.rollback)(&entries, running, life.said(), &partitions);
                let Some(changes) = changes else {
                    return self.end_job(step, *state, false);
                };
                let mut next = *state;
                for change in changes {
                    self.between(state, next.disk);
                    next.disk.add(&change.to);
                    self.push(Step::PowerFailsInARename, next.off());
                    next.disk.remove(&change.from);
                }
                next.rolled_back = life.running;
                if let Some(life) = &mut next.life {
                    life.look(&next.disk, None);
                }
                self.end_job(step, next, true);
            }
            SlotsWorkOf::Install => self.install(state, life, job),
        }
    }

    /// The job `slots install`, in three steps.
    pub fn install(&mut self, state: &State, life: &Life, job: Running) {
        let step = Step::TheJobGoesOn(SlotsWorkOf::Install);
        let mut next = *state;
        let go_on = |next: &mut State, stage, release| {
            if let Some(job) = next.life.as_mut().and_then(|life| life.job.as_mut()) {
                (job.stage, job.release) = (stage, release);
            }
        };
        match job.stage {
            0 => {
                let release = life.staged;
                let floor = (state.disk.floor != 0).then(|| version(state.disk.floor));
                let entries = state.disk.entries();
                let standing = Standing { running: version(life.running), floor, entries: &entries };
                if release == 0 || !(self.world.rules.admits)(release, &standing) {
                    return self.end_job(step, next, false);
                }
                for entry in entries.iter().filter(|entry| entry.version == version(release)) {
                    if !entry.is_bootable() {
                        next.disk.remove(entry);
                        self.between(state, next.disk);
                    }
                }
                // The updater makes room: labels first, then the boot entries of what gives way.
                let idle = usize::from(state.disk.slots[0] == life.running);
                if next.disk.slots[idle] != release {
                    next.disk.slots[idle] = 0;
                    self.between(state, next.disk);
                }
                for other in disk::RELEASES {
                    let gives_way = other != life.running && other != release;
                    if gives_way && !next.disk.names_of(other).is_empty() {
                        *next.disk.names_of(other) = Names::default();
                        self.between(state, next.disk);
                    }
                }
                go_on(&mut next, 1, release);
                self.push(step, next);
            }
            1 => {
                let idle = usize::from(state.disk.slots[0] == life.running);
                next.disk.slots[idle] = job.release;
                self.between(state, next.disk);
                // A release that is there already is not written again.
                if !next.disk.names_of(job.release).is_empty() {
                    go_on(&mut next, 2, job.release);
                    return self.push(step, next);
                }
                let entry = (self.world.rules.written_as)(version(job.release));
                next.disk.add(&entry);
                go_on(&mut next, 2, job.release);
                *next.disk.is_good(job.release) = true;
                self.push(step, next);
                if self.world.attacked {
                    *next.disk.is_good(job.release) = false;
                    self.push(Step::TheJobWritesSomethingElse, next);
                }
            }
            _ => {
                if !*next.disk.is_good(job.release) {
                    *next.disk.names_of(job.release) = Names::default();
                    return self.end_job(step, next, false);
                }
                let mut fault = None;
                if let Some(change) = arming(&state.disk.entries(), version(job.release)) {
                    next.disk.add(&change.to);
                    self.push(Step::PowerFailsInARename, next.off());
                    next.disk.remove(&change.from);
                }
                if state.word == Some(Word::Auto) && job.release <= state.rolled_back && !self.world.attacked
                {
                    let from = version(state.rolled_back);
                    fault = Some(format!(
                        "{} is installed by itself, and an operator went back from {from}",
                        version(job.release)
                    ));
                }
                self.end_job_unless(step, next, true, fault);
            }
        }
    }

    pub fn end_job(&mut self, step: Step, state: State, done: bool) {
        self.end_job_unless(step, state, done, None);
    }

    /// The job that runs ends, and `update` hears of it if it waits for that.
    pub fn end_job_unless(&mut self, step: Step, mut state: State, done: bool, fault: Option<String>) {
        let Some(life) = &mut state.life else { return };
        let mut jobs = life.queue();
        let Some((order, ())) = jobs.take_if(|()| true) else { return };
        if SlotsWorkOf::of(order.work) == SlotsWorkOf::Inspect && !done && life.trial.is_none() {
            life.trial = Some(false);
        }
        life.set_queue(jobs, None);
        if Asked::of(order).waits {
            self.heard(&mut state, done);
        } else if SlotsWorkOf::of(order.work) == SlotsWorkOf::Bless {
            self.settle_blessed(&mut state);
        }
        self.push_unless(step, state, fault);
    }
}
