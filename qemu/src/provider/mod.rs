//! A model provider outside the machine, for the tests to ask through it.
//!
//! It exists so that an answered query proves the whole round trip: the answer to `nonce:<hex>` is an HMAC
//! under a key that only this process knows, so neither the guest nor a cache can have made it. It speaks the
//! `OpenAI` protocol over TLS with a certificate authority of its own that dies with it, and records what it
//! was asked, so that a test asserts on what *arrived*.
//!
//! It listens on 127.0.0.1 alone. It refuses a wrong key (401), bodies above [`BODY_LIMIT`] (413) and more
//! than [`CONNECTIONS`] connections at a time.

mod answers;
mod error;
mod message;
mod tls;

pub use error::ProviderError;
pub use message::BODY_LIMIT;
pub use tls::Certificates;

use crate::provider::message::{Exchange, ReadError};
use ring::hmac;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections served at one time; the runtime keeps a handful.
pub const CONNECTIONS: usize = 64;
/// A kept-alive connection that is silent for this long is closed; longer than any pause inside a test.
const IDLE: Duration = Duration::from_mins(5);
/// Requests remembered; the oldest go first.
const REMEMBERED: usize = 1024;

/// One request, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`...
    pub method: String,
    /// With its query.
    pub path: String,
    /// Whether it bore the right key.
    pub authorized: bool,
    /// Its body.
    pub body: Vec<u8>,
    /// The status that was answered.
    pub status: u16,
}

struct Shared {
    key: String,
    secret: hmac::Key,
    tls: Arc<rustls::ServerConfig>,
    requests: Mutex<VecDeque<Request>>,
    /// The sockets of the connections being served, to be cut by `stop`.
    open: Mutex<Vec<(u64, TcpStream)>>,
    stopping: AtomicBool,
}

/// A provider, stopped and forgotten when dropped.
pub struct Provider {
    shared: Arc<Shared>,
    port: u16,
    ca_pem: String,
    acceptor: Option<JoinHandle<()>>,
}

impl Provider {
    /// Starts a provider that expects the API key `key`. Its certificate is valid for `names`: DNS names, and
    /// addresses such as `10.0.2.100`.
    pub fn start(key: &str, names: &[&str]) -> Result<Self, ProviderError> {
        let tls = tls::make(names)?;
        let no_random =
            |_| ProviderError::MakeCertificates { reason: "the system gave no random numbers".into() };
        let secret =
            hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).map_err(no_random)?;
        let shared = Arc::new(Shared {
            key: key.into(),
            secret,
            tls: tls.config,
            requests: Mutex::default(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut provider = Self { shared, port: 0, ca_pem: tls.ca_pem, acceptor: None };
        provider.listen()?;
        Ok(provider)
    }

    /// Listens again, on the same port, after [`Provider::stop`].
    pub fn restart(&mut self) -> Result<(), ProviderError> {
        self.stop();
        self.listen()
    }

    /// Stops listening and cuts every connection: the provider is down.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic there would have failed the test already through its missing answer.
            let _ = acceptor.join();
        }
        for (_, stream) in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The port on 127.0.0.1; the same through stop and restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The certificate authority that the guest must trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The HMAC, in hexadecimal, that an answer to a question with `nonce:<nonce>` contains.
    pub fn expected_answer(&self, nonce: &str) -> String {
        answers::seal(&self.shared.secret, nonce)
    }

    /// What was asked so far, oldest first (the last 1024).
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).iter().cloned().collect()
    }

    /// Forgets what was asked.
    pub fn clear_requests(&self) {
        lock(&self.shared.requests).clear();
    }

    fn listen(&mut self) -> Result<(), ProviderError> {
        let port = self.port;
        let failed = |source| ProviderError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        // The acceptor looks for the stop every few milliseconds; a blocked accept could not.
        listener.set_nonblocking(true).map_err(failed)?;
        self.port = listener.local_addr().map_err(failed)?.port();
        self.shared.stopping.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let accept = move || accept(&listener, &shared);
        self.acceptor =
            Some(std::thread::Builder::new().name("provider".into()).spawn(accept).map_err(failed)?);
        Ok(())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        number += 1;
        let Ok(copy) = stream.try_clone() else { continue };
        let mut open = lock(&shared.open);
        if open.len() >= CONNECTIONS {
            continue;
        }
        open.push((number, copy));
        drop(open);
        let connection = Arc::clone(shared);
        std::thread::spawn(move || {
            if let Err(error) = serve(&stream, &connection) {
                log::debug!("provider connection {number}: {error}");
            }
            lock(&connection.open).retain(|(other, _)| *other != number);
        });
    }
}

/// Serves requests on one connection until either side has had enough.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut tls = rustls::ServerConnection::new(Arc::clone(&shared.tls)).map_err(io::Error::other)?;
    let mut socket = stream;
    let mut exchange = Exchange::new(rustls::Stream::new(&mut tls, &mut socket));
    loop {
        let request = match exchange.read() {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Status(status)) => {
                exchange.write(&answers::refusal(status), false)?;
                break;
            }
        };
        let authorized = request.bearer.as_deref() == Some(&shared.key);
        let answer = answers::answer(&request, authorized, &shared.secret);
        let mut requests = lock(&shared.requests);
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(Request {
            method: request.method,
            path: request.path,
            authorized,
            body: request.body,
            status: answer.status,
        });
        drop(requests);
        exchange.write(&answer, request.keep_alive)?;
        if !request.keep_alive {
            break;
        }
    }
    exchange.into_inner().conn.send_close_notify();
    tls.write_tls(&mut socket).map(drop)
}
