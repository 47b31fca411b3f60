//! The operators' door against clients that mean no good, and against the real client.

use super::*;
use crate::ring::Ring;
use crate::verdict::Health;
use astromesh_node::ipc_client::Pid1;
use astromesh_proto::control::LogLine;
use astromeshctl::client::{Client, ClientError, Logs};
use astromeshctl::credentials::{Credentials, GenOptions, generate};
use astromeshctl::profile::Profile;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

/// A node's door on a loopback port.
struct Node {
    shared: Arc<Shared>,
    credentials: Credentials,
    address: SocketAddr,
}

fn credentials() -> Credentials {
    generate(&GenOptions { node: "node-1".to_owned() }).unwrap()
}

fn shared() -> Arc<Shared> {
    let (pid1, _) = UnixDatagram::pair().unwrap();
    let shared = Shared {
        config: None,
        pid1: Pid1::new(pid1.into()),
        ring: Ring::default(),
        health: Health::default(),
    };
    shared.ring.push(line("a line"));
    Arc::new(shared)
}

fn line(text: &str) -> LogLine {
    LogLine { at_us: 0, source: "init".to_owned(), text: text.to_owned() }
}

fn tls(of: &Credentials) -> Arc<ServerConfig> {
    Arc::new(server_config(&of.ca_pem, &of.node_cert_pem, &of.node_key_pem).unwrap())
}

impl Node {
    fn start(is_refused: fn(SocketAddr) -> bool) -> Self {
        let (shared, credentials) = (shared(), credentials());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (of_door, tls) = (Arc::clone(&shared), tls(&credentials));
        std::thread::spawn(move || {
            accept(&of_door, &tls, &listener, is_refused);
        });
        Self { shared, credentials, address }
    }

    fn client(&self) -> Result<Client, ClientError> {
        client(self.address, &self.credentials, &self.credentials)
    }

    /// A followed log, once it is served.
    fn follow(&self) -> Result<Logs, ClientError> {
        let mut logs = self.client()?.logs(1, true)?;
        logs.next().unwrap()?;
        Ok(logs)
    }
}

/// A client of one operator, for the node of another or the same.
fn client(address: SocketAddr, node: &Credentials, operator: &Credentials) -> Result<Client, ClientError> {
    let identity = (operator.client_cert_pem.as_str(), operator.client_key_pem.as_str());
    let mut profile =
        Profile::from_pem("node-1", &address.to_string(), &node.ca_pem, Some(identity)).unwrap();
    profile.timeout = Duration::from_secs(10);
    Client::connect(&profile)
}

#[test]
fn silent_connections_never_keep_an_operator_out() {
    let node = Node::start(|_| false);
    let mut silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(node.address).unwrap()).collect();
    for _ in 0..3 {
        let lines = node.client().unwrap().logs(1, false).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(lines, [line("a line")]);
        silent.push(TcpStream::connect(node.address).unwrap());
    }
    // Whoever stays silent is closed in the end, also when nobody needs the room.
    let begun = Instant::now();
    let last = silent.last_mut().unwrap();
    last.set_read_timeout(Some(ASKS_WITHIN * 3)).unwrap();
    assert!(matches!(last.read(&mut [0]), Ok(0)));
    assert!(begun.elapsed() < ASKS_WITHIN * 2);
}

#[test]
fn a_client_on_this_machine_gets_no_handshake() {
    let node = Node::start(is_of_this_machine);
    let mut client = TcpStream::connect(node.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // Closed, and by that perhaps reset; in no case a timeout.
    let read = client.read(&mut [0]);
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    assert!(node.client().is_err());
    // Twin: `silent_connections_never_keep_an_operator_out` is served at the same address.
}

#[test]
fn one_request_more_than_are_served_is_told_so() {
    let node = Node::start(|_| false);
    let mut followed: Vec<Logs> = (0..MOST_CONNECTIONS).map(|_| node.follow().unwrap()).collect();
    let refused = node.follow().map(drop).unwrap_err();
    assert!(matches!(&refused, ClientError::BeServed(text) if text.contains("followed log")), "{refused}");
    // Twin: one that ends makes room. That it has ended is seen at the next line.
    followed.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.follow().is_err() {
        assert!(Instant::now() < deadline);
        node.shared.ring.push(line("another line"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How a connection of this client ends on the node's side.
fn end_of(node: &Credentials, operator: &Credentials) -> Result<(), ServeError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        // To the end: who hangs up early may reset the connection.
        scope.spawn(|| client(address, node, operator)?.logs(1, false)?.collect::<Result<Vec<_>, _>>());
        let (stream, _) = listener.accept().unwrap();
        let waiting = Arc::new(Door::default()).admit(&stream).unwrap();
        serve(&shared(), tls(node), stream, waiting, &AtomicUsize::new(0))
    })
}

#[test]
fn a_client_of_another_authority_is_refused_with_a_reason_for_the_log() {
    let (node, other) = (credentials(), credentials());
    let refused = end_of(&node, &other).unwrap_err();
    assert!(matches!(refused, ServeError::Greet(_)), "{refused}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // Twin: the node's own operator.
    end_of(&node, &node).unwrap();
}

#[test]
fn a_certificate_out_of_its_time_is_told_with_the_clock_that_judged_it() {
    use rustls::CertificateError::{Expired, NotValidYet, UnknownIssuer};
    let text = |cause| ServeError::Greet(rustls::Error::InvalidCertificate(cause)).to_string();
    assert!(text(NotValidYet).contains("clock of this node") && text(Expired).contains("clock of this node"));
    assert!(!text(UnknownIssuer).contains("clock of this node"));
}
