//! A TCP connection on which nothing can wait for ever.
//!
//! A timeout for each read isn't enough: a peer that sends one byte every few seconds would hold the command as long
//! as it likes. So every read and write gets what is left of one deadline. Only `logs -f` waits without one; there
//! TCP keepalive finds out that the node is gone.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Keepalive of a connection that follows logs: a dead node is noticed after 15 + 4 * 5 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;

/// A connection with a deadline.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    deadline: Option<Instant>,
}

impl Socket {
    /// Connects to the first address of `endpoint` (`HOST:PORT`, or `HOST` at `port`) that answers within `timeout`.
    pub(crate) fn connect(endpoint: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + timeout;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses(endpoint, port)? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket { stream, deadline: Some(deadline) });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Starts a new deadline, `timeout` from now.
    pub(crate) fn within(&mut self, timeout: Duration) {
        self.deadline = Some(Instant::now() + timeout);
    }

    /// Waits without a deadline from now on, while the peer's kernel answers.
    pub(crate) fn wait_while_alive(&mut self) -> io::Result<()> {
        use rustix::net::sockopt;
        sockopt::set_socket_keepalive(&self.stream, true)?;
        sockopt::set_tcp_keepidle(&self.stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&self.stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&self.stream, KEEPALIVE_PROBES)?;
        self.deadline = None;
        Ok(())
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        self.deadline.map(left).transpose()
    }
}

fn addresses(endpoint: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = endpoint.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match (bare, endpoint.contains(':')) {
        (Some(address), _) => Ok((address, port).to_socket_addrs()?.collect()),
        (None, true) => Ok(endpoint.to_socket_addrs()?.collect()),
        (None, false) => Ok((endpoint, port).to_socket_addrs()?.collect()),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Linux says EAGAIN when a socket's timeout is over (socket(7), `SO_RCVTIMEO`).
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A `std` stream as [`astromesh_proto::frame`] wants it.
pub(crate) struct Framed<T>(pub(crate) T);

impl<T> embedded_io::ErrorType for Framed<T> {
    type Error = io::Error;
}

impl<T: Read> embedded_io::Read for Framed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl<T: Write> embedded_io::Write for Framed<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.0.write(buffer) {
            Ok(0) if !buffer.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
