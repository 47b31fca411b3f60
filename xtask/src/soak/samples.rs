//! What is taken down while a node stands.

use astromesh_proto::control::Status;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the kernel said of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its process.
    pub pid: u32,
    /// How often it was started again since the boot.
    pub restarts: u32,
    /// Proportional set size in KiB.
    pub pss_kib: u64,
}

/// All services at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the node was first healthy.
    pub second: u64,
    /// By the service's name.
    pub services: BTreeMap<String, Memory>,
}

impl Sample {
    /// Of a status.
    pub fn of(status: &Status, second: u64) -> Self {
        let services = status.services.iter().map(|service| {
            let (pid, restarts, pss_kib) = (service.pid, service.restarts, service.pss_kib);
            (service.name.clone(), Memory { pid, restarts, pss_kib })
        });
        Self { second, services: services.collect() }
    }
}

/// A node that stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// For how long.
    pub minutes: u64,
    /// Questions to the agent that were answered, and that were not.
    pub asked: (u64, u64),
    /// An operator's requests that were answered, and that were not.
    pub polled: (u64, u64),
    /// How often the link went.
    pub cable_pulled: u64,
    /// One a minute.
    pub samples: Vec<Sample>,
}
