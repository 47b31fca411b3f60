//! Breadth first through all that may happen: what is found first is reached by the fewest steps.

use crate::machine::World;
use crate::state::{State, Step};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

/// How far it came.
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps of which everything was seen.
    pub depth: usize,
    /// The shortest way to something that must not be.
    pub counterexample: Option<String>,
}

/// Explores until something is found, there is nothing new, or there are `most` states.
///
/// Of a state that was seen its hash of 64 bits is kept: of some millions, two have the same with a chance of one in a million.
pub fn explore(world: &World, most: usize) -> Explored {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::<u64, BuildHasherDefault<Plain>>::default();
    let mut nodes: Vec<(State, u32, Step)> = Vec::new();
    for state in world.beginnings() {
        seen.insert(hasher.hash_one(state));
        nodes.push((state, u32::MAX, Step::PowerFails));
    }
    let (mut at, mut depth, mut end_of_depth) = (0, 0, nodes.len());
    let mut successors = Vec::new();
    while at < nodes.len() && nodes.len() < most {
        if at == end_of_depth {
            (depth, end_of_depth) = (depth + 1, nodes.len());
        }
        let state = nodes[at].0;
        let parent = u32::try_from(at).unwrap_or(u32::MAX);
        world.successors(&state, &mut successors);
        for (step, next, fault) in successors.drain(..) {
            if let Some(fault) = fault {
                let counterexample = Some(told(&nodes, parent, step, &next, &fault));
                return Explored { states: nodes.len(), depth, counterexample };
            }
            if seen.insert(hasher.hash_one(next)) {
                nodes.push((next, parent, step));
            }
        }
        at += 1;
    }
    Explored { states: nodes.len(), depth, counterexample: None }
}

/// The way to a fault, step by step.
fn told(nodes: &[(State, u32, Step)], parent: u32, last: Step, state: &State, fault: &str) -> String {
    let mut steps = vec![last];
    let mut at = parent;
    while let Some((_, parent, step)) = nodes.get(at as usize).filter(|(_, parent, _)| *parent != u32::MAX) {
        steps.push(*step);
        at = *parent;
    }
    let mut text = String::new();
    for (index, step) in steps.iter().rev().enumerate() {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{:>3}  {step:?}", index + 1);
    }
    let _ = writeln!(text, "     {fault}\n     {state:?}");
    text
}

/// A hash of what is a hash already.
#[derive(Default)]
struct Plain(u64);

impl std::hash::Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("only numbers are hashed, and these are {bytes:?}")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
