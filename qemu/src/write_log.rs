//! What a guest wrote to a disk, in order, and what of it a power cut may leave.
//!
//! QEMU's driver `blklogwrites` keeps such a log beside a disk ([`crate::Disk::log_writes`]), in the format of the
//! kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst). It exists because killing QEMU is
//! no power cut: the host keeps every write. A disk must have only what was written before the last flush. Of what
//! came later it may have any part, in any order: [`Cut`] says which.
//!
//! A write that ended while a flush was under way counts as flushed here, since the log has only the ends of both. It
//! refuses a log with anything in it that is neither a write nor a flush.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A sector of the log, as QEMU writes it unless told otherwise.
type Sector = [u8; 512];
/// Its bytes.
const SECTOR: u64 = 512;
/// The first field of a log: `WRITE_LOG_MAGIC` of drivers/md/dm-log-writes.c.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// The only version of the format.
const VERSION: u64 = 1;
/// `LOG_FLUSH_FLAG`: what ended before is on the medium.
const FLUSH: u64 = 1;
/// `LOG_DISCARD_FLAG`: the content of these sectors doesn't matter any more. It has no data in the log.
const DISCARD: u64 = 4;

/// What reaches the medium at once or not at all: a physical sector of today's disks, and a page of the guest's cache.
const ATOM: u64 = 4096;

/// Why a log is not read.
#[derive(Debug, thiserror::Error)]
pub enum WriteLogError {
    /// The file.
    #[error("the log of writes {path} can't be read ({source}). Does the machine run with Disk::log_writes?")]
    Read {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("the log of writes is none that this module understands: {0}")]
    Parse(String),
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Where on the disk, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Where in the log its data begins.
    data: u64,
}

/// An event of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A write ended.
    Write(Write),
    /// A flush ended: what ended before is on the medium.
    Flush,
}

/// The events of a disk, oldest first.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    events: Vec<Event>,
}

/// Number of entries, from the log's first sector.
fn header(sector: &Sector) -> Result<u64, WriteLogError> {
    let refused = |what: &str| Err(WriteLogError::Parse(what.to_owned()));
    if word(sector, 0) != MAGIC || word(sector, 8) != VERSION {
        return refused("it doesn't begin like one");
    }
    if word(sector, 24) & 0xffff_ffff != SECTOR {
        return refused("its sectors are not of 512 bytes");
    }
    Ok(word(sector, 16))
}

/// Reads an entry, which begins at `place`: its events, and where the next one begins.
fn entry(sector: &Sector, place: u64) -> Result<(Vec<Event>, u64), WriteLogError> {
    let (first, count, flags) = (word(sector, 0), word(sector, 8), word(sector, 16));
    let refused = || WriteLogError::Parse(format!("the entry at {place} has flags {flags:#x}"));
    let data = place + SECTOR;
    if flags & DISCARD != 0 {
        // The medium keeps what it had: QEMU hands discards to no file unless it is told to.
        return Ok((Vec::new(), data));
    }
    // A write that is forced to the medium (`LOG_FUA_FLAG`) is none of these: virtio-blk has none.
    if flags & !FLUSH != 0 {
        return Err(refused());
    }
    let length = count.checked_mul(SECTOR).ok_or_else(refused)?;
    let offset = first.checked_mul(SECTOR).ok_or_else(refused)?;
    let mut events = Vec::new();
    if flags & FLUSH != 0 {
        events.push(Event::Flush);
    }
    if length > 0 {
        events.push(Event::Write(Write { offset, length, data }));
    }
    // Neither: then this is no entry, and the next one begins elsewhere.
    if events.is_empty() {
        return Err(refused());
    }
    let next = data.checked_add(length).ok_or_else(refused)?;
    Ok((events, next))
}

fn word(sector: &Sector, at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| sector[at + index]))
}

impl WriteLog {
    /// Reads a log. Its machine may have been killed: what came after its last flush is not in it then.
    pub fn read(path: &Path) -> Result<Self, WriteLogError> {
        let failed = |source| WriteLogError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mut sector: Sector = [0; 512];
        file.read_exact_at(&mut sector, 0).map_err(failed)?;
        let (mut events, mut place) = (Vec::new(), SECTOR);
        for _ in 0..header(&sector)? {
            file.read_exact_at(&mut sector, place).map_err(failed)?;
            let (more, next) = entry(&sector, place)?;
            events.extend(more);
            place = next;
        }
        Ok(Self { file, events })
    }

    /// All events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Power fails after the first `at` events. `arrives` says of each write that no flush covers how many of its
    /// bytes are on the medium all the same; it is asked in the order in which they ended.
    pub fn cut(&self, at: usize, mut arrives: impl FnMut(&Write) -> u64) -> Cut {
        let before = &self.events[..at];
        let durable = before.iter().rposition(|event| *event == Event::Flush).map_or(0, |flush| flush + 1);
        let mut left = Vec::new();
        for event in &before[durable..] {
            if let Event::Write(write) = event {
                let length = arrives(write).min(write.length);
                let length = if length < write.length { length / ATOM * ATOM } else { length };
                if length > 0 {
                    left.push(Write { length, ..*write });
                }
            }
        }
        Cut { durable, left }
    }

    fn data(&self, write: &Write) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(write.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, write.data)?;
        Ok(bytes)
    }
}

/// What a power cut leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How many events are over for sure.
    durable: usize,
    /// The later writes, or their beginnings, that are on the medium too, oldest first.
    left: Vec<Write>,
}

impl Cut {
    /// Makes `disk`, which is as it was when the log began, what this cut leaves.
    pub fn apply(&self, log: &WriteLog, disk: &File) -> io::Result<()> {
        let mut replay = Replay::new(log, disk.try_clone()?);
        replay.advance(self.durable)?;
        for write in &self.left {
            disk.write_all_at(&log.data(write)?, write.offset)?;
        }
        Ok(())
    }
}

/// A disk on which a log is replayed, to look at one cut after the other.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a WriteLog,
    disk: File,
    done: usize,
}

impl<'a> Replay<'a> {
    /// On a disk that is as it was when the log began.
    pub fn new(log: &'a WriteLog, disk: File) -> Self {
        Self { log, disk, done: 0 }
    }

    fn advance(&mut self, to: usize) -> io::Result<()> {
        for event in &self.log.events[self.done.min(to)..to] {
            if let Event::Write(write) = event {
                self.disk.write_all_at(&self.log.data(write)?, write.offset)?;
            }
        }
        self.done = self.done.max(to);
        Ok(())
    }

    /// The disk that a cut leaves. Cuts come in their order, since what is on the medium stays there.
    pub fn after(&mut self, cut: &Cut) -> io::Result<Medium<'_>> {
        if cut.durable < self.done {
            return Err(io::Error::other("this cut comes before one that was looked at"));
        }
        self.advance(cut.durable)?;
        let left = cut.left.iter().map(|write| Ok((write.offset, self.log.data(write)?)));
        Ok(Medium { disk: &self.disk, left: left.collect::<io::Result<_>>()? })
    }
}

/// A disk after a cut, to be read only.
#[derive(Debug)]
pub struct Medium<'a> {
    disk: &'a File,
    left: Vec<(u64, Vec<u8>)>,
}

impl Medium<'_> {
    /// Reads bytes of it.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.disk.read_exact_at(&mut bytes, offset)?;
        let end = offset + length as u64;
        for (start, data) in &self.left {
            let from = offset.max(*start);
            let to = end.min(start + data.len() as u64);
            if from < to {
                let place = |at: u64, of: u64| usize::try_from(at - of).map_err(io::Error::other);
                let target = place(from, offset)?..place(to, offset)?;
                bytes[target].copy_from_slice(&data[place(from, *start)?..place(to, *start)?]);
            }
        }
        Ok(bytes)
    }

    /// Its bytes in all.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.disk.metadata()?.len())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    /// A log as QEMU 10.0 writes one: writes, each with its place and the byte it is full of, and flushes.
    pub(crate) fn log(events: &[Option<(u64, Vec<u8>)>]) -> WriteLog {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let sector = |words: [u64; 4]| {
            let mut sector = vec![0; 512];
            for (place, word) in sector.chunks_exact_mut(8).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            sector
        };
        file.write_all(&sector([MAGIC, VERSION, events.len() as u64, SECTOR])).unwrap();
        for event in events {
            match event {
                None => file.write_all(&sector([0, 0, FLUSH, 0])).unwrap(),
                Some((offset, data)) => {
                    file.write_all(&sector([offset / 512, data.len() as u64 / 512, 0, 0])).unwrap();
                    file.write_all(data).unwrap();
                }
            }
        }
        WriteLog::read(file.path()).unwrap()
    }

    fn disk(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    fn full(byte: u8, length: usize) -> Vec<u8> {
        vec![byte; length]
    }

    #[test]
    fn what_was_flushed_stays_and_of_the_rest_any_part_is_there() {
        let log =
            log(&[Some((0, full(1, 8192))), None, Some((0, full(2, 8192))), Some((4096, full(3, 512)))]);
        let mut replay = Replay::new(&log, disk(8192));
        let mut see = |cut: &Cut| {
            let bytes = replay.after(cut).unwrap().read(0, 8192).unwrap();
            (bytes[0], bytes[4096], bytes[4096 + 512])
        };
        assert_eq!(see(&log.cut(1, |_| 0)), (0, 0, 0), "no flush, nothing for sure");
        assert_eq!(see(&log.cut(1, |write| write.length)), (1, 1, 1));
        assert_eq!(see(&log.cut(2, |_| 0)), (1, 1, 1), "flushed");
        assert_eq!(see(&log.cut(4, |_| 0)), (1, 1, 1), "both were lost");
        assert_eq!(see(&log.cut(4, |write| write.length)), (2, 3, 2));
        let later = |write: &Write| if write.length == 512 { 512 } else { 0 };
        assert_eq!(see(&log.cut(4, later)), (1, 3, 1), "the later one came first");
        assert_eq!(see(&log.cut(4, |_| 4096)), (2, 3, 1), "half of the first");
        assert_eq!(see(&log.cut(3, |_| 4095)), (1, 1, 1), "no part of what is written at once");
        assert!(replay.after(&log.cut(1, |_| 0)).is_err(), "what is on the medium stays there");
    }

    #[test]
    fn a_cut_is_applied_to_a_disk_as_it_is_seen() {
        let log = log(&[Some((512, full(1, 512))), None, Some((0, full(2, 1024))), None]);
        let cut = log.cut(3, |write| write.length);
        let mut file = disk(4096);
        cut.apply(&log, &file).unwrap();
        let mut applied = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut applied).unwrap();
        let mut replay = Replay::new(&log, disk(4096));
        assert_eq!(replay.after(&cut).unwrap().read(0, 4096).unwrap(), applied);
        assert_eq!((applied[0], applied[1023], applied[1024]), (2, 2, 0));
    }

    #[test]
    fn what_is_no_log_or_has_what_is_neither_write_nor_flush_is_refused() {
        let sector = |words: [u64; 4]| {
            let mut sector = [0; 512];
            for (place, word) in sector.chunks_exact_mut(8).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            sector
        };
        assert_eq!(header(&sector([MAGIC, VERSION, 7, 512])).unwrap(), 7);
        for words in [[MAGIC + 1, VERSION, 7, 512], [MAGIC, 2, 7, 512], [MAGIC, VERSION, 7, 4096]] {
            assert!(header(&sector(words)).is_err(), "{words:?}");
        }
        assert!(entry(&[0; 512], 512).is_err(), "data where an entry should be");
        for flags in [2, 8, 16] {
            assert!(entry(&sector([1, 1, flags, 0]), 512).is_err(), "{flags}");
        }
        assert!(entry(&sector([u64::MAX, 1, 0, 0]), 512).is_err());
        assert!(entry(&sector([1, u64::MAX / 512, 0, 0]), 1024).is_err());
        assert_eq!(entry(&sector([32, 8, DISCARD, 512]), 512).unwrap(), (Vec::new(), 1024));
        let write = Event::Write(Write { offset: 512, length: 1024, data: 1024 });
        assert_eq!(entry(&sector([1, 2, FLUSH, 0]), 512).unwrap(), (vec![Event::Flush, write], 2048));
    }
}
