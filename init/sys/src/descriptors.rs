//! Descriptors that this process was given before it was executed.
//!
//! **What always holds.** Which numbers were open is recorded before `main`, when nothing in this process can have opened
//! anything, and they are adopted once. So an adopted descriptor has one owner, whenever [`Inherited::take`] is called and
//! whatever was opened before it, and a number that was not given is an error with a name and never another file.
//!
//! **Refuses** to turn a number into a descriptor at any other time: there is no function for that, safe or not.
#![allow(unsafe_code)]

use crate::spawn::MAX_FDS;
use rustix::io::FdFlags;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first number that isn't of a standard stream; 0 to 2 stay with the standard library.
const FIRST: i32 = 3;
/// One past the last: [`crate::spawn::spawn`] gives no more.
const END: i32 = 12;
const _: () = assert!(END as usize == MAX_FDS, "as many as can be given");

/// A bit for each number that was open before `main`, and [`RECORDED`]. Zero before that, and once they are adopted.
static OPEN: AtomicU32 = AtomicU32::new(0);
const RECORDED: u32 = 1 << 31;

/// Has [`record`] called before `main`: the C library walks this section at the program's start, before any Rust code
/// (System V ABI, "Initialization and Termination Functions").
// SAFETY: the section is an array of functions; this is one, of its type, and it does nothing that needs more than libc.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = record;

extern "C" fn record() {
    let mut open = RECORDED;
    for number in FIRST..END {
        // SAFETY: F_GETFD reads a flag of the number, and fails on one that is not open.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            open |= 1 << number;
        }
    }
    OPEN.store(open, Ordering::Release);
}

/// The descriptors were adopted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what this process was given was taken over before: there is one owner for it, in main")]
pub struct TakenBefore;

/// All that this process was given, but for the standard streams. There is at most one in a process.
#[derive(Debug)]
pub struct Inherited([Option<OwnedFd>; MAX_FDS]);

impl Inherited {
    /// Adopts all of it. What this process executes gets none of it, unless somebody hands it on.
    pub fn take() -> Result<Self, TakenBefore> {
        let open = OPEN.swap(0, Ordering::AcqRel);
        if open & RECORDED == 0 {
            return Err(TakenBefore);
        }
        let mut adopted = [const { None }; MAX_FDS];
        for (number, place) in (0..).zip(&mut adopted) {
            if number >= FIRST && open & (1 << number) != 0 {
                // SAFETY: it was open before any code of this process could own it, and no safe code closes what it doesn't
                // own, so it is the same file still and has no owner. The swap above lets this happen once.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                // Can't fail for a descriptor that is open.
                let _ = rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC);
                *place = Some(descriptor);
            }
        }
        Ok(Self(adopted))
    }

    /// Hands out what was given under this number; `None` if nothing was, or it was handed out before.
    pub fn number(&mut self, number: usize) -> Option<OwnedFd> {
        self.0.get_mut(number)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::{Spawn, spawn};
    use rustix::process::{WaitOptions, waitpid};
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    /// What the child below is started as, and how it ends when it finds all as it should be.
    const CHILD: &std::ffi::CStr = c"child";
    const ALL_RIGHT: i32 = 42;

    /// Is its own child: a process like any of the node's, started by the same function.
    #[test]
    fn a_process_has_what_it_was_given_once_and_nothing_else() {
        if std::env::args().next().as_deref() == CHILD.to_str().ok() {
            std::process::exit(child());
        }
        // What whoever runs the tests left open would be the child's too.
        let _kept = Inherited::take().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let error = std::io::stderr();
        let (mut read, write) = std::io::pipe().unwrap();
        let (null, error) = (null.as_fd(), error.as_fd());
        let pid = spawn(&Spawn {
            name: CHILD,
            // The harness runs the tests that have this in their name.
            argument: Some(c"a_process_has_what_it_was_given_once_and_nothing_else"),
            namespaces: 0,
            cgroup: None,
            fds: &[null, error, error, null, write.as_fd()],
        })
        .unwrap();
        drop(write);
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!((said.as_str(), status.exit_status()), ("given", Some(ALL_RIGHT)));
    }

    fn child() -> i32 {
        // Opened before: it is not among what was given, though its number could be.
        let mut own = std::fs::File::open("/proc/self/cmdline").unwrap();
        let mut inherited = Inherited::take().unwrap();
        let twice = Inherited::take().err();
        let write = inherited.number(4).unwrap();
        let closes = rustix::io::fcntl_getfd(&write).unwrap();
        std::fs::File::from(write).write_all(b"given").unwrap();
        let given: Vec<_> = (0..=MAX_FDS).filter(|number| inherited.number(*number).is_some()).collect();
        let mut text = String::new();
        own.read_to_string(&mut text).unwrap();
        let right = twice == Some(TakenBefore)
            && closes == FdFlags::CLOEXEC
            && given == [3]
            && text.starts_with("child\0");
        if right { ALL_RIGHT } else { 1 }
    }
}
