//! HTTP/1.1 as the provider reads and writes it.
//!
//! httparse reads the head; the body is counted by `Content-Length`. It refuses chunked requests (411): the
//! runtime's client never sends them, and what isn't parsed can't be parsed wrongly.

use std::io::{self, Read, Write};

/// The largest request body: many times a long conversation.
pub const BODY_LIMIT: usize = 4 << 20;
/// The largest head: a few times what a client with many headers sends.
const HEAD_LIMIT: usize = 16 << 10;
const HEADERS: usize = 64;

pub(super) struct Incoming {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) bearer: Option<String>,
    pub(super) keep_alive: bool,
    pub(super) body: Vec<u8>,
}

pub(super) struct Outgoing {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) pieces: Vec<String>,
    /// Sent piece by piece in chunks, each flushed, as a stream of events is.
    pub(super) chunked: bool,
}

pub(super) enum ReadError {
    /// The connection broke.
    Io(io::Error),
    /// The request is refused with this status.
    Status(u16),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One connection, with what was read beyond the last request.
pub(super) struct Exchange<S> {
    stream: S,
    ahead: Vec<u8>,
}

impl<S: Read + Write> Exchange<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// The next request; `None` when the client has closed between two.
    pub(super) fn read(&mut self) -> Result<Option<Incoming>, ReadError> {
        let (start, length, mut request) = loop {
            if let Some(head) = parse_head(&self.ahead)? {
                break head;
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(ReadError::Status(431));
            }
            if self.fill()? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(ReadError::Status(400)) };
            }
        };
        let end = start + length;
        while self.ahead.len() < end {
            if self.fill()? == 0 {
                return Err(ReadError::Status(400));
            }
        }
        request.body = self.ahead[start..end].to_vec();
        self.ahead.drain(..end);
        Ok(Some(request))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 8192];
        let length = match self.stream.read(&mut buffer) {
            Ok(length) => length,
            // A TLS client that drops the connection without a close_notify has ended all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        self.ahead.extend_from_slice(&buffer[..length]);
        Ok(length)
    }

    pub(super) fn write(&mut self, answer: &Outgoing, keep_alive: bool) -> io::Result<()> {
        let length = if answer.chunked {
            "transfer-encoding: chunked".into()
        } else {
            format!("content-length: {}", answer.pieces.iter().map(String::len).sum::<usize>())
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        write!(
            self.stream,
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\n{length}\r\nconnection: {connection}\r\n\r\n",
            answer.status,
            reason(answer.status),
            answer.content_type,
        )?;
        for piece in &answer.pieces {
            if answer.chunked {
                write!(self.stream, "{:x}\r\n{piece}\r\n", piece.len())?;
                self.stream.flush()?;
            } else {
                self.stream.write_all(piece.as_bytes())?;
            }
        }
        if answer.chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        self.stream.flush()
    }
}

/// Where the body begins, its length, and the request without it.
type Head = (usize, usize, Incoming);

/// `None` if the head isn't complete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ReadError::Status(400)),
    };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    if value("transfer-encoding").is_some() {
        return Err(ReadError::Status(411));
    }
    let length = match value("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= BODY_LIMIT => length,
        Some(Ok(_)) => return Err(ReadError::Status(413)),
        Some(Err(_)) => return Err(ReadError::Status(400)),
    };
    let close = value("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let request = Incoming {
        method: head.method.unwrap_or_default().into(),
        path: head.path.unwrap_or_default().into(),
        bearer: value("authorization").and_then(|v| v.strip_prefix("Bearer ")).map(String::from),
        keep_alive: !close && head.version == Some(1),
        body: Vec::new(),
    };
    Ok(Some((start, length, request)))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Error",
    }
}
