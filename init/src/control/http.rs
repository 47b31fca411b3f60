//! A GET to the runtime on this machine, and its JSON.
//!
//! The runtime is inside the cage, so what it answers is a stranger's: bounded in bytes and in time, parsed strictly.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Largest answer, head and body, in bytes.
const MOST_BYTES: usize = 512 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens.
    #[error("the runtime does not listen on {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The connection broke or stalled.
    #[error("the runtime did not answer {path}: {cause}")]
    Exchange {
        /// What was asked for.
        path: &'static str,
        /// Why.
        cause: std::io::Error,
    },
    /// The answer is too long.
    #[error("the runtime's answer to {0} is over {MOST_BYTES} bytes")]
    TooLong(&'static str),
    /// The answer is no HTTP.
    #[error("the runtime's answer to {0} is not HTTP")]
    ParseHead(&'static str),
    /// The status is not 200.
    #[error("the runtime answers {path} with status {status}")]
    Status {
        /// What was asked for.
        path: &'static str,
        /// The status.
        status: u16,
    },
    /// The body is no JSON.
    #[error("the runtime's answer to {0} is not JSON")]
    ParseBody(&'static str),
}

/// Connects, and no more.
pub fn connect(address: SocketAddr, longest: Duration) -> Result<TcpStream, HttpError> {
    TcpStream::connect_timeout(&address, longest).map_err(|cause| HttpError::Connect(address, cause))
}

/// Asks for `path` and returns the JSON of an answer with status 200.
pub fn get(address: SocketAddr, path: &'static str, longest: Duration) -> Result<Value, HttpError> {
    let deadline = Instant::now() + longest;
    let mut stream = connect(address, longest)?;
    let exchange = |cause| HttpError::Exchange { path, cause };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.set_write_timeout(Some(longest)).map_err(exchange)?;
    stream.write_all(request.as_bytes()).map_err(exchange)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(exchange)?;
        match stream.read(&mut buffer).map_err(exchange)? {
            0 => break,
            _ if Instant::now() > deadline => return Err(exchange(std::io::ErrorKind::TimedOut.into())),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
        if bytes.len() > MOST_BYTES {
            return Err(HttpError::TooLong(path));
        }
    }
    parse(&bytes, path)
}

/// The JSON of a whole answer. `Connection: close` was asked for, so the body ends with the connection; a chunked one,
/// which uvicorn sends only for streams, is refused like any other thing that is no JSON.
fn parse(bytes: &[u8], path: &'static str) -> Result<Value, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => match response.code {
            Some(200) => serde_json::from_slice(&bytes[head..]).map_err(|_| HttpError::ParseBody(path)),
            status => Err(HttpError::Status { path, status: status.unwrap_or(0) }),
        },
        _ => Err(HttpError::ParseHead(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_answer_of_status_200_with_json_counts() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}", "/").is_ok());
        assert!(matches!(
            parse(b"HTTP/1.1 500 no\r\n\r\n{}", "/"),
            Err(HttpError::Status { status: 500, .. })
        ));
        assert!(matches!(parse(b"HTTP/1.1 200 OK\r\n", "/"), Err(HttpError::ParseHead(_))));
        assert!(matches!(parse(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":", "/"), Err(HttpError::ParseBody(_))));
        assert!(matches!(parse(b"\x16\x03\x01", "/"), Err(HttpError::ParseHead(_))));
        assert!(matches!(parse(b"", "/"), Err(HttpError::ParseHead(_))));
    }
}
