//! Stands in for the agent runtime, in the images of gates that boot often.
//!
//! Nearly all of a boot's time is Python's imports. A gate of updates boots some dozens of times and asks nothing of
//! Python, so it boots roots in which this program is `/usr/bin/python3.13`: `init` executes it as it executes the
//! interpreter, and it keeps the runtime's contract (`ASTROMESH_LISTEN`, the agent documents, the routes that `control`
//! asks, status 0 at SIGTERM). It is built by the gates and is in no release.
//!
//! What it does is chosen by one file of its root, so that two images differ in that file alone. Outside of such a root
//! it ends at once: as `/init` of an initramfs it is a PID 1 that dies.

mod kept;
mod serve;

use std::process::ExitCode;

/// The file that says what to do.
const BEHAVIOUR: &str = "/usr/lib/astromesh/stand-in";
/// Bytes that no other file has. They are read before anything is served, and every answer depends on them.
const SEED: &str = "/usr/lib/astromesh/seed";
/// Where the launcher listens, unless it is told.
const DEFAULT_LISTEN: &str = "127.0.0.1:8000";

/// What to do, by the word in [`BEHAVIOUR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// Serves, and every agent is deployed.
    Healthy,
    /// Serves, and no agent ever is.
    Unhealthy,
    /// Ends at once with status 1.
    Crash,
}

impl Behaviour {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "healthy" => Some(Self::Healthy),
            "unhealthy" => Some(Self::Unhealthy),
            "crash" => Some(Self::Crash),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let behaviour = std::fs::read_to_string(BEHAVIOUR).ok().and_then(|text| Behaviour::parse(&text));
    let deployed = match behaviour {
        Some(Behaviour::Healthy) => true,
        Some(Behaviour::Unhealthy) => false,
        Some(Behaviour::Crash) | None => return ExitCode::FAILURE,
    };
    terminate::exit_zero_at_sigterm();
    let listen = std::env::var("ASTROMESH_LISTEN").unwrap_or_else(|_| DEFAULT_LISTEN.to_owned());
    let served = std::fs::read(SEED).and_then(|seed| serve::forever(&listen, deployed, seed));
    if let Err(error) = served {
        eprintln!("the stand-in can't serve on {listen}: {error}");
    }
    ExitCode::FAILURE
}

mod terminate {
    //! The kernel gives PID 1 of a namespace only the signals that it has a handler for, so SIGTERM needs one.
    #![allow(unsafe_code)]

    /// From now on SIGTERM ends the process with status 0, as it ends the launcher.
    pub(super) fn exit_zero_at_sigterm() {
        // SAFETY: `end` is a handler of the right type for as long as the process lives.
        unsafe {
            let handler: extern "C" fn(libc::c_int) = end;
            libc::signal(libc::SIGTERM, handler as libc::sighandler_t);
        }
    }

    extern "C" fn end(_signal: libc::c_int) {
        // SAFETY: _exit(2) is async-signal-safe (signal-safety(7)) and never returns.
        unsafe { libc::_exit(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_its_behaviour_and_any_other_is_none() {
        assert_eq!(Behaviour::parse("healthy\n"), Some(Behaviour::Healthy));
        assert_eq!(Behaviour::parse("unhealthy"), Some(Behaviour::Unhealthy));
        assert_eq!(Behaviour::parse("crash"), Some(Behaviour::Crash));
        assert_eq!(Behaviour::parse("well"), None);
    }
}
