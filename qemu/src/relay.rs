//! The one connection between a guest and a socket of the host.
//!
//! It exists because QEMU's guestfwd hands each of the guest's connections to a process of its own: the relay
//! joins that process's standard input and output to one TCP connection. It writes nothing else, above all not
//! to standard error, which QEMU also connects to the guest. It refuses to stay: it ends when the target has
//! closed, when the guest is gone, or when a half-closed connection has been silent for [`LINGER`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Why a relay did not run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The target refused.
    #[error("cannot connect the guest to {target}: {source}. Check that the target listens")]
    ConnectTarget {
        /// HOST:PORT.
        target: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A copy broke.
    #[error("cannot copy between the guest and {target}: {source}. The connection is lost; try it again")]
    Copy {
        /// HOST:PORT.
        target: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program isn't built.
    #[error(
        "cannot find astromesh-relay near {near}. Build it: cargo build -p astromesh-qemu --bin astromesh-relay"
    )]
    FindRelay {
        /// Where it was looked for.
        near: PathBuf,
    },
}

/// After the guest has finished sending, a target that says nothing for this long is given up. It is longer
/// than any answer of the tests' provider and ends what QEMU's death leaves behind.
pub const LINGER: Duration = Duration::from_mins(1);

/// How often a silent connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Copies in both directions until the target closes. `from_guest` ending is passed on as a half-close.
///
/// The thread that reads `from_guest` is left behind when the target closes first: the caller is expected to
/// end the process.
pub fn relay(
    target: &str,
    mut from_guest: impl Read + Send + 'static,
    mut to_guest: impl Write,
) -> Result<(), RelayError> {
    let connected = connect(target);
    let mut incoming =
        connected.map_err(|source| RelayError::ConnectTarget { target: target.into(), source })?;
    let copy = |source| RelayError::Copy { target: target.into(), source };
    let mut outgoing = incoming.try_clone().map_err(copy)?;
    incoming.set_read_timeout(Some(LOOK)).map_err(copy)?;
    let guest_done = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&guest_done);
    std::thread::spawn(move || {
        let copied = io::copy(&mut from_guest, &mut outgoing);
        let _ = outgoing.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both });
        done.store(true, Ordering::Release);
    });
    let mut buffer = vec![0; 64 << 10];
    let mut silent = Duration::ZERO;
    loop {
        let length = match incoming.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                // A target may think for as long as it likes while the guest is there to listen.
                silent = if guest_done.load(Ordering::Acquire) { silent + LOOK } else { Duration::ZERO };
                if silent >= LINGER {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(copy(error)),
        };
        silent = Duration::ZERO;
        to_guest.write_all(&buffer[..length]).and_then(|()| to_guest.flush()).map_err(copy)?;
    }
}

fn connect(target: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Finds the relay program beside the running one, or one directory above (tests run from `deps/`).
pub fn relay_path() -> Result<PathBuf, RelayError> {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.ancestors().skip(1).take(2).map(|dir| dir.join("astromesh-relay"));
    beside.into_iter().find(|path| path.is_file()).ok_or(RelayError::FindRelay { near: program })
}
