//! Reading from a device that may not answer.
//!
//! A disk that fails can take minutes to say so, and whoever stands in read(2) meanwhile can't be ended by any signal: PID 1
//! would lose its machine to the watchdog for a disk that is none of its own. So what is wanted is asked for without waiting,
//! and looked for until it is there or the time is up. Nothing has to be ended when it is.
//!
//! Sources: posix_fadvise(2), `POSIX_FADV_WILLNEED`; preadv2(2), `RWF_NOWAIT`.

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a device may take to answer. An emulated one on a busy host takes a hundredth of that; the watchdog's minute is
/// twenty times as long.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How often it is looked for: a disk answers within a fraction of a millisecond to a few.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Why bytes were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The device doesn't answer, or with an error that only the kernel's log tells.
    #[error("it did not answer within {} s", ANSWERS_WITHIN.as_secs())]
    Wait,
    /// It ends before.
    #[error("it is too short")]
    Reach,
    /// The kernel refuses.
    #[error("{0}")]
    Read(Errno),
}

/// Reads `length` bytes of a device, all of them.
pub fn read_at(device: impl AsFd, start: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    // What can't be asked for ahead is read all the same.
    let _ = rustix::fs::fadvise(&device, start, NonZeroU64::new(length as u64), Advice::WillNeed);
    gather(length, ANSWERS_WITHIN, |bytes, from| {
        let from = start.checked_add(from as u64).ok_or(Errno::OVERFLOW)?;
        match rustix::io::preadv2(&device, &mut [IoSliceMut::new(bytes)], from, ReadWriteFlags::NOWAIT) {
            // A file system or a driver that can only wait.
            Err(Errno::OPNOTSUPP) => rustix::io::pread(&device, bytes, from),
            other => other,
        }
    })
}

/// Calls `read` with what is still missing, and from where on, until everything is there or the time is up.
fn gather(
    length: usize,
    limit: Duration,
    mut read: impl FnMut(&mut [u8], usize) -> Result<usize, Errno>,
) -> Result<Vec<u8>, ReadError> {
    let deadline = Instant::now() + limit;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match read(&mut bytes[filled..], filled) {
            Ok(0) => return Err(ReadError::Reach),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Err(Errno::AGAIN) => return Err(ReadError::Wait),
            Err(cause) => return Err(ReadError::Read(cause)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_device_that_does_not_answer_is_given_up_in_time() {
        let began = Instant::now();
        assert_eq!(gather(8, SHORT, |_, _| Err(Errno::AGAIN)), Err(ReadError::Wait));
        assert!(began.elapsed() >= SHORT && began.elapsed() < ANSWERS_WITHIN);
    }

    #[test]
    fn what_comes_late_and_in_pieces_is_put_together() {
        let mut tries = 0;
        let bytes = gather(5, ANSWERS_WITHIN, |bytes, from| {
            tries += 1;
            match tries {
                1 | 3 => Err(Errno::AGAIN),
                4 => Err(Errno::INTR),
                _ => {
                    let count = bytes.len().min(3);
                    for (at, byte) in (from..).zip(&mut bytes[..count]) {
                        *byte = u8::try_from(at).unwrap();
                    }
                    Ok(count)
                }
            }
        });
        assert_eq!((bytes, tries), (Ok(vec![0, 1, 2, 3, 4]), 5));
    }

    #[test]
    fn a_short_device_and_an_error_are_told_at_once() {
        assert_eq!(gather(8, SHORT, |_, from| Ok(if from == 0 { 4 } else { 0 })), Err(ReadError::Reach));
        assert_eq!(gather(8, SHORT, |_, _| Err(Errno::IO)), Err(ReadError::Read(Errno::IO)));
    }

    #[test]
    fn a_file_is_read_where_it_was_asked_for() {
        let path = std::env::temp_dir().join(format!("astromesh-read-{}", std::process::id()));
        std::fs::write(&path, [vec![1; 5000], vec![2; 5000]].concat()).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert_eq!(read_at(&file, 4998, 4), Ok(vec![1, 1, 2, 2]));
        assert_eq!(read_at(&file, 9998, 4), Err(ReadError::Reach));
        assert_eq!(read_at(&file, 0, 10_000).unwrap().len(), 10_000);
        std::fs::remove_file(&path).unwrap();
    }
}
