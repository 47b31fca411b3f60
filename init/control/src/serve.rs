//! The operator API's connections: TLS 1.3 with certificates on both sides, then one request.
//!
//! Who has no certificate of the operator's authority is refused in the handshake, before a byte of the protocol, and waits
//! for that apart from those who have one ([`crate::door`]). At most [`MOST_CONNECTIONS`] requests are served at a time, and
//! one more is told so.

#[cfg(test)]
mod tests;

use crate::door::{ASKS_WITHIN, Door, Place, Waiting, is_of_this_machine};
use crate::error::{CertificatesError, ListenError, ServeError};
use crate::shared::{STACK, Shared};
use crate::{bind, doctor, status, update};
use astromesh_node::framed::Framed;
use astromesh_proto::control::{ALPN, MAX_REQUEST, MAX_RESPONSE, Request, Response};
use astromesh_proto::frame::{self, FrameError};
use astromesh_proto::ipc::{self, ToInit};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Most requests that are served at one time.
pub const MOST_CONNECTIONS: usize = 8;
/// How long one read or write may take.
const STALLS_WITHIN: Duration = Duration::from_secs(10);
/// How long an operator has to take the answer to an order that ends this process.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(2);
/// Most log lines in one frame.
pub const LINES_AT_ONCE: usize = 100;

/// Listens and serves, for as long as the service lives.
pub fn listen(shared: &Arc<Shared>) -> Result<Infallible, ListenError> {
    let config = shared.config.as_ref().ok_or(ListenError::FindOperator)?;
    let tls = Arc::new(server_config(&config.ca, &config.certificate, &config.key)?);
    let listener = bind::listen(&config.listen, |error| {
        log::error!("{error}");
        let waiting = ToInit::Waiting { reason: ipc::cut(&error.to_string()) };
        if let Err(error) = shared.pid1.tell(&waiting) {
            log::warn!("{error}");
        }
    });
    log::info!("serving the control API on {}", config.listen);
    if let Err(error) = shared.pid1.tell(&ToInit::Ready) {
        log::warn!("{error}");
    }
    accept(shared, &tls, &listener, is_of_this_machine)
}

/// Takes connections, but for those of clients of which `is_refused` holds.
fn accept(
    shared: &Arc<Shared>,
    tls: &Arc<ServerConfig>,
    listener: &TcpListener,
    is_refused: fn(SocketAddr) -> bool,
) -> ! {
    let (door, served) = (Arc::new(Door::default()), Arc::new(AtomicUsize::new(0)));
    loop {
        let Ok((stream, client)) = listener.accept() else {
            // Out of descriptors: wait for some connection to end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if is_refused(client) {
            door.refused(client, "it is on this machine, and operators never are");
            continue;
        }
        // Those that were closed for others end as soon as they run; the next client waits for that in the kernel's queue.
        while !door.has_room() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(waiting) = door.admit(&stream) else { continue };
        let (shared, tls, served, door) =
            (Arc::clone(shared), Arc::clone(tls), Arc::clone(&served), Arc::clone(&door));
        // Without a thread the connection is closed, and its claims are given back.
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            // Other errors are the client's to see.
            if let Err(error @ ServeError::Greet(_)) = serve(&shared, tls, stream, waiting, &served) {
                door.refused(client, &error.to_string());
            }
        });
    }
}

fn server_config(ca: &str, certificate: &str, key: &str) -> Result<ServerConfig, CertificatesError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(root?)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // One request a connection: nothing to resume, nothing to remember.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn serve(
    shared: &Shared,
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    waiting: Waiting,
    served: &AtomicUsize,
) -> Result<(), ServeError> {
    stream.set_write_timeout(Some(STALLS_WITHIN)).map_err(ServeError::LimitWaits)?;
    stream.set_nodelay(true).map_err(ServeError::LimitWaits)?;
    let deadline = Deadline { stream, until: std::time::Instant::now() + ASKS_WITHIN };
    let mut stream = StreamOwned::new(ServerConnection::new(tls)?, deadline);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(ServeError::of_handshake)?;
    }
    let mut buffer = [0; MAX_REQUEST];
    let Some(request) = frame::read::<_, Request>(&mut Framed(&mut stream), &mut buffer)? else {
        return Ok(());
    };
    if stream.conn.alpn_protocol() != Some(ALPN) {
        return Ok(());
    }
    // From here on it is this side that speaks, to an operator.
    stream.sock.until += Duration::from_secs(365 * 24 * 3600);
    let Some(_place) = Place::take(served, MOST_CONNECTIONS) else {
        let text = format!("{MOST_CONNECTIONS} requests are being served; end one (a followed log?)");
        send(&mut stream, &Response::Refused(text))?;
        return hang_up(&mut stream);
    };
    drop(waiting);
    match request {
        Request::Logs { lines, follow } => logs(shared, &mut stream, lines, follow)?,
        Request::Update(request) => {
            update::relay(&request, &mut |answer| send(&mut stream, &Response::Update(answer)))?;
        }
        // PID 1 ends this process before it does anything else, so the answer has to be with the operator by then.
        order @ (Request::Reboot | Request::Poweroff) => {
            let order = if order == Request::Reboot { ToInit::Reboot } else { ToInit::Poweroff };
            answer_and_then(shared, &mut stream, &order);
            return Ok(());
        }
        request => {
            let response = respond(shared, &request);
            send(&mut stream, &response)?;
        }
    }
    hang_up(&mut stream)
}

fn hang_up(stream: &mut StreamOwned<ServerConnection, Deadline>) -> Result<(), ServeError> {
    stream.conn.send_close_notify();
    stream.flush().map_err(ServeError::SendAnswer)
}

/// Answers, waits until the operator has hung up (but not for long), and has it done; also when he is gone already: he
/// asked for it.
fn answer_and_then(shared: &Shared, stream: &mut StreamOwned<ServerConnection, Deadline>, message: &ToInit) {
    if send(stream, &Response::Accepted).is_ok() {
        stream.conn.send_close_notify();
        let _ = stream.flush();
        stream.sock.until = std::time::Instant::now() + HANGS_UP_WITHIN;
        while stream.sock.read(&mut [0; 256]).is_ok_and(|read| read > 0) {}
    }
    if let Err(error) = shared.pid1.tell(message) {
        log::error!("{error}; the node goes on");
    }
}

fn respond(shared: &Shared, request: &Request) -> Response {
    let tell = |message| match shared.pid1.tell(&message) {
        Ok(()) => Response::Accepted,
        Err(error) => Response::Refused(error.to_string()),
    };
    match request {
        Request::Status => status::status(shared).map_or_else(
            |error| Response::Refused(error.to_string()),
            |status| Response::Status(Box::new(status)),
        ),
        Request::Boot => {
            status::boot(shared).map_or_else(|error| Response::Refused(error.to_string()), Response::Boot)
        }
        Request::Doctor => Response::Doctor(doctor::examine(shared)),
        Request::RestartAgent => tell(ToInit::RestartAgent),
        Request::Reboot | Request::Poweroff | Request::Logs { .. } | Request::Update(_) => Response::End,
    }
}

fn logs(shared: &Shared, stream: &mut impl Write, lines: u32, follow: bool) -> Result<(), ServeError> {
    let mut from = shared.ring.start_of_newest(lines);
    loop {
        let (read, next) = shared.ring.read(from, LINES_AT_ONCE);
        from = next;
        if !read.is_empty() {
            send(stream, &Response::Logs(read))?;
        } else if follow {
            shared.ring.wait(from, Duration::from_secs(5));
            // An empty frame now and then: a client that is gone is noticed.
            send(stream, &Response::Logs(Vec::new()))?;
        } else {
            send(stream, &Response::End)?;
            return Ok(());
        }
    }
}

fn send(stream: &mut impl Write, response: &Response) -> Result<(), ServeError> {
    let bytes = match frame::encode_vec(response, MAX_RESPONSE) {
        // Its texts are cut so that this never is; should it be, the operator is told.
        Err(FrameError::TooLong { length, .. }) => {
            let text = format!("the answer has {length} bytes, and at most {MAX_RESPONSE} may be sent");
            frame::encode_vec(&Response::Refused(text), MAX_RESPONSE)?
        }
        encoded => encoded?,
    };
    stream.write_all(&bytes).map_err(ServeError::SendAnswer)?;
    stream.flush().map_err(ServeError::SendAnswer)?;
    Ok(())
}

/// A socket that gives up at a moment, however slowly bytes drip in.
struct Deadline {
    stream: TcpStream,
    until: std::time::Instant,
}

impl Read for Deadline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left.min(STALLS_WITHIN)))?;
        self.stream.read(buffer)
    }
}

impl Write for Deadline {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
