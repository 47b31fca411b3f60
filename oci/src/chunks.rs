//! The chunk index: how the UKI and the root are cut, so that a machine that has most of the pieces fetches the rest.
//!
//! The cuts follow the content (FastCDC), not offsets: bytes that were inserted shift what follows and change a chunk or
//! two. The index is a layer of its own and signed like every layer, but nothing rests on it: it is a list of hints,
//! and the layer that is put together by it is compared with its own digest at the end. So 16 bytes of SHA-256 name a
//! chunk: a collision could only make an update fail, and 128 bits don't collide by accident.
//!
//! The form is postcard: a version, then the layers in the order of their kinds. There is one form for one content, so
//! the same files have the same index. The sizes of the cuts belong to the version: who searches its own disk for chunks
//! has to cut as the index was cut.

use crate::Kind;
use fastcdc::v2020::{Normalization, cut, select_masks};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No chunk is shorter, but the last of a layer.
pub const MIN_CHUNK: usize = 4 * 1024;
/// What chunks have on average, about.
pub const AVERAGE_CHUNK: usize = 16 * 1024;
/// No chunk is longer.
pub const MAX_CHUNK: usize = 64 * 1024;
/// The most chunks of an index: 1 GiB of them. What a node keeps in memory for each is less than 60 bytes.
pub const MAX_CHUNKS: usize = 65_536;
/// What is cut.
pub const COVERED: [Kind; 2] = [Kind::Uki, Kind::Root];
/// The version of the form, and of the sizes.
const VERSION: u32 = 1;
/// The most bytes of an index: for each chunk its name and a length of up to three bytes, and a little for the rest.
pub(crate) const MAX_INDEX: usize = MAX_CHUNKS * 19 + 64;

/// Bytes are no chunk index.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChunksError {
    /// Too long, or too many chunks.
    #[error("it has more than {MAX_INDEX} bytes or {MAX_CHUNKS} chunks")]
    Bound,
    /// Not of this form.
    #[error("it is not a chunk index in its one form")]
    Parse,
    /// Of another version.
    #[error("it has version {0}, and this release reads version {VERSION}")]
    MatchVersion(u32),
    /// A layer that isn't cut, twice, or in the wrong order.
    #[error("it lists layers that can't be cut, or not in their order")]
    ListLayers,
    /// Sizes that can't be.
    #[error("its chunks don't have the sizes of chunks, or together not the size of their layer")]
    Add,
}

/// The first 16 bytes of a chunk's SHA-256.
pub type ChunkName = [u8; 16];

/// A piece of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// In bytes.
    pub length: u32,
    /// What it holds.
    pub name: ChunkName,
}

/// How some layers are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkIndex {
    layers: Vec<ChunkedLayer>,
}

/// How one layer is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkedLayer {
    /// Which.
    pub kind: Kind,
    /// In bytes.
    pub size: u64,
    /// From its start to its end.
    pub chunks: Vec<Chunk>,
}

#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    layers: Vec<LayerForm>,
}

#[derive(Serialize, Deserialize)]
struct LayerForm {
    /// Its place in [`COVERED`].
    kind: u8,
    size: u64,
    chunks: Vec<Chunk>,
}

impl ChunkIndex {
    /// Cuts files; of those that are no layers of [`COVERED`], none is looked at.
    pub fn of_files<'a>(files: impl IntoIterator<Item = (Kind, &'a Path)>) -> io::Result<Self> {
        let mut layers = Vec::new();
        for (kind, path) in files.into_iter().filter(|(kind, _)| COVERED.contains(kind)) {
            let (mut chunks, mut size) = (Vec::new(), 0);
            for_each_chunk(&mut File::open(path)?, |bytes| {
                size += bytes.len() as u64;
                chunks.push(chunk(bytes));
            })?;
            layers.push(ChunkedLayer { kind, size, chunks });
        }
        layers.sort_by_key(|layer| layer.kind);
        Ok(Self { layers })
    }

    /// Reads an index, refusing what is out of bounds or doesn't add up.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChunksError> {
        if bytes.len() > MAX_INDEX {
            return Err(ChunksError::Bound);
        }
        let (version, _) = postcard::take_from_bytes::<u32>(bytes).map_err(|_| ChunksError::Parse)?;
        if version != VERSION {
            return Err(ChunksError::MatchVersion(version));
        }
        let (form, rest) = postcard::take_from_bytes::<Form>(bytes).map_err(|_| ChunksError::Parse)?;
        let layer = |form: LayerForm| {
            let kind = *COVERED.get(usize::from(form.kind))?;
            Some(ChunkedLayer { kind, size: form.size, chunks: form.chunks })
        };
        let layers = form.layers.into_iter().map(layer).collect::<Option<_>>();
        let index = Self { layers: layers.ok_or(ChunksError::ListLayers)? };
        index.check()?;
        // Integers have longer forms, too: one content, one form.
        if rest.is_empty() && index.form() == bytes { Ok(index) } else { Err(ChunksError::Parse) }
    }

    /// The index's bytes; the same content always has the same. Refuses what [`ChunkIndex::parse`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, ChunksError> {
        self.check()?;
        let bytes = self.form();
        if bytes.len() > MAX_INDEX { Err(ChunksError::Bound) } else { Ok(bytes) }
    }

    /// How a layer is cut, if it is.
    pub fn layer(&self, kind: Kind) -> Option<&ChunkedLayer> {
        self.layers.iter().find(|layer| layer.kind == kind)
    }

    /// All of them.
    pub fn layers(&self) -> &[ChunkedLayer] {
        &self.layers
    }

    fn form(&self) -> Vec<u8> {
        let place = |kind| COVERED.iter().position(|covered| *covered == kind).unwrap_or_default();
        // Serialized without a copy of the chunks: they are most of the memory that an index takes.
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| (u8::try_from(place(layer.kind)).unwrap_or_default(), layer.size, &layer.chunks))
            .collect();
        postcard::to_extend(&(VERSION, layers), Vec::new()).expect("numbers and bytes have a postcard form")
    }

    fn check(&self) -> Result<(), ChunksError> {
        let ordered = self.layers.is_sorted_by(|one, next| one.kind < next.kind);
        if self.layers.is_empty() || !ordered || !self.layers.iter().all(|one| COVERED.contains(&one.kind)) {
            return Err(ChunksError::ListLayers);
        }
        if self.layers.iter().map(|layer| layer.chunks.len()).sum::<usize>() > MAX_CHUNKS {
            return Err(ChunksError::Bound);
        }
        for layer in &self.layers {
            let sizes = |(at, chunk): (usize, &Chunk)| {
                let least = if at + 1 == layer.chunks.len() { 1 } else { MIN_CHUNK };
                (least..=MAX_CHUNK).contains(&(chunk.length as usize))
            };
            let total: u64 = layer.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
            if total != layer.size
                || layer.size > layer.kind.limit()
                || !layer.chunks.iter().enumerate().all(sizes)
            {
                return Err(ChunksError::Add);
            }
        }
        Ok(())
    }
}

/// The name of these bytes.
pub(crate) fn name(bytes: &[u8]) -> ChunkName {
    let mut name = [0; 16];
    name.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    name
}

fn chunk(bytes: &[u8]) -> Chunk {
    // No longer than MAX_CHUNK.
    Chunk { length: u32::try_from(bytes.len()).unwrap_or(u32::MAX), name: name(bytes) }
}

/// The length of the first chunk of these bytes. They are all there is, or at least [`MAX_CHUNK`] of them.
pub(crate) fn first(bytes: &[u8]) -> usize {
    let (strict, loose) = select_masks(AVERAGE_CHUNK, Normalization::Level1);
    cut(bytes, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK, strict, loose, strict << 1, loose << 1).1
}

/// Cuts what a reader brings, with a small buffer.
pub(crate) fn for_each_chunk(reader: &mut dyn Read, mut use_it: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 8 * MAX_CHUNK];
    let (mut start, mut end, mut more) = (0, 0, true);
    loop {
        if more && end - start < MAX_CHUNK {
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            while more && end < buffer.len() {
                let read = reader.read(&mut buffer[end..])?;
                more = read > 0;
                end += read;
            }
        }
        if start == end {
            return Ok(());
        }
        let length = first(&buffer[start..end]);
        use_it(&buffer[start..start + length]);
        start += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        std::iter::repeat_with(&mut next).flatten().take(length).collect()
    }

    fn cut_all(bytes: &[u8]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for_each_chunk(&mut &bytes[..], |bytes| chunks.push(chunk(bytes))).unwrap();
        chunks
    }

    fn index() -> ChunkIndex {
        let (uki, root) = (noise(100_000), noise(300_001));
        let layer =
            |kind, bytes: &[u8]| ChunkedLayer { kind, size: bytes.len() as u64, chunks: cut_all(bytes) };
        ChunkIndex { layers: vec![layer(Kind::Uki, &uki), layer(Kind::Root, &root)] }
    }

    #[test]
    fn what_is_encoded_is_what_is_parsed() {
        assert_eq!(ChunkIndex::parse(&index().encode().unwrap()), Ok(index()));
    }

    #[test]
    fn the_same_files_have_the_same_index_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let (uki, root) = (dir.path().join("uki"), dir.path().join("root"));
        std::fs::write(&uki, noise(100_000)).unwrap();
        std::fs::write(&root, noise(300_001)).unwrap();
        let there = ChunkIndex::of_files([(Kind::Uki, &*uki), (Kind::Root, &root), (Kind::Disk, &root)]);
        let back = ChunkIndex::of_files([(Kind::Root, &*root), (Kind::Uki, &uki)]).unwrap();
        assert_eq!((there.unwrap(), back.clone()), (index(), back));
    }

    #[test]
    fn the_cuts_are_those_of_this_version_for_ever() {
        // Another release of the library must cut the same, or the chunks of old images aren't found any more.
        let lengths: Vec<_> = cut_all(&noise(200_000)).iter().map(|chunk| chunk.length).collect();
        let mut reference = Vec::new();
        let bytes = noise(200_000);
        for chunk in fastcdc::v2020::FastCDC::new(&bytes, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK) {
            reference.push(u32::try_from(chunk.length).unwrap());
        }
        assert_eq!(lengths, reference);
        assert_eq!(lengths, LENGTHS);
    }

    const LENGTHS: [u32; 11] = [9659, 16435, 14388, 31604, 29296, 18220, 21828, 11005, 4520, 26001, 17044];

    #[test]
    fn an_insertion_changes_a_chunk_or_two() {
        let bytes = noise(2_000_000);
        let mut longer = bytes.clone();
        longer.splice(700_000..700_000, *b"inserted");
        let before: std::collections::BTreeSet<_> = cut_all(&bytes).iter().map(|chunk| chunk.name).collect();
        let new = cut_all(&longer).iter().filter(|chunk| !before.contains(&chunk.name)).count();
        assert!((1..=3).contains(&new), "{new}");
    }

    #[test]
    fn what_does_not_add_up_or_is_out_of_bounds_is_refused() {
        let with = |change: &dyn Fn(&mut ChunkIndex)| {
            let mut index = index();
            change(&mut index);
            let (encoded, parsed) = (index.encode(), ChunkIndex::parse(&index.form()));
            let error = encoded.err();
            assert_eq!(error, parsed.err());
            error
        };
        assert_eq!(with(&|_| ()), None, "the twin");
        assert_eq!(with(&|index| index.layers.clear()), Some(ChunksError::ListLayers));
        assert_eq!(with(&|index| index.layers.reverse()), Some(ChunksError::ListLayers));
        assert_eq!(with(&|index| index.layers[1] = index.layers[0].clone()), Some(ChunksError::ListLayers));
        assert_eq!(with(&|index| index.layers[0].size += 1), Some(ChunksError::Add));
        assert_eq!(with(&|index| index.layers[0].chunks.truncate(1)), Some(ChunksError::Add));
        let set = |length: u32| {
            with(&move |index| {
                let layer = &mut index.layers[1];
                layer.size = layer.size - u64::from(layer.chunks[0].length) + u64::from(length);
                layer.chunks[0].length = length;
            })
        };
        assert_eq!([set(4096), set(65_536)], [None, None], "the twin");
        assert_eq!([set(4095), set(65_537)], [Some(ChunksError::Add), Some(ChunksError::Add)]);
        let fill = |count: usize| {
            with(&move |index| {
                let layer = &mut index.layers[1];
                layer.chunks = vec![Chunk { length: 4096, name: [0; 16] }; count];
                layer.size = 4096 * count as u64;
            })
        };
        let rest = MAX_CHUNKS - index().layers[0].chunks.len();
        assert_eq!([fill(rest), fill(rest + 1)], [None, Some(ChunksError::Bound)]);
    }

    #[test]
    fn bytes_that_are_not_the_one_form_are_refused() {
        let bytes = index().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(ChunkIndex::parse(&bytes[..end]).is_err(), "{end}");
        }
        assert_eq!(ChunkIndex::parse(&[&bytes[..], &[0]].concat()), Err(ChunksError::Parse));
        // The version again, as an integer of two bytes.
        let longer = [&[0x81, 0][..], &bytes[1..]].concat();
        assert_eq!(ChunkIndex::parse(&longer), Err(ChunksError::Parse));
        let newer = [&[2][..], &bytes[1..]].concat();
        assert_eq!(ChunkIndex::parse(&newer), Err(ChunksError::MatchVersion(2)));
        // A count of chunks that would take all memory.
        assert_eq!(ChunkIndex::parse(&[1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(ChunksError::Parse));
        assert_eq!(ChunkIndex::parse(&vec![1; MAX_INDEX + 1]), Err(ChunksError::Bound));
    }
}
