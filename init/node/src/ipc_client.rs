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
    asking: Mutex<()>,
}

impl Pid1 {
    /// Takes over the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, asking: Mutex::new(()) }
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
    pub fn ask(&self, memory: bool) -> Result<Vec<FromInit>, Pid1Error> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = &self.socket;
        send(socket, &ToInit::Ask { memory })?;
        let mut messages = Vec::new();
        let mut buffer = [0; MAX_MESSAGE];
        while messages.len() < MOST_MESSAGES {
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&ANSWERS_WITHIN)) != Ok(1) {
                return Err(Pid1Error::Await);
            }
            let count = rustix::io::read(socket, &mut buffer).map_err(|_| Pid1Error::Await)?;
            match ipc::decode(&buffer[..count]) {
                Some(FromInit::End) => return Ok(messages),
                Some(message) => messages.push(message),
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
