//! The trial of the release that runs: blessed when health has held; a reboot when it doesn't come to hold.
//!
//! A release on trial was started by the boot loader with one try less than it had. Nothing needs to be done for it to
//! lose its place: a reboot, for whatever reason, counts down. What must be done is the opposite, once, and not too
//! early; so this is a small state machine without memory of its own on the disk, and **every error in it leaves the
//! node running what it runs**: a blessing that fails is tried again and then left, and only a release that is known to
//! be on trial is ever rebooted for want of health.

use astromesh_node::twin::{self, Twin};
use astromesh_proto::ipc;
use std::time::{Duration, Instant};

/// How often a blessing that failed is tried again, and how long after.
const MOST_BLESSINGS: u32 = 5;
const BLESS_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Where the trial stands.
#[derive(Debug, Default)]
pub struct Trial {
    rules: Option<ipc::TrialRules>,
    /// When health must hold at the latest; `None` for a release that is blessed, and once it has held.
    deadline: Option<Instant>,
    /// Since when health holds, in one piece.
    healthy_since: Option<Instant>,
    /// When the release may be blessed at the earliest; `None` while a blessing is asked for, once it is done, and when it
    /// was given up on.
    bless_at: Option<Instant>,
    blessings: u32,
    blessed: bool,
}

/// What PID 1 is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Bless this release.
    Bless,
    /// Reboot the machine: health did not come to hold in time.
    Reboot,
}

impl Trial {
    /// Begins, once it is known whether the boot loader counts this boot; whether it had not begun already. The time runs
    /// from here on, and health that holds already has held for no time.
    pub fn begin(&mut self, rules: Option<ipc::TrialRules>, on_trial: bool) -> bool {
        let first = self.rules.is_none();
        if first {
            let now = Instant::now();
            self.begin_at(rules, on_trial, now);
            if self.healthy_since.take().is_some() {
                self.health_at(true, now);
            }
        }
        first
    }

    fn begin_at(&mut self, rules: Option<ipc::TrialRules>, on_trial: bool, now: Instant) {
        let rules = rules.unwrap_or(ipc::TrialRules::DEFAULT);
        self.rules = Some(rules);
        self.deadline = on_trial.then(|| now + Duration::from_secs(rules.healthy_within_seconds.into()));
        self.blessed = !on_trial;
        if twin::is(Twin::BlessAlways) {
            self.bless_at = Some(now);
        }
    }

    /// Takes the rules of a machine-config that came late: the time runs from here on, as if it had begun now.
    pub fn follow(&mut self, rules: ipc::TrialRules) {
        self.follow_at(rules, Instant::now());
    }

    fn follow_at(&mut self, rules: ipc::TrialRules, now: Instant) {
        // Not begun: it begins with these.
        if self.rules.is_none() {
            return;
        }
        self.rules = Some(rules);
        if self.deadline.is_some() {
            self.deadline = Some(now + Duration::from_secs(rules.healthy_within_seconds.into()));
        }
    }

    /// Takes note of health, or of its end; `control` tells of every change.
    pub fn health(&mut self, healthy: bool) {
        self.health_at(healthy, Instant::now());
    }

    fn health_at(&mut self, healthy: bool, now: Instant) {
        match (healthy, self.healthy_since, self.rules) {
            (false, ..) => {
                self.healthy_since = None;
                self.bless_at = None;
            }
            (true, None, None) => self.healthy_since = Some(now),
            (true, None, Some(rules)) => {
                self.healthy_since = Some(now);
                if self.blessings < MOST_BLESSINGS {
                    self.bless_at = Some(now + Duration::from_secs(rules.bless_after_seconds.into()));
                }
            }
            _ => {}
        }
    }

    /// What is due at this moment. A reboot only while health does not hold: one that holds is left to be blessed.
    pub fn due(&self, now: Instant) -> Due {
        if self.bless_at.is_some_and(|at| at <= now) {
            Due::Bless
        } else if self.healthy_since.is_none() && self.deadline.is_some_and(|at| at <= now) {
            Due::Reboot
        } else {
            Due::Nothing
        }
    }

    /// The next moment at which something may be due.
    pub fn next_due(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| self.healthy_since.is_none());
        deadline.into_iter().chain(self.bless_at).min()
    }

    /// Takes note that a blessing was asked for.
    pub fn blessing(&mut self) {
        self.bless_at = None;
        self.blessings += 1;
    }

    /// Takes note of how a blessing ended; whether the release is blessed since just now.
    pub fn blessed(&mut self, done: bool) -> bool {
        self.blessed_at(done, Instant::now())
    }

    fn blessed_at(&mut self, done: bool, now: Instant) -> bool {
        if done {
            self.deadline = None;
            // Once is enough: nothing un-blesses a release that goes on running.
            self.blessings = MOST_BLESSINGS;
            self.bless_at = None;
            return !core::mem::replace(&mut self.blessed, true);
        }
        if self.healthy_since.is_some() && self.blessings < MOST_BLESSINGS {
            self.bless_at = Some(now + BLESS_AGAIN_AFTER);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ipc::TrialRules = ipc::TrialRules { bless_after_seconds: 60, healthy_within_seconds: 600 };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn on_trial() -> (Trial, Clock) {
        let clock = Clock(Instant::now());
        let mut trial = Trial::default();
        trial.begin_at(Some(RULES), true, clock.at(0));
        (trial, clock)
    }

    #[test]
    fn a_release_is_kept_once_health_has_held_for_the_whole_time() {
        let (mut trial, clock) = on_trial();
        trial.health_at(true, clock.at(100));
        assert_eq!(trial.due(clock.at(159)), Due::Nothing);
        assert_eq!(trial.next_due(), Some(clock.at(160)));
        assert_eq!(trial.due(clock.at(160)), Due::Bless);
        trial.blessing();
        assert_eq!(trial.due(clock.at(161)), Due::Nothing, "it is under way");
        assert!(trial.blessed_at(true, clock.at(161)), "since just now");
        trial.health_at(false, clock.at(170));
        trial.health_at(true, clock.at(171));
        for seconds in [172, 600, 6000] {
            assert_eq!(trial.due(clock.at(seconds)), Due::Nothing);
        }
    }

    #[test]
    fn health_that_breaks_begins_anew() {
        let (mut trial, clock) = on_trial();
        trial.health_at(true, clock.at(100));
        trial.health_at(false, clock.at(150));
        assert_eq!(trial.due(clock.at(160)), Due::Nothing);
        trial.health_at(true, clock.at(170));
        assert_eq!(trial.due(clock.at(229)), Due::Nothing);
        assert_eq!(trial.due(clock.at(230)), Due::Bless);
    }

    #[test]
    fn a_release_that_is_not_healthy_in_time_is_rebooted() {
        let (mut trial, clock) = on_trial();
        assert_eq!(trial.due(clock.at(599)), Due::Nothing);
        assert_eq!(trial.due(clock.at(600)), Due::Reboot);
        // Health that holds when the time is over is left alone, health that then breaks is not.
        trial.health_at(true, clock.at(590));
        assert_eq!(trial.due(clock.at(610)), Due::Nothing);
        trial.health_at(false, clock.at(620));
        assert_eq!(trial.due(clock.at(620)), Due::Reboot);
    }

    #[test]
    fn twin_a_release_that_is_blessed_is_never_rebooted() {
        let clock = Clock(Instant::now());
        let mut trial = Trial::default();
        trial.begin_at(Some(RULES), false, clock.at(0));
        trial.health_at(false, clock.at(1));
        assert_eq!(trial.due(clock.at(1_000_000)), Due::Nothing);
        // Nor is one of which nothing is known, because nobody could look.
        assert_eq!(Trial::default().due(clock.at(1_000_000)), Due::Nothing);
    }

    #[test]
    fn a_blessing_that_fails_is_tried_again_some_times_and_then_left() {
        let (mut trial, clock) = on_trial();
        trial.health_at(true, clock.at(0));
        let mut blessings = 0;
        for seconds in 0..3600 {
            if trial.due(clock.at(seconds)) == Due::Bless {
                blessings += 1;
                trial.blessing();
                assert!(!trial.blessed_at(false, clock.at(seconds)));
            }
            assert_ne!(trial.due(clock.at(seconds)), Due::Reboot);
        }
        assert_eq!(blessings, MOST_BLESSINGS);
    }

    #[test]
    fn rules_that_come_late_give_a_release_on_trial_their_own_time_and_nothing_to_one_that_is_kept() {
        let (mut trial, clock) = on_trial();
        let late = ipc::TrialRules { bless_after_seconds: 10, healthy_within_seconds: 100 };
        trial.follow_at(late, clock.at(550));
        assert_eq!(trial.due(clock.at(649)), Due::Nothing);
        assert_eq!(trial.due(clock.at(650)), Due::Reboot);
        trial.health_at(true, clock.at(600));
        assert_eq!(trial.due(clock.at(610)), Due::Bless);
        let mut kept = Trial::default();
        kept.follow_at(late, clock.at(0));
        kept.begin_at(Some(RULES), false, clock.at(0));
        kept.follow_at(late, clock.at(1));
        assert_eq!(kept.due(clock.at(100_000)), Due::Nothing);
    }

    #[test]
    fn health_that_held_before_the_judgement_began_counts_from_its_beginning() {
        let mut trial = Trial::default();
        trial.health(true);
        assert_eq!(trial.due(Instant::now() + Duration::from_secs(1000)), Due::Nothing);
        assert!(trial.begin(Some(RULES), true));
        assert_eq!(trial.due(Instant::now()), Due::Nothing);
        assert_eq!(trial.due(Instant::now() + Duration::from_secs(60)), Due::Bless);
        assert!(!trial.begin(Some(RULES), false), "it begins once");
    }
}
