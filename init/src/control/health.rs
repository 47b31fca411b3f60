//! Whether the node is healthy: the runtime answers, and every agent that the machine-config declares is loaded.
//!
//! The runtime's own `/v1/health` says "ok" with no agent at all, so it is asked, and then its list is compared with
//! the declaration.

use super::{Shared, http};
use astromesh_proto::ipc::{self, FromInit, ToInit};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often an unhealthy node is probed.
const UNTIL_HEALTHY: Duration = Duration::from_millis(100);
/// How often a healthy node is probed.
const WHILE_HEALTHY: Duration = Duration::from_secs(2);
/// How long the runtime may take to answer. An emulated machine is slow; a runtime that takes longer is not healthy.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

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
    fn remember(&self, verdict: &Result<Life, String>) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *last != *verdict;
        last.clone_from(verdict);
        differs
    }
}

/// Probes, for as long as the service lives, and tells PID 1 of every change.
pub fn probe(shared: &Shared) {
    let Some(config) = &shared.config else { return };
    let Some(address) = config.runtime.as_deref().and_then(|address| address.parse().ok()) else {
        shared.health.remember(&Err("maintenance mode: no agent runs".to_owned()));
        return;
    };
    loop {
        let verdict = examine_life(shared, address, &config.agents);
        if shared.health.remember(&verdict) {
            let reason = verdict.as_ref().err().map(String::as_str).unwrap_or_default();
            let told =
                shared.pid1.tell(&ToInit::Health { healthy: verdict.is_ok(), reason: ipc::cut(reason) });
            if let Err(error) = told {
                log::warn!("{error}");
            }
        }
        std::thread::sleep(if verdict.is_ok() { WHILE_HEALTHY } else { UNTIL_HEALTHY });
    }
}

/// One probe, of one life of the runtime from beginning to end.
fn examine_life(shared: &Shared, address: SocketAddr, declared: &[String]) -> Result<Life, String> {
    // Most probes of a boot end here: nobody listens yet.
    drop(http::connect(address, ANSWERS_WITHIN).map_err(|error| error.to_string())?);
    let life =
        || shared.pid1.ask(false).map(|messages| Life::of(&messages)).map_err(|error| error.to_string());
    let before = life()?;
    examine(address, declared)?;
    match before {
        Some(lived) if life()? == before => Ok(lived),
        _ => Err("the runtime was started again while it was probed".to_owned()),
    }
}

/// Whether the runtime answers and has every declared agent.
fn examine(address: SocketAddr, declared: &[String]) -> Result<(), String> {
    let health = http::get(address, "/v1/health", ANSWERS_WITHIN).map_err(|error| error.to_string())?;
    if health.get("status").and_then(Value::as_str) != Some("ok") {
        return Err("the runtime does not call itself ok".to_owned());
    }
    let agents = http::get(address, "/v1/agents", ANSWERS_WITHIN).map_err(|error| error.to_string())?;
    for (name, state) in loaded(&agents, declared) {
        state.map_err(|reason| format!("agent {name} is not loaded: {reason}"))?;
    }
    Ok(())
}

/// For each declared agent whether the runtime has it deployed, and why not.
pub fn loaded<'a>(
    answer: &'a Value,
    declared: &'a [String],
) -> impl Iterator<Item = (&'a str, Result<(), String>)> {
    let list = answer.get("agents").and_then(Value::as_array);
    declared.iter().map(move |name| {
        let text = |agent: &'a Value, key: &str| agent.get(key).and_then(Value::as_str);
        let found = list.into_iter().flatten().find(|agent| text(agent, "name") == Some(name));
        let state = match found {
            None => Err("the runtime does not know it".to_owned()),
            Some(agent) if text(agent, "status") == Some("deployed") => Ok(()),
            Some(agent) => Err(text(agent, "error").unwrap_or("it is no more than a draft").to_owned()),
        };
        (name.as_str(), state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_counts_only_when_it_is_deployed() {
        let declared = ["good", "draft", "absent"].map(str::to_owned);
        let answer = json!({"agents": [
            {"name": "good", "status": "deployed"},
            {"name": "draft", "status": "draft", "error": "ValueError: no such provider"},
        ]});
        let states: Vec<_> = loaded(&answer, &declared).map(|(_, state)| state).collect();
        assert_eq!(states[0], Ok(()));
        assert_eq!(states[1], Err("ValueError: no such provider".to_owned()));
        assert!(states[2].is_err());
    }

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

    #[test]
    fn an_answer_of_another_shape_loads_nothing() {
        for answer in [json!(null), json!({"agents": "good"}), json!([{"name": "good"}])] {
            assert!(loaded(&answer, &["good".to_owned()]).all(|(_, state)| state.is_err()));
        }
    }
}
