//! Descriptors that PID 1 arranged for a service before it was executed.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

/// Takes over descriptor `number`. Each number is taken at most once, at the start of a service's `main`; one that
/// PID 1 did not arrange gives an error at its first use, never somebody else's file, because nothing was opened
/// before.
///
/// # Panics
///
/// On a negative number, which no caller has: the numbers are constants.
pub fn inherited(number: i32) -> OwnedFd {
    assert!(number >= 0, "a descriptor's number is not negative");
    // SAFETY: PID 1 arranged the descriptor before exec (see `supervise::services` of PID 1), nothing in this process has
    // opened or taken it yet, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}
