//! One question to one HTTP server, over a connection of its own.
//!
//! For servers that aren't trusted: the agent runtime in its cage, a cloud's metadata server. The answer is read by
//! [`astromesh_proto::http`], bounded in bytes; here it is bounded in time, as a whole and not for each read, so that a
//! server that trickles is given up like one that says nothing. It follows no redirect, knows no proxy and no name:
//! who is asked is an address.

use astromesh_proto::http::{Reply, ReplyError, ReplyReader};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody listens.
    #[error("{0} does not take a connection: {1}")]
    Connect(SocketAddr, io::Error),
    /// The connection broke or stalled.
    #[error("{0} did not answer: {1}")]
    Exchange(SocketAddr, io::Error),
    /// The answer can't be read.
    #[error(transparent)]
    Read(#[from] ReplyError),
}

/// Sends `request` to `address` and reads its answer, whose body has at most `most` bytes, until `deadline`.
pub fn exchange(
    address: SocketAddr,
    request: &[u8],
    most: usize,
    deadline: Instant,
) -> Result<Reply, ExchangeError> {
    let broken = |cause| ExchangeError::Exchange(address, cause);
    // No timeout may be zero; a deadline that has passed is a moment.
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())
        .map_err(|cause| ExchangeError::Connect(address, cause))?;
    stream.set_write_timeout(Some(left())).map_err(broken)?;
    stream.write_all(request).map_err(broken)?;
    let mut reader = ReplyReader::new(most);
    let mut buffer = [0; 8192];
    loop {
        stream.set_read_timeout(Some(left())).map_err(broken)?;
        let count = match stream.read(&mut buffer) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            result => result.map_err(broken)?,
        };
        if Instant::now() > deadline {
            return Err(broken(io::ErrorKind::TimedOut.into()));
        }
        if count == 0 || reader.push(&buffer[..count])? {
            return Ok(reader.finish()?);
        }
    }
}

#[cfg(any(test, feature = "stand-in"))]
pub mod stand_in {
    //! A server for unit tests, ours and those of who asks: one thread on loopback, each connection answered by bytes.

    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};

    /// Serves for as long as the process lives; each connection is a call of `answer` with the request's head and the
    /// connection, closed afterwards. The requests that came can be received.
    ///
    /// # Panics
    ///
    /// Without a loopback address to listen on.
    pub fn serve(
        mut answer: impl FnMut(&str, &mut TcpStream) + Send + 'static,
    ) -> (SocketAddr, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a socket that listens has an address");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).expect("our own requests are ASCII");
                answer(&head, &mut stream);
                if sender.send(head).is_err() {
                    return;
                }
            }
        });
        (address, receiver)
    }

    /// Writes and doesn't mind a client that has gone.
    pub fn say(stream: &mut TcpStream, bytes: &[u8]) {
        let _ = stream.write_all(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    fn soon(after: u64) -> Instant {
        Instant::now() + Duration::from_millis(after)
    }

    #[test]
    fn a_server_that_says_nothing_or_trickles_is_given_up_at_the_deadline() {
        let (silent, _requests) = stand_in::serve(|_, _| std::thread::sleep(Duration::from_secs(3)));
        let (trickling, _more) = stand_in::serve(|_, stream| {
            for byte in GOOD {
                stand_in::say(stream, &[*byte]);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for address in [silent, trickling] {
            let began = Instant::now();
            let result = exchange(address, b"GET / HTTP/1.1\r\n\r\n", 10, soon(400));
            assert!(matches!(result, Err(ExchangeError::Exchange(..))), "{result:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        // The twin: with the time it takes, the same server's answer is read.
        let (trickling, _more) = stand_in::serve(|_, stream| {
            for byte in GOOD {
                stand_in::say(stream, &[*byte]);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        assert_eq!(exchange(trickling, b"GET / HTTP/1.1\r\n\r\n", 10, soon(20_000)).unwrap().body, b"ok");
    }

    #[test]
    fn an_answer_that_never_ends_is_refused_at_the_bound() {
        let (endless, _requests) = stand_in::serve(|_, stream| {
            use std::io::Write as _;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'a'; 4096]).is_ok() {}
        });
        let result = exchange(endless, b"GET / HTTP/1.1\r\n\r\n", 100_000, soon(20_000));
        assert!(
            matches!(result, Err(ExchangeError::Read(ReplyError::BoundBody { most: 100_000 }))),
            "{result:?}"
        );
    }

    #[test]
    fn nobody_and_somebody_who_hangs_up_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let result = exchange(nobody, b"GET / HTTP/1.1\r\n\r\n", 10, soon(5000));
        assert!(matches!(result, Err(ExchangeError::Connect(..))), "{result:?}");
        let (rude, _requests) = stand_in::serve(|_, _| {});
        let result = exchange(rude, b"GET / HTTP/1.1\r\n\r\n", 10, soon(5000));
        assert!(matches!(result, Err(ExchangeError::Read(ReplyError::AwaitEnd))), "{result:?}");
    }
}
