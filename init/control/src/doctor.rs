//! The doctor: every check is made now, of facts, and each says what to do when it is red.

use crate::cut::{LONGEST_DETAIL, LONGEST_NAME, cut};
use crate::shared::Shared;
use crate::{health, http, status};
use astromesh_node::clock::{IMAGE_TIME, time_of_day};
use astromesh_proto::control::{Check, Mode};
use astromesh_proto::ipc::FromInit;
use serde_json::Value;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a provider may take to accept a connection.
const PROVIDER_WITHIN: Duration = Duration::from_secs(10);
/// How long the runtime's own doctor may take: it asks every provider.
const RUNTIME_WITHIN: Duration = Duration::from_secs(60);
/// Least free share of `/var`, in percent.
const LEAST_SPACE: u64 = 5;
/// Least available share of memory, in percent.
const LEAST_MEMORY: u64 = 3;
/// Most checks of the runtime's own doctor that are passed on.
const MOST_RUNTIME_CHECKS: usize = 256;

/// Makes every check.
pub fn examine(shared: &Shared) -> Vec<Check> {
    let mut checks = Vec::new();
    node(shared, &mut checks);
    checks.push(space());
    checks.push(memory());
    let config = shared.config.as_ref();
    let runtime =
        config.and_then(|config| config.runtime.as_deref()).and_then(|address| address.parse().ok());
    if let (Some(config), Some(address)) = (config, runtime) {
        agents(address, &config.agents, &mut checks);
        for (name, host, port) in &config.providers {
            checks.push(provider(name, host, *port));
        }
        runtime_doctor(address, &mut checks);
    }
    checks
}

fn check(name: impl Into<String>, result: Result<String, String>, hint: &str) -> Check {
    let ok = result.is_ok();
    let detail = match result {
        Ok(detail) | Err(detail) => detail,
    };
    let (name, detail) = (cut(name.into(), LONGEST_NAME), cut(detail, LONGEST_DETAIL));
    Check { name, ok, detail, hint: if ok { String::new() } else { hint.to_owned() } }
}

/// What PID 1 knows: root, watchdog, configuration, state.
fn node(shared: &Shared, checks: &mut Vec<Check>) {
    let messages = match shared.pid1.ask(false) {
        Ok(messages) => messages,
        Err(error) => {
            checks.push(check("init", Err(error.to_string()), "read the serial console; reboot the node"));
            return;
        }
    };
    for message in messages {
        if let FromInit::Node {
            mode,
            root_hash,
            root_verified,
            watchdog,
            config_error,
            var_on_disk,
            allocations,
            clock_was_behind,
        } = message
        {
            let root = if root_verified {
                Ok(format!("dm-verity, every block read so far is as the root hash says: {root_hash}"))
            } else {
                Err("the device-mapper does not vouch for the root".to_owned())
            };
            checks.push(check("root", root, "take the node out of service and write its image anew"));
            let config = if mode == Mode::Maintenance {
                Err(config_error.as_str().to_owned())
            } else {
                Ok("applied".to_owned())
            };
            checks.push(check(
                "config",
                config,
                "correct the machine-config (astromeshctl config validate) and reboot the node",
            ));
            checks.push(clock(time_of_day(), clock_was_behind));
            let armed = if watchdog { Ok("armed".to_owned()) } else { Err("none".to_owned()) };
            checks.push(check("watchdog", armed, "give the machine a watchdog: a hang would not reset it"));
            let memory = if allocations == 0 {
                Ok("PID 1 allocated nothing since the boot was over".to_owned())
            } else {
                Err(format!("PID 1 allocated memory {allocations} times since the boot was over"))
            };
            checks.push(check("init", memory, "report this: PID 1 could fail for lack of memory"));
            let state = if var_on_disk {
                Ok("on disk".to_owned())
            } else {
                Err("in memory, lost at the next start".to_owned())
            };
            checks.push(check(
                "var",
                state,
                "give the disk a var partition; read `astromeshctl logs` for why it can't be mounted",
            ));
        }
    }
}

/// By a clock that PID 1 had to set, certificates begin to be valid, and nothing more is known of it.
fn clock(now: u64, was_behind: bool) -> Check {
    let result = match (now >= IMAGE_TIME, was_behind) {
        (true, false) => Ok(format!("{now} s since 1970")),
        (true, true) => Err(format!(
            "the machine's was wrong; the node goes on from a moment that has been: {now} s since 1970"
        )),
        (false, _) => Err(format!("{now} s since 1970 is before this image was made")),
    };
    check("clock", result, "set the machine's clock: certificates can't be verified by a wrong one")
}

fn space() -> Check {
    let result = rustix::fs::statvfs(c"/var").map_err(|cause| cause.to_string()).and_then(|var| {
        let free = var.f_bavail * 100 / var.f_blocks.max(1);
        let text = format!("{free} % of /var is free ({} MiB)", (var.f_bavail * var.f_frsize) >> 20);
        if free >= LEAST_SPACE { Ok(text) } else { Err(text) }
    });
    check("space", result, "free space on /var, or give the node a larger disk")
}

fn memory() -> Check {
    let (total, available) = (status::memory("MemTotal:"), status::memory("MemAvailable:"));
    let share = available * 100 / total.max(1);
    let text = format!("{share} % of memory is available ({} MiB)", available >> 10);
    check(
        "memory",
        if share >= LEAST_MEMORY { Ok(text) } else { Err(text) },
        "give the node more memory, or fewer agents",
    )
}

fn agents(address: SocketAddr, declared: &[String], checks: &mut Vec<Check>) {
    let runtime = http::get(address, "/v1/health", health::ANSWERS_WITHIN).and_then(|answer| {
        let version = answer.get("version").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        http::get(address, "/v1/agents", health::ANSWERS_WITHIN).map(|agents| (version, agents))
    });
    match runtime {
        Ok((version, agents)) => {
            checks.push(check("runtime", Ok(format!("answers, version {version}")), ""));
            for (name, state) in health::loaded(&agents, declared) {
                let state = state.map(|()| "loaded".to_owned());
                checks.push(check(
                    format!("agent/{name}"),
                    state,
                    "correct the agent's document in the machine-config",
                ));
            }
        }
        Err(error) => {
            checks.push(check(
                "runtime",
                Err(error.to_string()),
                "read `astromeshctl logs` for why it does not start",
            ));
            for name in declared {
                let state = Err("the runtime does not answer".to_owned());
                checks.push(check(format!("agent/{name}"), state, "see the check `runtime`"));
            }
        }
    }
}

/// Whether a provider accepts a connection. What it says then is for the runtime's own doctor, which has the key.
fn provider(name: &str, host: &str, port: u16) -> Check {
    // A literal IPv6 address stands in brackets in a URL.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let result = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} has no address: {error}"))
        .and_then(|addresses| {
            let mut last = format!("{host} has no address");
            for address in addresses.take(4) {
                match TcpStream::connect_timeout(&address, PROVIDER_WITHIN) {
                    Ok(_) => return Ok(format!("{address} accepts connections")),
                    Err(error) => last = format!("{address}: {error}"),
                }
            }
            Err(last)
        });
    check(
        format!("provider/{name}"),
        result,
        "see that the provider is up and that the node's network reaches it",
    )
}

/// The runtime's own doctor, each check under `runtime/`.
fn runtime_doctor(address: SocketAddr, checks: &mut Vec<Check>) {
    match http::get(address, "/v1/system/doctor", RUNTIME_WITHIN) {
        Ok(answer) => checks.extend(from_runtime(&answer)),
        Err(error) => {
            checks.push(check("runtime/doctor", Err(error.to_string()), "see the check `runtime`"));
        }
    }
}

/// The checks in the runtime's answer. One that is not there, or not of the expected shape, is red.
fn from_runtime(answer: &Value) -> Vec<Check> {
    let healthy = answer.get("healthy").and_then(Value::as_bool);
    let overall = match healthy {
        Some(true) => Ok("healthy".to_owned()),
        Some(false) => Err("not healthy".to_owned()),
        None => Err("its answer says nothing of health".to_owned()),
    };
    let mut checks = vec![check("runtime/doctor", overall, "see the checks of the runtime below")];
    let each = answer.get("checks").and_then(Value::as_object);
    for (name, state) in each.into_iter().flatten().take(MOST_RUNTIME_CHECKS) {
        let text = |key: &str| state.get(key).and_then(Value::as_str).unwrap_or_default();
        let detail = format!("{}: {}", text("status"), text("message"));
        let result = if text("status") == "ok" { Ok(detail) } else { Err(detail) };
        checks.push(check(
            format!("runtime/{name}"),
            result,
            "see that the provider answers and that its key is right",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_proto::control::{MAX_RESPONSE, Response};
    use serde_json::json;

    #[test]
    fn the_runtimes_doctor_is_green_only_when_it_says_so_of_everything() {
        let green =
            json!({"healthy": true, "checks": {"provider:main": {"status": "ok", "message": "fine"}}});
        assert!(from_runtime(&green).iter().all(|check| check.ok));
        for red in [
            json!({"healthy": false, "checks": {}}),
            json!({"healthy": true, "checks": {"provider:main": {"status": "degraded"}}}),
            json!({"healthy": true, "checks": {"provider:main": "ok"}}),
            json!({"checks": {}}),
            json!(null),
        ] {
            assert!(from_runtime(&red).iter().any(|check| !check.ok), "{red}");
        }
    }

    #[test]
    fn an_answer_has_room_for_every_check_however_wordy_the_runtime_is() {
        let wordy = json!({"status": "\u{1f600}".repeat(5000), "message": "m".repeat(50_000)});
        let states: serde_json::Map<_, _> =
            (0..1000).map(|n| (format!("{n}{}", "n".repeat(1000)), wordy.clone())).collect();
        let mut checks = from_runtime(&json!({"healthy": true, "checks": states}));
        assert_eq!(checks.len(), MOST_RUNTIME_CHECKS + 1);
        // The node's own, one for each of 64 agents and of 32 providers.
        let red = || check("n".repeat(500), Err("d".repeat(5000)), &"h".repeat(110));
        checks.extend(std::iter::repeat_with(red).take(12 + 64 + 32));
        let frame = astromesh_proto::frame::encode_vec(&Response::Doctor(checks), MAX_RESPONSE);
        assert!(frame.is_ok(), "{frame:?}");
    }

    #[test]
    fn a_clock_before_the_image_was_made_is_red() {
        assert!(!clock(0, false).ok);
        assert!(!clock(IMAGE_TIME - 1, false).ok);
        assert!(clock(IMAGE_TIME, false).ok);
        assert!(!clock(IMAGE_TIME, true).ok, "it had to be set");
    }

    #[test]
    fn every_red_check_says_what_to_do() {
        let red = check("x", Err("broken".to_owned()), "mend it");
        assert!(!red.ok && !red.hint.is_empty());
    }
}
