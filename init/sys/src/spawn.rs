//! Starting a process: `clone3(2)`, then this same binary again under another name.
//!
//! `std::process::Command` can neither place a child into a cgroup nor into new namespaces, and it allocates; PID 1
//! must be able to restart a service when no memory is left. Between clone and exec the child makes a handful of
//! system calls and nothing else.
#![allow(unsafe_code)]

use rustix::process::Pid;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a new process is given.
#[derive(Debug, Clone, Copy)]
pub struct Spawn<'a> {
    /// Name it is started under.
    pub name: &'static CStr,
    /// One argument, if it takes any.
    pub argument: Option<&'static CStr>,
    /// New namespaces, as `CLONE_NEW*` bits.
    pub namespaces: u64,
    /// The cgroup it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What becomes its file descriptors 0, 1, 2 and so on, at most [`MAX_FDS`]; everything else is closed.
    pub fds: &'a [BorrowedFd<'a>],
}

/// Most file descriptors a process can be given.
pub const MAX_FDS: usize = 12;

/// Starts the process and returns its id.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Pid> {
    if what.fds.len() > MAX_FDS {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut arguments = CloneArguments {
        flags: what.namespaces,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        ..CloneArguments::default()
    };
    if let Some(cgroup) = what.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `arguments` is a clone_args of the size that is passed; without CLONE_VM the child has its own copy
    // of this address space, as after fork(2), and runs on its own copy of this stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    match pid {
        0 => exec(what),
        pid if pid > 0 => {
            i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child's side: arranges the file descriptors, unblocks signals, executes. Never returns.
fn exec(what: &Spawn<'_>) -> ! {
    let argument = what.argument.map_or(core::ptr::null(), CStr::as_ptr);
    let argv = [what.name.as_ptr(), argument, core::ptr::null()];
    let envp = [core::ptr::null()];
    let mut moved = [-1; MAX_FDS];
    // SAFETY: only async-signal-safe calls, on descriptors that are open and on pointers to live locals and
    // 'static strings; argv and envp end in a null pointer.
    unsafe {
        // Twice, so that no source is overwritten before it is copied.
        for (slot, fd) in moved.iter_mut().zip(what.fds) {
            *slot = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64);
        }
        for (number, &fd) in (0..).zip(moved.iter().take(what.fds.len())) {
            if libc::dup2(fd, number) < 0 {
                libc::_exit(EXIT_NOT_STARTED);
            }
        }
        let mut none = core::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
        libc::setsid();
        libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(EXIT_NOT_STARTED)
    }
}

/// Exit code of a child that never became what it should: the shell's for "found, but can't be executed".
const EXIT_NOT_STARTED: i32 = 126;

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, version 2 (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_arguments_have_the_size_of_version_2() {
        assert_eq!(size_of::<CloneArguments>(), 88);
    }
}
