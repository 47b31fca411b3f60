//! The reply of an HTTP/1.1 server, read piece by piece as it arrives.
//!
//! The node asks two servers that it doesn't trust: the agent runtime, and a cloud's metadata server. Both are read
//! here, by one reader without a socket: what it holds is bounded before it is held, a body over the bound is refused
//! and not cut, and a body whose end nobody can tell for sure (two lengths, an unknown coding) is refused. Interim
//! replies, such as `100 Continue`, are passed over. It follows no redirect: a status is a number in the reply, and
//! whose business it is.
//!
//! Sources: RFC 9112, sections 6 and 7; RFC 9110, section 15.2.

/// Largest head, in bytes, of all interim replies together, and of a trailer section: a metadata server's has a few
/// hundred.
pub const MAX_HEAD: usize = 16 * 1024;

/// Most header fields.
const MAX_FIELDS: usize = 64;

/// Longest line that announces a chunk, in bytes: sixteen digits, and room for an extension that nobody uses.
const MAX_CHUNK_LINE: usize = 256;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The header fields as they came: name, value.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of the first field with this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }
}

/// Why a reply can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not HTTP/1.x.
    #[error("the answer is not HTTP")]
    ParseHead,
    /// The head, or what follows the last chunk, is too long.
    #[error("the head of the answer is over {MAX_HEAD} bytes")]
    BoundHead,
    /// The body's length can't be told.
    #[error("the length of the answer can't be told from its head")]
    FindLength,
    /// The body is too long.
    #[error("the answer is over {most} bytes")]
    BoundBody {
        /// The bound.
        most: usize,
    },
    /// A chunk is not one.
    #[error("the answer's chunks are broken")]
    ParseChunk,
    /// The connection ended too early.
    #[error("the connection ended before the answer did")]
    AwaitEnd,
}

/// Where in a reply the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    /// A body with this many bytes left.
    Sized(usize),
    /// A body that ends with the connection.
    UntilEnd,
    /// The line that announces a chunk.
    ChunkLine,
    /// A chunk with this many bytes left.
    Chunk(usize),
    /// The line's end behind a chunk.
    ChunkEnd,
    /// What follows the last chunk; so many bytes of it were dropped.
    Trailer(usize),
    Whole,
}

/// Reads one reply.
#[derive(Debug)]
pub struct ReplyReader {
    most: usize,
    part: Part,
    /// What arrived and is not understood yet: never more than a head and one piece.
    pending: Vec<u8>,
    /// How many bytes the interim replies had so far.
    interim: usize,
    reply: Reply,
}

impl ReplyReader {
    /// A reader for a reply whose body has at most `most` bytes.
    pub fn new(most: usize) -> Self {
        let reply = Reply { status: 0, fields: Vec::new(), body: Vec::new() };
        Self { most, part: Part::Head, pending: Vec::new(), interim: 0, reply }
    }

    /// Takes the next bytes. `true` once the reply is whole; what comes behind it is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, ReplyError> {
        self.pending.extend_from_slice(bytes);
        while self.step()? {}
        Ok(self.part == Part::Whole)
    }

    /// The reply, once it is whole or its connection has ended.
    pub fn finish(self) -> Result<Reply, ReplyError> {
        match self.part {
            Part::Whole | Part::UntilEnd => Ok(self.reply),
            _ => Err(ReplyError::AwaitEnd),
        }
    }

    /// Goes on by one part. `false` when that takes more bytes.
    fn step(&mut self) -> Result<bool, ReplyError> {
        match self.part {
            Part::Head => return self.head(),
            Part::Sized(left) => {
                let left = left - self.take(left)?;
                self.part = if left == 0 { Part::Whole } else { Part::Sized(left) };
                return Ok(left == 0);
            }
            Part::UntilEnd => {
                self.take(usize::MAX)?;
                return Ok(false);
            }
            Part::ChunkLine => match httparse::parse_chunk_size(&self.pending) {
                Ok(httparse::Status::Complete((length, size))) if length <= MAX_CHUNK_LINE => {
                    self.pending.drain(..length);
                    let size = usize::try_from(size).map_err(|_| self.too_long())?;
                    self.part = if size == 0 { Part::Trailer(0) } else { Part::Chunk(size) };
                }
                Ok(httparse::Status::Partial) if self.pending.len() <= MAX_CHUNK_LINE => return Ok(false),
                _ => return Err(ReplyError::ParseChunk),
            },
            Part::Chunk(left) => {
                // Before the first of its bytes: a chunk that is announced too long is not waited for.
                if left > self.most - self.reply.body.len() {
                    return Err(self.too_long());
                }
                let left = left - self.take(left)?;
                self.part = if left == 0 { Part::ChunkEnd } else { Part::Chunk(left) };
                return Ok(left == 0);
            }
            Part::ChunkEnd => match self.pending.get(..2) {
                Some(b"\r\n") => {
                    self.pending.drain(..2);
                    self.part = Part::ChunkLine;
                }
                Some(_) => return Err(ReplyError::ParseChunk),
                None => return Ok(false),
            },
            Part::Trailer(dropped) => return self.trailer(dropped),
            Part::Whole => {
                self.pending.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves at most `longest` bytes into the body.
    fn take(&mut self, longest: usize) -> Result<usize, ReplyError> {
        let count = self.pending.len().min(longest);
        if count > self.most - self.reply.body.len() {
            return Err(self.too_long());
        }
        self.reply.body.extend(self.pending.drain(..count));
        Ok(count)
    }

    fn too_long(&self) -> ReplyError {
        ReplyError::BoundBody { most: self.most }
    }

    fn head(&mut self) -> Result<bool, ReplyError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&self.pending) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if self.pending.len() <= MAX_HEAD => return Ok(false),
            Ok(_) => return Err(ReplyError::BoundHead),
            Err(_) => return Err(ReplyError::ParseHead),
        };
        self.reply.status = response.code.ok_or(ReplyError::ParseHead)?;
        // RFC 9110 15.2: any number of these may come before the reply, also to who didn't ask for one. 101 is none of
        // them: what would follow is another protocol.
        if matches!(self.reply.status, 100 | 102..=199) {
            self.interim += length;
            self.pending.drain(..length);
            return if self.interim > MAX_HEAD { Err(ReplyError::BoundHead) } else { Ok(true) };
        }
        self.reply.fields =
            response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        self.pending.drain(..length);
        self.part = match self.reply.status {
            // RFC 9112 6.3: these have no body, whatever their fields say.
            101 | 204 | 304 => Part::Whole,
            _ => body(&self.reply.fields)?,
        };
        match self.part {
            Part::Sized(length) if length > self.most => Err(self.too_long()),
            _ => Ok(true),
        }
    }

    fn trailer(&mut self, dropped: usize) -> Result<bool, ReplyError> {
        if let Some(end) = self.pending.windows(2).position(|window| window == b"\r\n") {
            self.pending.drain(..end + 2);
            let dropped = dropped + end + 2;
            self.part = if end == 0 { Part::Whole } else { Part::Trailer(dropped) };
            return if dropped > MAX_HEAD { Err(ReplyError::BoundHead) } else { Ok(true) };
        }
        if dropped + self.pending.len() > MAX_HEAD { Err(ReplyError::BoundHead) } else { Ok(false) }
    }
}

/// How the body ends, by the header fields (RFC 9112 6.3).
fn body(fields: &[(String, Vec<u8>)]) -> Result<Part, ReplyError> {
    let values = |name: &'static str| {
        fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let mut lengths = values("content-length");
    let mut codings = values("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Part::UntilEnd),
        (Some(length), None) if lengths.next().is_none() => {
            // Digits and nothing else: `parse` alone would take a sign.
            let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok()).ok_or(ReplyError::FindLength)?;
            Ok(Part::Sized(length))
        }
        (None, Some(coding)) if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Part::ChunkLine)
        }
        _ => Err(ReplyError::FindLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` and then the connection's end.
    fn read(bytes: &[u8], most: usize) -> Result<Reply, ReplyError> {
        let mut reader = ReplyReader::new(most);
        reader.push(bytes)?;
        reader.finish()
    }

    const WHOLE: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
    ];

    #[test]
    fn a_body_ends_by_its_length_by_its_last_chunk_or_with_the_connection() {
        for bytes in WHOLE {
            let reply = read(bytes, 5).unwrap();
            assert_eq!((reply.status, reply.body.as_slice()), (200, &b"hello"[..]));
        }
        assert_eq!(read(WHOLE[0], 5).unwrap().field("x-a"), Some(&b"b"[..]));
    }

    #[test]
    fn the_pieces_it_arrives_in_make_no_difference() {
        for bytes in WHOLE {
            for size in 1..bytes.len() {
                let mut reader = ReplyReader::new(5);
                for piece in bytes.chunks(size) {
                    reader.push(piece).unwrap();
                }
                assert_eq!(reader.finish(), read(bytes, 5), "{size}");
            }
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error_unless_the_connection_is_what_ends_it() {
        for bytes in &WHOLE[..2] {
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length], 5), Err(ReplyError::AwaitEnd), "{length}");
            }
        }
    }

    #[test]
    fn a_body_over_the_bound_is_refused_and_not_cut() {
        for bytes in WHOLE {
            assert_eq!(read(bytes, 4), Err(ReplyError::BoundBody { most: 4 }));
        }
        // Announced too long is refused before it comes.
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert_eq!(read(head.as_bytes(), 98), Err(ReplyError::BoundBody { most: 98 }));
        }
    }

    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: +5",
            "Content-Length: 5, 5",
            "Content-Length: 99999999999999999999999",
            "Content-Length:",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nhello");
            assert_eq!(read(bytes.as_bytes(), 5), Err(ReplyError::FindLength), "{fields}");
        }
    }

    #[test]
    fn what_is_no_http_or_no_chunk_is_refused() {
        assert_eq!(read(b"\x16\x03\x01\x02\x00", 5), Err(ReplyError::ParseHead));
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n", 5), Err(ReplyError::ParseHead));
        for chunks in ["x\r\n", "1\r\nab\r\n", "-1\r\n", "11111111111111111\r\n"] {
            let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(read(bytes.as_bytes(), 5), Err(ReplyError::ParseChunk), "{chunks}");
        }
    }

    #[test]
    fn a_head_a_chunk_line_and_a_trailer_without_end_are_refused() {
        let long = "a".repeat(MAX_HEAD);
        assert_eq!(read(format!("HTTP/1.1 200 OK\r\nX: {long}").as_bytes(), 5), Err(ReplyError::BoundHead));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(format!("{chunked}1;{long}").as_bytes(), 5), Err(ReplyError::ParseChunk));
        assert_eq!(read(format!("{chunked}0\r\nX: {long}").as_bytes(), 5), Err(ReplyError::BoundHead));
    }

    #[test]
    fn a_status_without_a_body_has_none() {
        assert_eq!(read(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", 5).unwrap().body, b"");
    }

    #[test]
    fn interim_replies_are_passed_over_and_bounded() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        for whole in WHOLE {
            let bytes = [early.as_bytes(), whole].concat();
            assert_eq!(read(&bytes, 5), read(whole, 5));
            for size in 1..bytes.len() {
                let mut reader = ReplyReader::new(5);
                for piece in bytes.chunks(size) {
                    reader.push(piece).unwrap();
                }
                assert_eq!(reader.finish(), read(whole, 5), "{size}");
            }
        }
        // Alone they are no reply, and they don't go on for ever.
        assert_eq!(read(early.as_bytes(), 5), Err(ReplyError::AwaitEnd));
        assert_eq!(read(early.repeat(MAX_HEAD / early.len() + 1).as_bytes(), 5), Err(ReplyError::BoundHead));
        // Another protocol is the last that is heard.
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(read(switched.as_bytes(), 50).map(|reply| reply.status), Ok(101));
    }

    #[test]
    fn mutated_replies_never_panic_and_read_the_same_in_any_pieces() {
        let mut seed = 0x9e37_79b9_u32;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        let mut read_at_all = 0;
        for round in 0..30_000 {
            let mut bytes = WHOLE[round % 3].to_vec();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"0123456789abcdef\r\n;: "[random(21)]),
                }
            }
            let whole = read(&bytes, 64);
            let mut reader = ReplyReader::new(64);
            let size = 1 + random(bytes.len());
            let failed = bytes.chunks(size).any(|piece| reader.push(piece).is_err());
            let pieces = if failed { None } else { reader.finish().ok() };
            assert_eq!(pieces, whole.as_ref().ok().cloned(), "{:?}", String::from_utf8_lossy(&bytes));
            read_at_all += usize::from(whole.is_ok());
        }
        assert!((5_000..25_000).contains(&read_at_all), "both outcomes are tried: {read_at_all}");
    }
}
