//! Waiting for a one-shot process while the boot stands still, with the watchdog petted meanwhile.

use crate::node::Node;
use rustix::process::{Pid, WaitOptions};
use std::time::{Duration, Instant};

/// The exit code of a one-shot process; `None` when it was killed, by another or, after `longest`, by this.
pub fn await_end(node: &Node, pid: Pid, longest: Duration) -> Option<i32> {
    let deadline = Instant::now() + longest;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return status.exit_status(),
            Ok(None) if Instant::now() < deadline => {
                if let Some(watchdog) = &node.watchdog {
                    watchdog.pet();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                // Reaped like any orphan, once the boot is over.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                return None;
            }
        }
    }
}
