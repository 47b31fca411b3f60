//! The `control` service: the operator's API, the log ring, and the probe that decides whether the node is healthy.
//!
//! A few threads with a fixed ceiling, each doing blocking work with a time limit: one collects logs, one probes the
//! runtime, one accepts, and each connection (at most [`serve::MOST_CONNECTIONS`]) has its own. It keeps no
//! capability; what only PID 1 can know or do it asks PID 1 for. See docs/decisions/005-control-has-threads.md.

mod doctor;
mod error;
mod health;
mod http;
mod kmsg;
mod logs;
mod ring;
mod serve;
mod shared;
mod status;
mod update;
mod verdict;

use astromesh_node::ipc_client::Pid1;
use astromesh_node::{log_sink, process, service};
use astromesh_settings::read_control;
use astromesh_sys::descriptors;
use ring::Ring;
use shared::{STACK, Shared};
use std::os::fd::AsFd;
use std::sync::Arc;
use verdict::Health;

/// The service.
pub fn main() -> i32 {
    let socket = descriptors::inherited(service::IPC_FD);
    let kernel_log = descriptors::inherited(service::EXTRA_FD);
    let runtime_log = descriptors::inherited(service::EXTRA_FD + 1);
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::CONTROL, kmsg);
    }
    if let Err(error) = service::become_service(process::CONTROL) {
        log::error!("{error}");
        return 1;
    }
    let shared = Arc::new(Shared {
        config: read_control(),
        pid1: Pid1::new(socket),
        ring: Ring::default(),
        health: Health::default(),
    });
    let logs = Arc::clone(&shared);
    let collector = std::thread::Builder::new()
        .name("logs".to_owned())
        .stack_size(STACK)
        .spawn(move || logs::collect(&logs.ring, &kernel_log, &runtime_log));
    let probed = Arc::clone(&shared);
    let probe = std::thread::Builder::new()
        .name("health".to_owned())
        .stack_size(STACK)
        .spawn(move || health::probe(&probed));
    if let (Err(error), _) | (_, Err(error)) = (&collector, &probe) {
        log::error!("a thread can't be started: {error}");
        return 1;
    }
    match serve::listen(&shared) {
        Ok(never) => match never {},
        Err(error) => log::error!("{error}"),
    }
    // Nobody can be let in, but logs are still collected and health is still probed.
    loop {
        std::thread::park();
    }
}
