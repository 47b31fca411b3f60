//! What must be proven before an agent starts.
//!
//! [`Clearance`] is the one argument of the agent's launch. Each field is a proof that only its stage can make, and there is
//! no other constructor than [`Clearance::new`], which takes them all: a phase that adds a proof adds a field and a parameter,
//! and every place that would launch an agent without it no longer compiles.

use crate::ground::Ground;

/// The machine-config is valid and was applied: made by the config stage alone.
#[derive(Debug)]
pub struct Applied(());

impl Applied {
    /// For the config stage, once the config process has written what each service needs.
    pub(crate) fn new() -> Self {
        Self(())
    }
}

/// The right to launch an agent, for as long as its proofs hold.
#[derive(Clone, Copy)]
pub struct Clearance<'a> {
    ground: &'a Ground,
    _config: &'a Applied,
}

impl<'a> Clearance<'a> {
    /// On a verified root, with a machine-config that was applied.
    pub fn new(ground: &'a Ground, config: &'a Applied) -> Self {
        Self { ground, _config: config }
    }

    /// What the agent stands on.
    pub fn ground(&self) -> &'a Ground {
        self.ground
    }
}
