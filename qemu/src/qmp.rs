//! The conversation with QEMU's machine protocol.
//!
//! It exists to press the power button, to ask for facts and to keep every event in order. One thread reads;
//! a command waits for the reply that carries its own number, so a late reply can never answer another
//! question. Commands are typed by the `qapi` crate; events are kept as JSON, because a newer QEMU may send
//! kinds that the crate doesn't know.
//!
//! It refuses to offer a general `execute`: that would be a way to open the network at run time.

use qapi::{Command, Execute};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why QEMU was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket broke.
    #[error("cannot talk to QEMU while asking for {command}: {source}. It has probably ended: see its exit")]
    Talk {
        /// The command.
        command: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// QEMU closed the conversation.
    #[error("QEMU ended before it answered {command}. See its exit reason and its standard error")]
    Ended {
        /// The command.
        command: &'static str,
    },
    /// No answer in time.
    #[error("QEMU did not answer {command} within {limit:?}. The host may be overloaded: raise the limit")]
    AnswerTimeout {
        /// The command.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// QEMU said no.
    #[error("QEMU refused {command}: {reason}. Check the argument against this QEMU's version")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's words.
        reason: String,
    },
}

/// One event, in the order of arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpEvent {
    /// `SHUTDOWN`, `RESET`, `WATCHDOG`...
    pub name: String,
    /// Its fields; null when it has none.
    pub data: Value,
}

/// An answer to a monitor command comes from QEMU's main loop, which under emulation on a busy host may be
/// late by seconds, never by this much.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    events: Vec<QmpEvent>,
    replies: Vec<(u64, Value)>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `find` gives something, QEMU has ended, or the limit has passed.
    fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&mut State) -> Option<T>) -> (Option<T>, bool) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return (Some(found), false);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return (None, state.ended);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

pub(crate) struct Qmp {
    /// Held for a whole command: the socket and the number of the last command.
    turn: Mutex<(UnixStream, u64)>,
    shared: Arc<Shared>,
}

impl Qmp {
    /// Takes the connected socket and negotiates. QEMU sends no event before this.
    pub(crate) fn negotiate(socket: UnixStream) -> Result<Self, QmpError> {
        const COMMAND: &str = "qmp_capabilities";
        let talk = |source| QmpError::Talk { command: COMMAND, source };
        let reader = socket.try_clone().map_err(talk)?;
        let shared = Arc::new(Shared::default());
        let sink = Arc::clone(&shared);
        std::thread::Builder::new().name("qmp".into()).spawn(move || read(reader, &sink)).map_err(talk)?;
        let qmp = Self { turn: Mutex::new((socket, 0)), shared };
        qmp.execute(qapi::qmp::qmp_capabilities { enable: None })?;
        Ok(qmp)
    }

    pub(crate) fn execute<C: Command>(&self, command: C) -> Result<C::Ok, QmpError> {
        let talk = |source| QmpError::Talk { command: C::NAME, source };
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.1 += 1;
        let id = turn.1;
        let mut line = serde_json::to_vec(&Execute::with_id(command, id)).map_err(|e| talk(e.into()))?;
        line.push(b'\n');
        turn.0.write_all(&line).map_err(talk)?;
        let (reply, ended) = self.shared.wait(ANSWER_LIMIT, |state| {
            let at = state.replies.iter().position(|(number, _)| *number == id)?;
            Some(state.replies.swap_remove(at).1)
        });
        let mut reply = match (reply, ended) {
            (Some(reply), _) => reply,
            (None, true) => return Err(QmpError::Ended { command: C::NAME }),
            (None, false) => return Err(QmpError::AnswerTimeout { command: C::NAME, limit: ANSWER_LIMIT }),
        };
        let refused = |reason: String| QmpError::Refused { command: C::NAME, reason };
        if let Some(error) = reply.get("error") {
            return Err(refused(error["desc"].as_str().unwrap_or("no reason given").into()));
        }
        serde_json::from_value(reply["return"].take()).map_err(|e| refused(format!("unexpected answer: {e}")))
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<QmpEvent> {
        self.shared.lock().events.clone()
    }

    /// The first event from number `from` on for which `wanted` holds.
    pub(crate) fn wait_event(
        &self,
        from: usize,
        limit: Duration,
        wanted: impl Fn(&QmpEvent) -> bool,
    ) -> Option<QmpEvent> {
        self.shared.wait(limit, |state| state.events.iter().skip(from).find(|e| wanted(e)).cloned()).0
    }

    /// Waits until QEMU has closed the conversation: then no event is missing.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        self.shared.wait(limit, |state| state.ended.then_some(())).0.is_some()
    }
}

/// Reads lines until QEMU ends. The greeting carries neither event nor id and is passed over.
fn read(socket: UnixStream, shared: &Shared) {
    for line in BufReader::new(socket).split(b'\n') {
        let Ok(line) = line else { break };
        let Ok(mut message) = serde_json::from_slice::<Value>(&line) else {
            log::warn!("QEMU sent a line that is not JSON: {}", String::from_utf8_lossy(&line));
            continue;
        };
        let mut state = shared.lock();
        if let Some(name) = message["event"].as_str().map(String::from) {
            log::debug!("QMP event {message}");
            state.events.push(QmpEvent { name, data: message["data"].take() });
        } else if let Some(id) = message["id"].as_u64() {
            state.replies.push((id, message));
        }
        shared.changed.notify_all();
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}
