//! What PID 1 gives a process beside the standard streams: by role, not by number.
//!
//! PID 1 arranges it in this order when it starts the process, and `main` takes it over as one value.

use astromesh_sys::descriptors::{self, TakenBefore};
use std::os::fd::OwnedFd;

/// The first: the socket to PID 1 of a service, or the memory for the reason of a job.
const FIRST: usize = 3;
/// What only this process is given comes behind it.
const EXTRA: usize = 4;

/// PID 1 did not give this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PID 1 gave no {what} (descriptor {number}); this process and PID 1 are not of one release")]
pub struct NotGiven {
    what: &'static str,
    number: usize,
}

/// All that this process was given.
#[derive(Debug)]
pub struct Inherited(descriptors::Inherited);

impl Inherited {
    /// Takes it over: in `main`, and once.
    pub fn take() -> Result<Self, TakenBefore> {
        descriptors::Inherited::take().map(Self)
    }

    /// A service's socket to PID 1.
    pub fn ipc(&mut self) -> Result<OwnedFd, NotGiven> {
        self.number("socket to it", FIRST)
    }

    /// A job's memory for the reason that it leaves.
    pub(crate) fn reason(&mut self) -> Result<OwnedFd, NotGiven> {
        self.number("memory for a reason", FIRST)
    }

    /// What only this process is given, counted from 0; `what` names it for people.
    pub fn extra(&mut self, what: &'static str, index: usize) -> Result<OwnedFd, NotGiven> {
        self.number(what, EXTRA + index)
    }

    fn number(&mut self, what: &'static str, number: usize) -> Result<OwnedFd, NotGiven> {
        self.0.number(number).ok_or(NotGiven { what, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_has_a_name() {
        // No test of this crate is given anything, but whoever runs the tests may have left descriptors open.
        let mut inherited = Inherited::take().unwrap();
        let _ = inherited.extra("kernel log", 5);
        let error = inherited.extra("kernel log", 5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PID 1 gave no kernel log (descriptor 9); this process and PID 1 are not of one release"
        );
        assert_eq!(Inherited::take().err(), Some(TakenBefore));
    }
}
