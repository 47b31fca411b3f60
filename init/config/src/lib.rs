//! The job `config`: reads a machine-config from outside, and writes for each service what it needs.
//!
//! It is the only process that parses the document, and it has nothing to lose: its own user, no capability, no
//! socket. Either everything is written or, on any error, only the plan for maintenance mode (and, if operator access
//! can be read, that, so that somebody can see what is wrong).

mod output;

use astromesh_node::inherited::Inherited;
use astromesh_node::job::Reason;
use astromesh_node::places::PLAN;
use astromesh_node::{log_sink, process, service};
use astromesh_proto::ipc::{self, Plan, TrialRules};
use astromesh_proto::machine_config::{ConfigError, MachineConfig, Operator, not_before, smbios};
use std::io::Read;
use std::os::fd::AsFd;

/// Most bytes read from standard input; PID 1 carries no more.
const MOST_BYTES: u64 = 2 * 1024 * 1024 + 1;

/// The process. Exit code 0 means that a plan was written.
pub fn main(mut inherited: Inherited) -> i32 {
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::CONFIG, kmsg);
    }
    let reason = match Reason::take(&mut inherited) {
        Ok(reason) => reason,
        Err(error) => {
            log::error!("{error}");
            return 1;
        }
    };
    match carry_out() {
        Ok(()) => 0,
        Err(text) => {
            log::error!("{text}");
            reason.leave(&text);
            1
        }
    }
}

/// Leaves a plan; why there is none.
fn carry_out() -> Result<(), String> {
    service::become_service(process::CONFIG).map_err(|error| error.to_string())?;
    // What is made is for its owner and the group of the directory it is in.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| format!("the machine-config can't be read: {error}"))?;
    let document = match std::env::args().nth(1).as_deref() {
        Some("smbios") => match smbios::credential(&bytes) {
            Ok(Some(document)) => document,
            Ok(None) => return finish(&maintenance("SMBIOS type 11 carries no machine-config", None)),
            Err(error) => return finish(&maintenance(&error.to_string(), None)),
        },
        _ => bytes,
    };
    match MachineConfig::parse(&document) {
        Ok(config) => match output::write(&config) {
            Ok(()) => {
                let trial = config.update.as_ref().map(|update| TrialRules {
                    bless_after_seconds: update.bless_after_seconds,
                    healthy_within_seconds: update.healthy_within_seconds,
                });
                let hostname = ipc::cut(&config.node.hostname);
                let not_before = begin(&config.operator);
                finish(&Plan { hostname, maintenance: None, operator: true, trial, not_before })
            }
            Err(error) => Err(error.to_string()),
        },
        Err(error) => refuse(&document, &error),
    }
}

/// Leaves a plan for maintenance mode, with operator access if that much can be read.
fn refuse(document: &[u8], error: &ConfigError) -> Result<(), String> {
    let text = error.short();
    log::error!("{text}");
    let operator = MachineConfig::salvage_operator(document);
    let reachable = operator.filter(|operator| match output::write_operator(operator) {
        Ok(()) => true,
        Err(error) => {
            log::error!("{error}");
            false
        }
    });
    finish(&maintenance(&text, reachable.as_ref()))
}

fn maintenance(text: &str, operator: Option<&Operator>) -> Plan {
    Plan {
        hostname: heapless::String::new(),
        maintenance: Some(ipc::cut(text)),
        operator: operator.is_some(),
        trial: None,
        not_before: operator.map_or(0, begin),
    }
}

/// When the node's certificate begins to be valid; 0 when that can't be read.
fn begin(operator: &Operator) -> u64 {
    not_before(&operator.certificate).unwrap_or(0)
}

fn finish(plan: &Plan) -> Result<(), String> {
    let mut buffer = [0; ipc::MAX_MESSAGE];
    let bytes = ipc::encode(plan, &mut buffer).ok_or("the plan for PID 1 is too long")?;
    std::fs::write(PLAN, bytes).map_err(|error| format!("{PLAN} can't be written: {error}"))
}
