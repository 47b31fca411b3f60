//! One repository as those who fetch see it: a trait, and the bytes of a blob. Each kind of source implements it in its
//! own file.

use super::error::SourceError;
use super::referrer::Referrer;
use crate::{Digest, Patience};
use std::io::{self, Read};

/// One repository, wherever it is kept.
pub trait Source {
    /// What `name` is called in messages to people: `registry.example/os:1`.
    fn place(&self, name: &str) -> String;

    /// The bytes of the manifest with this tag or digest, at most `limit`; `None` where there is none.
    fn manifest(&mut self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError>;

    /// What refers to the image with this digest, by what the source says.
    fn referrers(&mut self, digest: Digest) -> Result<Vec<Referrer>, SourceError>;

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
