//! A layer put together from what is here already, and the rest of it from the source.
//!
//! In this order: chunks that an earlier attempt left in the file stay; the seeds (other files and partitions of this
//! machine) are cut as the index was cut, and what is wanted is copied; what is still missing is asked for in as few parts
//! as pay. Each chunk is compared with its name before it is written, and the whole file with its digest at the end, so a
//! seed may hold anything and change meanwhile.
//!
//! A seed that can't be read to its end is no error: it is a chance to move less, and is over.

use crate::Digest;
use crate::chunks::{self, Chunk, ChunkName, ChunkedLayer, MAX_CHUNK};
use crate::manifest::Layer;
use crate::source::{Source, chain};
use crate::transfer::{Attempts, FetchError, Fetched, Progress, SHORT, Told, at, open, tell};
use std::fs::File;
use std::io::{Read, Seek as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A file or a block device of this machine in which chunks may be found. Only read.
#[derive(Debug)]
pub struct Seed {
    file: File,
    length: u64,
}

impl Seed {
    /// The first `length` bytes of a file or device; fewer where it ends before.
    pub fn new(file: File, length: u64) -> Self {
        Self { file, length }
    }
}

/// What is here and not wanted but lies between two missing parts is fetched with them up to this many bytes: an answer's
/// header and the wait for it cost more.
const GAP: u64 = 8 * 1024;
/// The most parts that are asked for. Before there are more, wider gaps are fetched.
const MAX_PARTS: usize = 1024;
/// How much of a seed is in memory.
const BUFFER: usize = 8 * MAX_CHUNK;

pub(crate) enum Assembled {
    Done(Fetched),
    /// The source sends whole blobs only.
    NoParts,
}

/// The file as it is put together.
struct Build<'a> {
    layer: &'a Layer,
    chunks: &'a [Chunk],
    /// Where each chunk begins, and where the last ends.
    starts: Vec<u64>,
    there: Vec<bool>,
    /// Bytes that are there.
    received: u64,
    path: &'a Path,
    file: File,
}

/// Brings a layer to `path`, complete and on disk, or an error.
pub(crate) fn fetch(
    layer: &Layer,
    chunked: &ChunkedLayer,
    source: &mut dyn Source,
    path: &Path,
    seeds: &mut [Seed],
    progress: &mut Told<'_>,
) -> Result<Assembled, FetchError> {
    let mut build = Build::open(layer, &chunked.chunks, path)?;
    build.keep(progress)?;
    build.search(seeds, progress)?;
    let Some(fetched) = build.receive(source, progress)? else { return Ok(Assembled::NoParts) };
    build.finish()?;
    Ok(Assembled::Done(fetched))
}

impl<'a> Build<'a> {
    fn open(layer: &'a Layer, chunks: &'a [Chunk], path: &'a Path) -> Result<Self, FetchError> {
        let file = open(path)?;
        let starts = std::iter::once(0)
            .chain(chunks.iter().scan(0, |end, chunk| {
                *end += u64::from(chunk.length);
                Some(*end)
            }))
            .collect();
        let there = vec![false; chunks.len()];
        Ok(Self { layer, chunks, starts, there, received: 0, path, file })
    }

    /// Finds out what is in the file. What an attempt before had no time to write is zeros, which some chunks are, too.
    fn keep(&mut self, progress: &mut Told<'_>) -> Result<(), FetchError> {
        let before = self.file.metadata().map_err(at("reading", self.path))?.len();
        self.file.set_len(self.layer.size).map_err(at("growing", self.path))?;
        let zeros = Zeros::new();
        let mut buffer = vec![0; MAX_CHUNK];
        for at_chunk in 0..self.chunks.len() {
            let chunk = self.chunks[at_chunk];
            let bytes = &mut buffer[..chunk.length as usize];
            let is_there = if self.starts[at_chunk] >= before {
                zeros.is(chunk)
            } else {
                self.file.read_exact_at(bytes, self.starts[at_chunk]).map_err(at("reading", self.path))?;
                if is_zero(bytes) { zeros.is(chunk) } else { chunks::name(bytes) == chunk.name }
            };
            if is_there {
                self.there[at_chunk] = true;
                self.received += u64::from(chunk.length);
            }
        }
        self.tell(progress)
    }

    /// Copies what is wanted from the seeds.
    fn search(&mut self, seeds: &mut [Seed], progress: &mut Told<'_>) -> Result<(), FetchError> {
        // Sorted, not hashed: half the memory, and the same few comparisons.
        let mut wanted: Vec<(ChunkName, usize)> =
            self.missing().map(|at| (self.chunks[at].name, at)).collect();
        wanted.sort_unstable();
        // Most chunks of a seed are told by their length alone to be of no use, and needn't be hashed.
        let mut lengths = vec![false; MAX_CHUNK + 1];
        for (_, at) in &wanted {
            lengths[self.chunks[*at].length as usize] = true;
        }
        let mut open = wanted.len();
        let (name, size) = (self.layer.name.as_str(), seeds.iter().map(|seed| seed.length).sum());
        let mut searched = 0;
        for seed in seeds {
            let mut scan = Scan::new(seed);
            while open > 0
                && let Some(bytes) = scan.next()
            {
                searched += bytes.len() as u64;
                if lengths[bytes.len()] && !is_zero(bytes) {
                    let found = chunks::name(bytes);
                    let first = wanted.partition_point(|(name, _)| *name < found);
                    for (_, at) in wanted[first..].iter().take_while(|(name, _)| *name == found) {
                        if !self.there[*at] && self.chunks[*at].length as usize == bytes.len() {
                            self.put(*at, bytes)?;
                            open -= 1;
                        }
                    }
                }
                if scan.refilled() {
                    tell(progress, self.layer, Progress::Searched { name, searched, size })?;
                }
            }
        }
        self.tell(progress)
    }

    /// Asks for what is missing; `None` where the source sends no parts.
    fn receive(
        &mut self,
        source: &mut dyn Source,
        progress: &mut Told<'_>,
    ) -> Result<Option<Fetched>, FetchError> {
        let mut attempts = Attempts::new(source.patience());
        let (mut moved, mut buffer) = (0, vec![0; MAX_CHUNK]);
        let parts = self.parts();
        let asked: u64 = parts.iter().map(|part| self.starts[part.end] - self.starts[part.start]).sum();
        for part in parts {
            let mut next = part.start;
            while next < part.end {
                let before = next;
                let (from, length) = (self.starts[next], self.starts[part.end] - self.starts[next]);
                let cause = match source.blob(self.layer.digest, from, Some(length)) {
                    Err(error) if error.is_passing() => error.to_string(),
                    Err(error) => return Err(error.into()),
                    // All that comes is wanted where all is missing.
                    Ok(blob) if !blob.is_ranged() && length < self.layer.size => return Ok(None),
                    Ok(mut blob) => loop {
                        if next == part.end {
                            break String::new();
                        }
                        let bytes = &mut buffer[..self.chunks[next].length as usize];
                        if let Err(cause) = fill(&mut blob, bytes, &mut moved) {
                            break cause;
                        }
                        if chunks::name(bytes) != self.chunks[next].name {
                            let cause = format!("another chunk at {}", self.starts[next]);
                            return Err(self.discard(cause)?);
                        }
                        self.put(next, bytes)?;
                        next += 1;
                        self.tell(progress)?;
                    },
                };
                if next < part.end {
                    attempts.wait(next > before, self.layer, self.received, &cause, progress)?;
                }
            }
        }
        Ok(Some(Fetched { moved, reused: self.layer.size - asked }))
    }

    /// Compares all of it, and sees that it is on disk.
    fn finish(mut self) -> Result<(), FetchError> {
        self.file.rewind().map_err(at("reading", self.path))?;
        let (found, _) = Digest::of_file(&mut self.file).map_err(at("reading", self.path))?;
        if found == self.layer.digest {
            return self.file.sync_all().map_err(at("writing", self.path));
        }
        // Every chunk was what the index says, so it is the index that is wrong.
        Err(self.discard(format!("its chunks have the digest {found} together, not {}", self.layer.digest))?)
    }

    /// Removes the file; the error that says why.
    fn discard(&self, cause: String) -> Result<FetchError, FetchError> {
        std::fs::remove_file(self.path).map_err(at("removing", self.path))?;
        Ok(FetchError::MatchIndex { name: self.layer.name.to_string(), cause })
    }

    fn put(&mut self, at_chunk: usize, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all_at(bytes, self.starts[at_chunk]).map_err(at("writing", self.path))?;
        // Again where it was fetched with its neighbours.
        if !self.there[at_chunk] {
            self.there[at_chunk] = true;
            self.received += bytes.len() as u64;
        }
        Ok(())
    }

    fn missing(&self) -> impl Iterator<Item = usize> {
        self.there.iter().enumerate().filter(|(_, there)| !**there).map(|(at, _)| at)
    }

    /// The chunks to ask for, in parts.
    fn parts(&self) -> Vec<Range<usize>> {
        let mut gap = GAP;
        loop {
            let parts = merge(self.missing(), &self.starts, gap);
            if parts.len() <= MAX_PARTS {
                return parts;
            }
            gap *= 2;
        }
    }

    fn tell(&self, progress: &mut Told<'_>) -> Result<(), FetchError> {
        let (name, size) = (self.layer.name.as_str(), self.layer.size);
        tell(progress, self.layer, Progress::Layer { name, received: self.received, size })
    }
}

/// Puts chunks into parts; two that are at most `gap` bytes apart come into one.
fn merge(missing: impl Iterator<Item = usize>, starts: &[u64], gap: u64) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for at in missing {
        match parts.last_mut() {
            Some(part) if starts[at] - starts[part.end] <= gap => part.end = at + 1,
            _ => parts.push(at..at + 1),
        }
    }
    parts
}

/// Reads until `bytes` is full, or says why it isn't.
fn fill(reader: &mut dyn Read, bytes: &mut [u8], moved: &mut u64) -> Result<(), String> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => return Err(SHORT.to_owned()),
            Ok(read) => {
                filled += read;
                *moved += read as u64;
            }
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What a chunk of zeros is called. They are never searched for: a file has them before anything is written.
struct Zeros(ChunkName);

impl Zeros {
    fn new() -> Self {
        Self(chunks::name(&vec![0; MAX_CHUNK]))
    }

    /// A long run of zeros is cut at the greatest length; other lengths are rare, and may be fetched.
    fn is(&self, chunk: Chunk) -> bool {
        chunk.length as usize == MAX_CHUNK && chunk.name == self.0
    }
}

/// The chunks of a seed.
struct Scan<'a> {
    seed: &'a Seed,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the seed the next bytes are read.
    at: u64,
    refilled: bool,
}

impl<'a> Scan<'a> {
    fn new(seed: &'a Seed) -> Self {
        Self { seed, buffer: vec![0; BUFFER], start: 0, end: 0, at: 0, refilled: false }
    }

    /// The next chunk. A long run of zeros is cut at the greatest length: that needn't be computed.
    fn next(&mut self) -> Option<&[u8]> {
        self.refilled = self.end - self.start < MAX_CHUNK && self.at < self.seed.length;
        if self.refilled {
            self.fill();
        }
        let bytes = &self.buffer[self.start..self.end];
        if bytes.is_empty() {
            return None;
        }
        let length = if bytes.len() >= MAX_CHUNK && is_zero(&bytes[..MAX_CHUNK]) {
            MAX_CHUNK
        } else {
            chunks::first(bytes)
        };
        self.start += length;
        Some(&self.buffer[self.start - length..self.start])
    }

    fn fill(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() && self.at < self.seed.length {
            let rest = usize::try_from(self.seed.length - self.at).unwrap_or(usize::MAX);
            let most = rest.min(self.buffer.len() - self.end);
            match self.seed.file.read_at(&mut self.buffer[self.end..self.end + most], self.at) {
                Ok(read) if read > 0 => {
                    self.end += read;
                    self.at += read as u64;
                }
                // Its end, or a part of it that can't be read.
                _ => self.at = self.seed.length,
            }
        }
    }

    /// Whether bytes were read for the last chunk.
    fn refilled(&self) -> bool {
        self.refilled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_merged_over_small_gaps_only() {
        // Chunks of 4 KiB: 0 and 1 are missing, 2 is here; 3 is missing, 4 to 6 are here; 7 is missing.
        let starts: Vec<u64> = (0..=8).map(|at| at * 4096).collect();
        let merged = |gap| merge([0, 1, 3, 7].into_iter(), &starts, gap);
        assert_eq!(merged(0), [0..2, 3..4, 7..8]);
        assert_eq!(merged(GAP), [0..4, 7..8]);
        assert_eq!(merged(3 * 4096).first(), Some(&(0..8)));
        assert!(merge(std::iter::empty(), &starts, GAP).is_empty());
    }

    #[test]
    fn a_run_of_zeros_is_cut_at_the_greatest_length_which_search_relies_on() {
        assert_eq!(chunks::first(&vec![0; 2 * MAX_CHUNK]), MAX_CHUNK);
        let zeros = Zeros::new();
        let chunk = |length: usize, bytes: &[u8]| Chunk {
            length: u32::try_from(length).unwrap(),
            name: chunks::name(bytes),
        };
        assert!(zeros.is(chunk(MAX_CHUNK, &vec![0; MAX_CHUNK])));
        assert!(!zeros.is(chunk(MAX_CHUNK, &vec![1; MAX_CHUNK])));
        assert!(!zeros.is(chunk(5000, &[0; 5000])));
    }

    #[test]
    fn a_seed_is_cut_as_a_file_is() {
        let mut bytes: Vec<u8> =
            (0..3_000_000_u32).flat_map(|at| at.wrapping_mul(at).to_le_bytes()).collect();
        bytes[4_000_000..6_000_000].fill(0);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let seed = Seed::new(file, bytes.len() as u64);
        let (mut scan, mut scanned, mut cut) = (Scan::new(&seed), Vec::new(), Vec::new());
        while let Some(chunk) = scan.next() {
            scanned.push((chunk.len(), chunks::name(chunk)));
        }
        chunks::for_each_chunk(&mut &bytes[..], |chunk| cut.push((chunk.len(), chunks::name(chunk))))
            .unwrap();
        assert_eq!(scanned, cut);
        assert_eq!(scanned.iter().map(|(length, _)| length).sum::<usize>(), bytes.len());
    }
}
