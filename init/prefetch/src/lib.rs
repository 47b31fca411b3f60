//! Reads ahead what the runtime will need, while the other stages run.
//!
//! The runtime's start is a few hundred small reads, each of which waits for a disk, for hashes and for
//! decompression. Their order never changes, because the root never does, so it is recorded at build time
//! (`/usr/lib/astromesh/hot-files`) and walked here, on another processor, a little ahead of the reader.

use astromesh_node::inherited::Inherited;
use astromesh_node::{log_sink, process, service};
use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// The list: one absolute path a line, in order of first use.
const LIST: &str = "/usr/lib/astromesh/hot-files";

/// The job: it ends when the list does.
pub fn main(inherited: Inherited) -> i32 {
    // It is given nothing that it needs.
    drop(inherited);
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::PREFETCH, kmsg);
    }
    if let Err(error) = service::become_service(process::PREFETCH) {
        log::error!("{error}");
        return 1;
    }
    // Reading ahead is for a processor that has nothing to do: it must never delay the one who reads.
    let _ = rustix::process::nice(19);
    let Ok(list) = std::fs::read_to_string(LIST) else { return 0 };
    let mut buffer = vec![0; 128 * 1024];
    for path in list.lines().filter(|path| path.starts_with('/')) {
        // A file that is not there, or can't be read, is the reader's problem.
        let _ = read(path, &mut buffer);
    }
    0
}

fn read(path: &str, buffer: &mut [u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fadvise(&file, 0, None, Advice::Sequential)?;
    while rustix::io::read(&file, &mut *buffer)? > 0 {}
    Ok(())
}
