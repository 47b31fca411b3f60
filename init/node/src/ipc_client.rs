//! Talking to PID 1 from a service: requests out, and what it knows back.

use astromesh_proto::ipc::{self, FromInit, MAX_MESSAGE, ToInit};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// How long PID 1 may take; it answers from its event loop, in microseconds.
const ANSWERS_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Most messages in an answer: more than the boot has stages and the node has services.
const MOST_MESSAGES: usize = 64;

/// PID 1 did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// It could not be asked.
    #[error("PID 1 can't be asked: {0}")]
    Ask(rustix::io::Errno),
    /// It did not answer in time, or not to the end.
    #[error("PID 1 does not answer")]
    Await,
}

/// The socket. Questions are asked by one thread at a time.
#[derive(Debug)]
pub struct Pid1 {
    socket: OwnedFd,
    /// Number of the last question.
    asked: Mutex<u32>,
}

impl Pid1 {
    /// Takes over the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, asked: Mutex::new(0) }
    }

    /// Tells PID 1 something.
    pub fn tell(&self, message: &ToInit) -> Result<(), Pid1Error> {
        send(&self.socket, message)
    }

    /// Waits for the next message, for a service that asks no questions.
    pub fn next(&self) -> Result<FromInit, Pid1Error> {
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) | Err(_) => return Err(Pid1Error::Await),
                Ok(count) => {
                    if let Some(message) = ipc::decode(&buffer[..count]) {
                        return Ok(message);
                    }
                }
            }
        }
    }

    /// Asks PID 1 for all it knows; with `memory` also for what it and its services take.
    ///
    /// What comes first may be the answer to an earlier question that this side gave up on. It is passed over: an answer
    /// begins with the node, and its end has the number of its question.
    pub fn ask(&self, memory: bool) -> Result<Vec<FromInit>, Pid1Error> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = asked.wrapping_add(1);
        let socket = &self.socket;
        send(socket, &ToInit::Ask { memory, number: *asked })?;
        let mut messages = Vec::new();
        let mut buffer = [0; MAX_MESSAGE];
        while messages.len() < MOST_MESSAGES {
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&ANSWERS_WITHIN)) != Ok(1) {
                return Err(Pid1Error::Await);
            }
            let count = rustix::io::read(socket, &mut buffer).map_err(|_| Pid1Error::Await)?;
            match ipc::decode(&buffer[..count]) {
                Some(FromInit::End { number }) if number == *asked => return Ok(messages),
                Some(FromInit::End { .. }) => messages.clear(),
                Some(message) => {
                    if matches!(message, FromInit::Node { .. }) {
                        messages.clear();
                    }
                    messages.push(message);
                }
                None => return Err(Pid1Error::Await),
            }
        }
        Err(Pid1Error::Await)
    }
}

fn send(socket: &OwnedFd, message: &ToInit) -> Result<(), Pid1Error> {
    let mut buffer = [0; MAX_MESSAGE];
    let Some(bytes) = ipc::encode(message, &mut buffer) else { return Ok(()) };
    rustix::io::write(socket, bytes).map(drop).map_err(Pid1Error::Ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_proto::control::{Mode, StageOutcome};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn say(socket: &OwnedFd, message: &FromInit) {
        let mut buffer = [0; MAX_MESSAGE];
        rustix::io::write(socket, ipc::encode(message, &mut buffer).unwrap()).unwrap();
    }

    /// The beginning of an answer, with one stage of this name.
    fn begin(socket: &OwnedFd, stage: &str) {
        say(
            socket,
            &FromInit::Node {
                mode: Mode::Running,
                root_hash: heapless::String::new(),
                root_verified: true,
                watchdog: true,
                config_error: heapless::String::new(),
                var_on_disk: true,
                allocations: 0,
                clock_was_behind: false,
            },
        );
        say(
            socket,
            &FromInit::Stage {
                name: ipc::cut(stage),
                started_us: 0,
                took_us: 0,
                idle_us: 0,
                outcome: StageOutcome::Done,
                note: heapless::String::new(),
            },
        );
    }

    fn stages(messages: &[FromInit]) -> Vec<&str> {
        messages
            .iter()
            .filter_map(|m| if let FromInit::Stage { name, .. } = m { Some(name.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn answers_that_came_too_late_are_passed_over() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let pid1 = Pid1::new(theirs);
        // To a question that was given up on; then one that lost its end, because nobody read.
        begin(&ours, "late");
        say(&ours, &FromInit::End { number: 0 });
        begin(&ours, "cut off");
        for number in 1..=3 {
            let name = format!("answer {number}");
            begin(&ours, &name);
            say(&ours, &FromInit::End { number });
            let messages = pid1.ask(false).unwrap();
            assert_eq!(stages(&messages), [name.as_str()]);
            assert_eq!(messages.len(), 2);
        }
    }
}
