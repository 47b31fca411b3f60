//! The `control` service: the operator's API, the log ring, and the probe that decides whether the node is healthy.
//!
//! A few threads with a fixed ceiling, each doing blocking work with a time limit: one collects logs, one probes the
//! runtime, one accepts, and each connection has its own: at most [`serve::MOST_CONNECTIONS`] that are served, and some
//! that wait at the [`door`]. It keeps no
//! capability; what only PID 1 can know or do it asks PID 1 for. See docs/decisions/005-control-has-threads.md.

mod bind;
mod cut;
mod doctor;
mod door;
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

use astromesh_node::inherited::Inherited;
use astromesh_node::ipc_client::Pid1;
use astromesh_node::{log_sink, process, service};
use astromesh_settings::read_control;
use ring::Ring;
use shared::{STACK, Shared};
use std::os::fd::AsFd;
use std::sync::Arc;
use verdict::Health;

/// The service.
pub fn main(mut inherited: Inherited) -> i32 {
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::CONTROL, kmsg);
    }
    let socket = match inherited.ipc() {
        Ok(socket) => socket,
        Err(error) => {
            log::error!("{error}");
            return 1;
        }
    };
    let sources = (inherited.extra("kernel log", 0), inherited.extra("log of the runtime", 1));
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
    let collector = std::thread::Builder::new().name("logs".to_owned()).stack_size(STACK);
    let collector = match sources {
        (Ok(kernel), Ok(runtime)) => {
            collector.spawn(move || logs::collect(&logs.ring, &kernel, &runtime)).map(drop)
        }
        // PID 1 may have had none to give, and an operator is to be let in all the same.
        (Err(error), _) | (_, Err(error)) => {
            log::warn!("{error}; no logs are collected");
            Ok(())
        }
    };
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
