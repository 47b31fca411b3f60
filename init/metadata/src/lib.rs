//! The job `metadata`: asks the metadata server of the cloud that the firmware names for the
//! machine-config.
//!
//! PID 1 starts it only when no firmware table and no drive had one, and again later when it came back with nothing. It
//! borrows a link for a few seconds, asks, writes
//! the document's bytes to its standard output (memory that PID 1 made), gives the link back as it was, and ends. It
//! doesn't look into the document, which is read by the job `config` like any other. It has a user of its own and
//! the two capabilities without which there is no lease; it can start no other process, and PID 1 ends it after a
//! while whatever it does.

mod ask;
#[cfg(test)]
mod conversations;
mod uplink;

use ask::Limits;
use astromesh_node::inherited::Inherited;
use astromesh_node::job::Reason;
use astromesh_node::places::EXIT_FOUND;
use astromesh_node::{log_sink, process, service};
use astromesh_proto::cloud::Cloud;
use astromesh_proto::metadata::SERVER;
use std::os::fd::AsFd;
use std::time::Instant;
use uplink::Uplink;

/// Exit code: there is none; the reason is left for PID 1.
const EXIT_NONE: i32 = 1;

/// The process.
pub fn main(mut inherited: Inherited) -> i32 {
    let limits = Limits::since(Instant::now());
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::METADATA, kmsg);
    }
    let reason = match Reason::take(&mut inherited) {
        Ok(reason) => reason,
        Err(error) => {
            log::error!("{error}");
            return EXIT_NONE;
        }
    };
    match fetch(&limits) {
        Ok(()) => EXIT_FOUND,
        Err(error) => {
            log::error!("no machine-config: {error}");
            reason.leave(&error);
            EXIT_NONE
        }
    }
}

/// Asks, and hands the document on; why there is none.
fn fetch(limits: &Limits) -> Result<(), String> {
    service::become_service(process::METADATA).map_err(|error| error.to_string())?;
    let cloud = std::env::args().nth(1).as_deref().and_then(Cloud::from_argument);
    let cloud = cloud.ok_or("PID 1 did not say which cloud to ask")?;
    let mut uplink = Uplink::open()
        .map_err(|cause| format!("rtnetlink can't be reached: {cause}; the kernel lacks networking"))?;
    uplink.lease(*SERVER.ip(), limits.silent).map_err(|error| error.to_string())?;
    let document = ask::ask(SERVER.into(), cloud, limits).map_err(|error| error.to_string())?;
    // The link goes back before PID 1 hears of the end.
    drop(uplink);
    write(&document).map_err(|cause| format!("it can't be handed on: {cause}"))
}

fn write(mut document: &[u8]) -> rustix::io::Result<()> {
    while !document.is_empty() {
        let written = rustix::io::write(std::io::stdout(), document)?;
        document = &document[written..];
    }
    Ok(())
}
