//! Promise: whatever happens together - orders, the node's own looks, rollbacks, blessings, power that fails, processes that
//! die, a full `/var` - updates can't lose a node.
//!
//! The whole machine with two slots and three releases is explored exhaustively up to a number of states, breadth first, with
//! the functions that decide on a node in it: admission, blessing, rollback, what became of an attempt, the terms of an order,
//! PID 1's queue. What always holds:
//!
//! * There is a release that was kept, whole, which the boot loader can start.
//! * What was not verified never has a try.
//! * What an operator went back from stays so, until an order or a newer release.
//! * The machine reboots into a release only where its order allows it.
//!
//! Each twin has one decision as it was before, and is caught; its shortest way there is printed.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod attempts;
mod disk;
mod explore;
mod job;
mod machine;
mod rules;
mod state;
mod update;

use explore::{Explored, explore};
use machine::World;
use rules::{
    ADMITS_ON_TRIAL, FORGETS_ROLLBACK, REAL, REBOOTS_ALWAYS, ROLLS_FORWARD, Rules, WRITES_WITH_TRIES,
};
use std::time::Instant;

/// Everything that may happen to a node.
const EVERYTHING: World = World {
    rules: REAL,
    releases: &[2, 3],
    modes: &[false, true],
    mode_changes: true,
    weather: true,
    deaths: true,
    attacked: false,
};

/// What may happen to one where nothing dies and nothing fills up: fewer states, so the same number of them leads further.
const FAIR_WEATHER: World = World { mode_changes: false, weather: false, deaths: false, ..EVERYTHING };

/// The same for a node that operators alone update, and for one that looks by itself.
const MANUAL: World = World { modes: &[false], ..FAIR_WEATHER };
const AUTO: World = World { modes: &[true], ..FAIR_WEATHER };

/// One whose service `update` belongs to an attacker.
const ATTACKED: World = World { attacked: true, ..MANUAL };

fn explored(name: &str, world: &World, most: usize) -> Explored {
    let began = Instant::now();
    let explored = explore(world, most);
    let Explored { states, depth, counterexample } = &explored;
    println!("{name}: {states} states, all of {depth} steps, in {:.1} s", began.elapsed().as_secs_f32());
    if let Some(counterexample) = counterexample {
        println!("{counterexample}");
    }
    explored
}

#[test]
fn whatever_happens_together_loses_no_node() {
    for (name, world) in [("everything", EVERYTHING), ("fair weather", FAIR_WEATHER), ("attacked", ATTACKED)]
    {
        let explored = explored(name, &world, 500_000);
        assert_eq!(explored.counterexample, None, "{name}");
    }
}

/// What is found with the decisions of a twin.
fn caught(name: &str, rules: Rules, world: &World, fault: &str) {
    let explored = explored(name, &World { rules, ..*world }, 3_000_000);
    let counterexample = explored.counterexample.expect("the twin is caught");
    assert!(counterexample.contains(fault), "{counterexample}");
}

#[test]
fn twin_an_update_during_a_trial_erases_the_only_release_that_was_kept() {
    caught("admits on trial", ADMITS_ON_TRIAL, &MANUAL, "no release that was kept");
}

#[test]
fn twin_a_rollback_goes_forward_with_no_way_back() {
    caught("rolls forward", ROLLS_FORWARD, &World { releases: &[2], ..MANUAL }, "no release that was kept");
}

#[test]
fn twin_the_node_undoes_an_operators_rollback() {
    caught(
        "forgets a rollback",
        FORGETS_ROLLBACK,
        &World { releases: &[2], ..AUTO },
        "an operator went back from",
    );
}

#[test]
fn twin_what_was_not_read_back_has_tries() {
    caught("writes with tries", WRITES_WITH_TRIES, &ATTACKED, "was not verified");
}

#[test]
fn twin_an_attempt_that_goes_on_reboots_without_an_order() {
    caught(
        "reboots always",
        REBOOTS_ALWAYS,
        &World { releases: &[2], deaths: true, ..MANUAL },
        "it reboots on",
    );
}
