//! What the node stands on: the kernel's trees, a log, a watchdog, and a root that is proven.
//!
//! The table of ground stages makes it, and a machine on which one of them fails reboots. So whoever has a [`Ground`] has
//! all of it, and nothing after it asks whether there is a root. There is one way to get one: [`Groundwork::finish`], once
//! the root stage has handed over its proof.

use crate::boot::root::proof::VerifiedRoot;
use astromesh_sys::watchdog::Watchdog;
use std::os::fd::OwnedFd;

/// What is there before the root is.
pub struct Groundwork {
    /// Where every process logs to.
    pub kmsg: OwnedFd,
    /// What PID 1's children get as standard input.
    pub null: OwnedFd,
    /// The machine's watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    root: Option<VerifiedRoot>,
}

impl Groundwork {
    /// The beginning.
    pub fn new(kmsg: OwnedFd, null: OwnedFd, watchdog: Option<Watchdog>) -> Self {
        Self { kmsg, null, watchdog, root: None }
    }

    /// Takes the proof of the root.
    pub fn stand_on(&mut self, root: VerifiedRoot) {
        self.root = Some(root);
    }

    /// The ground, if the stages have proven a root: a table without the root stage has none.
    pub fn finish(self) -> Option<Ground> {
        let Self { kmsg, null, watchdog, root } = self;
        Some(Ground { kmsg, null, watchdog, root: root? })
    }

    /// Shows the watchdog that the boot goes on.
    pub fn pet(&self) {
        pet(self.watchdog.as_ref());
    }
}

/// What everything else stands on.
pub struct Ground {
    /// Where every process logs to.
    pub kmsg: OwnedFd,
    /// What PID 1's children get as standard input.
    pub null: OwnedFd,
    /// The machine's watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    root: VerifiedRoot,
}

impl Ground {
    /// The proof that `/` is what the command line's root hash says.
    pub fn root(&self) -> &VerifiedRoot {
        &self.root
    }

    /// Shows the watchdog that PID 1 goes on.
    pub fn pet(&self) {
        pet(self.watchdog.as_ref());
    }
}

fn pet(watchdog: Option<&Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.pet();
    }
}
