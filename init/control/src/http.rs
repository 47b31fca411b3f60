//! A GET to the runtime on this machine, and its JSON.
//!
//! The runtime is inside the cage, so what it answers is a stranger's: bounded in bytes and in time, parsed strictly.

use astromesh_http::{ExchangeError, exchange};
use astromesh_proto::http::{Reply, ReplyError};
use serde_json::Value;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Largest body of an answer, in bytes.
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
    /// The answer is too long, or no HTTP.
    #[error("the runtime's answer to {path} can't be used: {cause}")]
    ReadReply {
        /// What was asked for.
        path: &'static str,
        /// Why.
        cause: ReplyError,
    },
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
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    let reply = exchange(address, request.as_bytes(), MOST_BYTES, Instant::now() + longest);
    parse(
        &reply.map_err(|error| match error {
            ExchangeError::Connect(address, cause) => HttpError::Connect(address, cause),
            ExchangeError::Exchange(_, cause) => HttpError::Exchange { path, cause },
            ExchangeError::Read(cause) => HttpError::ReadReply { path, cause },
        })?,
        path,
    )
}

fn parse(reply: &Reply, path: &'static str) -> Result<Value, HttpError> {
    match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(|_| HttpError::ParseBody(path)),
        status => Err(HttpError::Status { path, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_status_200_with_json_counts() {
        let reply = |status, body: &[u8]| Reply { status, fields: Vec::new(), body: body.to_vec() };
        assert!(parse(&reply(200, b"{\"a\":1}"), "/").is_ok());
        assert!(matches!(parse(&reply(500, b"{}"), "/"), Err(HttpError::Status { status: 500, .. })));
        assert!(matches!(parse(&reply(302, b"{}"), "/"), Err(HttpError::Status { status: 302, .. })));
        assert!(matches!(parse(&reply(200, b"{\"a\":"), "/"), Err(HttpError::ParseBody(_))));
        assert!(matches!(parse(&reply(200, b""), "/"), Err(HttpError::ParseBody(_))));
    }
}
