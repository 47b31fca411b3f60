//! The last verdict on the runtime's health, and which life of the runtime it is about.

use astromesh_proto::ipc::FromInit;
use std::sync::{Mutex, PoisonError};

/// Which life of the runtime a verdict is about: its process, and how often it was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pid: u32,
    restarts: u32,
}

impl Life {
    /// The runtime's, among what PID 1 tells; `None` while it does not run.
    pub fn of(messages: &[FromInit]) -> Option<Self> {
        messages.iter().find_map(|message| match message {
            FromInit::Service { name, pid, restarts, .. } if name == "agent" && *pid != 0 => {
                Some(Self { pid: *pid, restarts: *restarts })
            }
            _ => None,
        })
    }
}

/// The last verdict: which life of the runtime is healthy, or why none is.
#[derive(Debug)]
pub struct Health(Mutex<Result<Life, String>>);

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(Err("not probed yet".to_owned())))
    }
}

impl Health {
    /// The verdict on the runtime that runs now: one on an earlier life says nothing.
    pub fn verdict(&self, now: Option<Life>) -> Result<(), String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        match now {
            Some(now) if now == last => Ok(()),
            Some(_) => Err("the runtime was started again and not probed yet".to_owned()),
            None => Err("the runtime does not run".to_owned()),
        }
    }

    /// Remembers a verdict; whether it differs from the last.
    pub fn remember(&self, verdict: &Result<Life, String>) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *last != *verdict;
        last.clone_from(verdict);
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_on_an_earlier_life_of_the_runtime_is_none_on_this_one() {
        let health = Health::default();
        let (first, second) = (Life { pid: 7, restarts: 0 }, Life { pid: 9, restarts: 1 });
        assert!(health.verdict(Some(first)).is_err());
        assert!(health.remember(&Ok(first)));
        assert_eq!(health.verdict(Some(first)), Ok(()));
        assert!(health.verdict(Some(second)).is_err());
        assert!(health.verdict(None).is_err());
    }
}
