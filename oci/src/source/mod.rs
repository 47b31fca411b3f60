//! Where the bytes of an image come from: a registry, or a directory that holds what a registry would.
//!
//! Nothing here blocks for ever or keeps more than it was asked to keep, and nothing here is believed: what comes is
//! compared with a digest by who asked ([`crate::verify_with`], [`crate::fetch_layer`]). There is no asynchronous
//! runtime below it, because it runs on the node.

mod http;
mod layout;
mod pace;
mod registry;
mod token;

pub use layout::{LayoutError, LayoutSource};
pub use registry::{RegistryError, RegistrySource};

use crate::{Digest, Patience};
use std::io::{self, Read};

/// No bytes came.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory can't be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl SourceError {
    /// Whether the same question may be answered in a while: a connection broke, or the other side is busy.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Reach { .. }))
    }
}

/// One repository, wherever it is kept.
pub trait Source {
    /// What `name` is called in messages to people: `registry.example/os:1`.
    fn place(&self, name: &str) -> String;

    /// The bytes of the manifest with this tag or digest, at most `limit`; `None` where there is none.
    fn manifest(&mut self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError>;

    /// The bytes of a blob from `from` on: `length` of them, or all that follow.
    fn blob(&mut self, digest: Digest, from: u64, length: Option<u64>) -> Result<Blob<'_>, SourceError>;

    /// How often a transfer that broke is begun again.
    fn patience(&self) -> Patience {
        Patience::default()
    }
}

/// The bytes of a blob, from the place on that was asked for. Not compared with anything yet.
pub struct Blob<'a> {
    reader: Box<dyn Read + 'a>,
    /// What comes before the place that was asked for, and is still to be read.
    before: u64,
    /// What may still be read after it.
    rest: u64,
    ranged: bool,
}

impl<'a> Blob<'a> {
    /// Of a source that sends exactly what was asked for.
    pub fn exact(reader: Box<dyn Read + 'a>, length: Option<u64>) -> Self {
        Self { reader, before: 0, rest: length.unwrap_or(u64::MAX), ranged: true }
    }

    /// Of a source that always sends everything: what comes before `from` is read and dropped, when somebody reads.
    pub fn whole(reader: Box<dyn Read + 'a>, from: u64, length: Option<u64>) -> Self {
        Self { reader, before: from, rest: length.unwrap_or(u64::MAX), ranged: false }
    }

    /// Whether only what was asked for is sent. If not, everything before it moves too, and asking for parts doesn't pay.
    pub fn is_ranged(&self) -> bool {
        self.ranged
    }

    /// The reader, and where in the blob it stands: at the place that was asked for, or at the start.
    pub(crate) fn into_parts(self, from: u64) -> (Box<dyn Read + 'a>, u64) {
        (self.reader, from - self.before)
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.before > 0 {
            let skipped = io::copy(&mut (&mut self.reader).take(self.before), &mut io::sink())?;
            self.before -= skipped;
            if self.before > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        self.rest -= read as u64;
        Ok(read)
    }
}

/// A small blob as a whole, of exactly this size and digest; `None` when what comes is something else.
pub(crate) fn small_blob(
    source: &mut dyn Source,
    digest: Digest,
    size: u64,
) -> Result<Option<Vec<u8>>, SmallBlobError> {
    let mut blob = source.blob(digest, 0, Some(size)).map_err(SmallBlobError::Open)?;
    let mut bytes = Vec::new();
    blob.by_ref().take(size).read_to_end(&mut bytes).map_err(SmallBlobError::Read)?;
    Ok((bytes.len() as u64 == size && Digest::of(&bytes) == digest).then_some(bytes))
}

/// A small blob did not come.
pub(crate) enum SmallBlobError {
    Open(SourceError),
    Read(io::Error),
}

/// An error with its causes, at most some lines of it: the outermost text alone often says nothing.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    short(&text)
}

/// How much of what the other side says about a failure is shown.
const MAX_CAUSE: usize = 300;

pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_CAUSE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_stands_where_it_was_asked_for_whether_or_not_the_source_knows_ranges() {
        let read = |mut blob: Blob<'_>| {
            let mut bytes = Vec::new();
            blob.read_to_end(&mut bytes).map(|_| bytes)
        };
        let exact = Blob::exact(Box::new(&b"3456789"[..]), Some(4));
        assert!(exact.is_ranged());
        assert_eq!(read(exact).unwrap(), b"3456");
        let whole = Blob::whole(Box::new(&b"0123456789"[..]), 3, Some(4));
        assert!(!whole.is_ranged());
        assert_eq!(read(whole).unwrap(), b"3456");
        assert_eq!(read(Blob::whole(Box::new(&b"0123"[..]), 2, None)).unwrap(), b"23");
        assert!(read(Blob::whole(Box::new(&b"01"[..]), 3, None)).is_err());
    }
}
