//! Whether the node is healthy: the runtime answers, and every agent that the machine-config declares is loaded.
//!
//! The runtime's own `/v1/health` says "ok" with no agent at all, so it is asked, and then its list is compared with
//! the declaration.

use crate::cut::{LONGEST_REASON, cut};
use crate::http;
use crate::shared::Shared;
use crate::verdict::Life;
use astromesh_proto::ipc::{self, ToInit};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How often an unhealthy node is probed.
const UNTIL_HEALTHY: Duration = Duration::from_millis(100);
/// How often a healthy node is probed.
const WHILE_HEALTHY: Duration = Duration::from_secs(2);
/// How long the runtime may take to answer. An emulated machine is slow; a runtime that takes longer is not healthy.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

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
        state.map_err(|reason| cut(format!("agent {name} is not loaded: {reason}"), LONGEST_REASON))?;
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
    fn an_answer_of_another_shape_loads_nothing() {
        for answer in [json!(null), json!({"agents": "good"}), json!([{"name": "good"}])] {
            assert!(loaded(&answer, &["good".to_owned()]).all(|(_, state)| state.is_err()));
        }
    }
}
