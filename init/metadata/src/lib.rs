//! The one-shot `metadata` process: asks the metadata server of the cloud that the firmware names for the
//! machine-config.
//!
//! PID 1 starts it only when no firmware table and no drive had one. It borrows a link for a few seconds, asks, writes
//! the document's bytes to its standard output (memory that PID 1 made), gives the link back as it was, and ends. It
//! doesn't look into the document, which is judged by the `config` process like any other. It has a user of its own and
//! the two capabilities without which there is no lease; it can start no other process, and PID 1 ends it after a
//! while whatever it does.

mod ask;
mod uplink;

use astromesh_node::places::EXIT_FOUND;
use astromesh_node::{log_sink, service};
use astromesh_proto::cloud::Cloud;
use astromesh_proto::metadata::SERVER;
use rustix::thread::CapabilitySet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use uplink::Uplink;

/// How long everything may take: links, lease, every attempt. A metadata server is a host away and answers within
/// milliseconds; this is for one that comes up later than its guest. PID 1 waits a little longer than that.
const LIMIT: Duration = Duration::from_secs(20);

/// Exit code: there is none; the reason is in the log.
const EXIT_NONE: i32 = 1;

/// The process.
pub fn main() -> i32 {
    let deadline = Instant::now() + LIMIT;
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start("metadata", kmsg);
    }
    // For links, addresses and routes; and for DHCP before there is an address.
    let keep = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    if let Err(error) = service::become_service(service::METADATA_ID, keep) {
        log::error!("{error}");
        return EXIT_NONE;
    }
    let Some(cloud) = std::env::args().nth(1).as_deref().and_then(Cloud::from_argument) else {
        log::error!("which cloud is to be asked was not said");
        return EXIT_NONE;
    };
    let source = cloud.source();
    let mut uplink = match Uplink::open() {
        Ok(uplink) => uplink,
        Err(cause) => {
            log::error!("rtnetlink can't be reached: {cause}; the kernel lacks networking");
            return EXIT_NONE;
        }
    };
    let result = match uplink.lease(*SERVER.ip(), deadline) {
        Ok(()) => ask::ask(SERVER.into(), cloud, deadline).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    drop(uplink);
    match result
        .and_then(|document| write(&document).map_err(|cause| format!("it can't be handed on: {cause}")))
    {
        Ok(()) => EXIT_FOUND,
        Err(reason) => {
            log::error!("no machine-config from {source}: {reason}");
            EXIT_NONE
        }
    }
}

fn write(mut document: &[u8]) -> rustix::io::Result<()> {
    while !document.is_empty() {
        let written = rustix::io::write(std::io::stdout(), document)?;
        document = &document[written..];
    }
    Ok(())
}
