//! The job `grow`: makes the file system on `/var` as long as its partition, step by step, while the node serves.
//!
//! **Why a process of its own.** The kernel grows an ext4 inside one system call, and for terabytes that call lasts minutes,
//! in which no signal ends it. PID 1 must not stand in it, or the watchdog resets a machine that is well; so PID 1 starts
//! this process once the boot is over and goes on.
//!
//! **Why steps.** Each call grows by one flex group ([`Ext4::next_step`]) and ends with an empty journal: power that fails
//! in between finds a file system that is whole, and the next boot goes on from there. Between two steps the processes that
//! write to `/var` have their turn, and one that is told to end does.
//!
//! **Refuses** to say how far it will get: it stops where the kernel adds nothing more, because the end of a partition may be
//! too short for a block group of its own.

use astromesh_node::ext4::Ext4;
use astromesh_node::inherited::Inherited;
use astromesh_node::job::Reason;
use astromesh_node::service::{self, BecomeError};
use astromesh_node::{log_sink, process};
use astromesh_sys::resize;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Why the file system is shorter than its partition.
#[derive(Debug, thiserror::Error)]
enum GrowError {
    /// Rights could not be given up.
    #[error("rights could not be given up: {0}")]
    GiveUpRights(#[from] BecomeError),
    /// The partition's length isn't known.
    #[error("the length of the partition of /var can't be read: {0}; the next boot tries again")]
    ReadLength(Errno),
    /// The file system can't be read.
    #[error("the partition of /var holds no ext4 superblock; the disk is damaged")]
    ReadSuperblock,
    /// It can't be reached.
    #[error("/var can't be opened: {0}; the next boot tries again")]
    OpenVar(Errno),
    /// The kernel refuses a step.
    #[error(
        "the file system on /var stays at {from} MiB, {cause}; read the kernel's lines in `astromeshctl logs`"
    )]
    Step {
        /// How long it is.
        from: u64,
        /// Why it grows no further.
        cause: Errno,
    },
}

/// Exit code: it is as long as it can be.
const EXIT_DONE: i32 = 0;
/// Exit code: it is not, and the reason is left for PID 1.
const EXIT_NOT_DONE: i32 = 1;

/// How often the log hears how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The process. Its standard input is the partition of `/var`, to read from.
pub fn main(mut inherited: Inherited) -> i32 {
    if let Ok(kmsg) = std::io::stderr().as_fd().try_clone_to_owned() {
        log_sink::start(process::GROW, kmsg);
    }
    let reason = match Reason::take(&mut inherited) {
        Ok(reason) => reason,
        Err(error) => {
            log::error!("{error}");
            return EXIT_NOT_DONE;
        }
    };
    match grow() {
        Ok(done) => {
            log::info!("{done}");
            reason.leave(&done);
            EXIT_DONE
        }
        Err(error) => {
            log::error!("{error}");
            reason.leave(&error.to_string());
            EXIT_NOT_DONE
        }
    }
}

/// Grows it, and says from where to where.
fn grow() -> Result<String, GrowError> {
    service::become_service(process::GROW)?;
    let partition = std::io::stdin();
    let partition = partition.as_fd();
    let room = rustix::fs::seek(partition, SeekFrom::End(0)).map_err(GrowError::ReadLength)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let var = rustix::fs::open(c"/var", flags, Mode::empty()).map_err(GrowError::OpenVar)?;
    let read = || Ext4::read(partition).ok_or(GrowError::ReadSuperblock);
    let (first, began) = (read()?, Instant::now());
    let (mut now, mut steps, mut told) = (first, 0, began);
    while let Some(blocks) = now.next_step(room) {
        let step_began = Instant::now();
        resize::ext4(&var, blocks).map_err(|cause| GrowError::Step { from: now.bytes() >> 20, cause })?;
        let after = read()?;
        if after.bytes() <= now.bytes() {
            break;
        }
        (now, steps) = (after, steps + 1);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            log::info!("/var has {} of {} MiB", now.bytes() >> 20, room >> 20);
        }
        if now.next_step(room).is_some() {
            // As much time for all the others as it took itself.
            std::thread::sleep(step_began.elapsed());
        }
    }
    let (from, to) = (first.bytes() >> 20, now.bytes() >> 20);
    Ok(format!("/var grown from {from} to {to} MiB in {steps} steps, {} ms", began.elapsed().as_millis()))
}
