//! The client of the control protocol: one connection, one request.
//!
//! The node proves with its certificate that it is the node that was meant, and this side proves who asks. In TLS 1.3
//! a client is done with the handshake before the server has verified its certificate, so a refusal arrives in
//! place of the first answer: as an alert, or, when the node hung up with the request unread, as a reset that
//! overtook the alert. Both are [`ClientError::BeAccepted`].

use crate::exit;
use crate::profile::Profile;
use crate::socket::{Framed, Socket};
use crate::terminal::clean;
use astromesh_proto::control::{ALPN, DEFAULT_PORT, LogLine, MAX_REQUEST, MAX_RESPONSE, Request, Response};
use astromesh_proto::deadlines::CLIENT_WAITS_FOR_CONTROL;
use astromesh_proto::frame::{self, FrameError};
use astromesh_proto::update::{Step, UpdateAnswer, UpdateRequest};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a node could not be asked, or didn't answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// the profile can't be used for TLS
    #[error("the connection profile can't be used: {0}; make new credentials with `astromeshctl gen config`")]
    UseProfile(String),
    /// no connection
    #[error("can't reach the node at {endpoint}: {source}; is it running, and is the endpoint right?")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// no answer in time
    #[error("the node at {endpoint} did not answer in time; try again with a longer --timeout")]
    Wait {
        /// Where.
        endpoint: String,
    },
    /// the connection broke
    #[error("the connection to the node broke: {0}; try again")]
    Keep(io::Error),
    /// the node's certificate is not the one expected
    #[error(
        "what answers at {endpoint} is not the node {node}: {reason}; check endpoint, node and ca of the profile"
    )]
    TrustNode {
        /// Where.
        endpoint: String,
        /// Who was expected.
        node: String,
        /// Why it is not.
        reason: String,
    },
    /// the node doesn't accept our certificate
    #[error(
        "the node refuses this client: {0}; use the certificate whose CA is in the node's machine-config (operator.ca)"
    )]
    BeAccepted(String),
    /// another protocol
    #[error("the node does not speak this protocol: {0}; use the astromeshctl of the node's release")]
    Understand(String),
    /// the node won't
    #[error("the node refuses the request: {0}")]
    BeServed(String),
}

impl ClientError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::UseProfile(_) => exit::USAGE,
            ClientError::Connect { .. } | ClientError::Wait { .. } | ClientError::Keep(_) => {
                exit::UNREACHABLE
            }
            ClientError::TrustNode { .. } | ClientError::BeAccepted(_) => exit::REFUSED,
            ClientError::Understand(_) => exit::PROTOCOL,
            ClientError::BeServed(_) => exit::UNHEALTHY,
        }
    }
}

/// A connection to a node, good for one request.
pub struct Client {
    stream: Framed<StreamOwned<ClientConnection, Socket>>,
    endpoint: String,
    node: String,
    timeout: Duration,
    buffer: Vec<u8>,
    answered: bool,
}

impl Client {
    /// Connects, and checks that it is the node that was meant.
    pub fn connect(profile: &Profile) -> Result<Self, ClientError> {
        let config = config(profile)?;
        let name = ServerName::try_from(profile.node.clone())
            .map_err(|_| ClientError::UseProfile("`node` is not a DNS name".to_owned()))?;
        let connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| ClientError::UseProfile(error.to_string()))?;
        let socket = Socket::connect(&profile.endpoint, DEFAULT_PORT, profile.timeout).map_err(|source| {
            if source.kind() == io::ErrorKind::TimedOut {
                ClientError::Wait { endpoint: profile.endpoint.clone() }
            } else {
                ClientError::Connect { endpoint: profile.endpoint.clone(), source }
            }
        })?;
        let mut client = Client {
            stream: Framed(StreamOwned::new(connection, socket)),
            endpoint: profile.endpoint.clone(),
            node: profile.node.clone(),
            timeout: profile.timeout,
            buffer: vec![0; MAX_RESPONSE],
            answered: false,
        };
        let tls = &mut client.stream.0;
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                return Err(client.broken(error));
            }
        }
        if client.stream.0.conn.alpn_protocol() != Some(ALPN) {
            return Err(ClientError::Understand("it agreed on no application protocol".to_owned()));
        }
        Ok(client)
    }

    /// Asks, and waits for the one answer. [`Response::Refused`] is an error.
    pub fn request(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        self.receive()
    }

    /// Asks for the newest `lines` of the log and, with `follow`, for what comes after them.
    pub fn logs(mut self, lines: u32, follow: bool) -> Result<Logs, ClientError> {
        self.send(&Request::Logs { lines, follow })?;
        Ok(Logs { client: self, follow, lines: VecDeque::new(), ended: false })
    }

    /// Asks about updates: `progress` is told how far it is, until the last answer.
    pub fn update(
        mut self,
        request: UpdateRequest,
        progress: &mut dyn FnMut(Step, u64, u64),
    ) -> Result<UpdateAnswer, ClientError> {
        self.send(&Request::Update(request))?;
        loop {
            // Anew for each answer: nothing is said only while the idle slot is written and read back.
            self.stream.0.sock.within(self.timeout.max(CLIENT_WAITS_FOR_CONTROL));
            match self.receive()? {
                Response::Update(UpdateAnswer::Progress { step, done, total }) => progress(step, done, total),
                Response::Update(answer) => return Ok(answer),
                _ => return Err(ClientError::Understand("it answered something else than updates".into())),
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.stream.0.sock.within(self.timeout);
        let mut scratch = [0; MAX_REQUEST + 4];
        frame::write(&mut self.stream, request, &mut scratch).map_err(|error| self.failed(error))
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        let answer = frame::read(&mut self.stream, &mut self.buffer);
        match answer {
            Ok(Some(response)) => {
                self.answered = true;
                match response {
                    Response::Refused(reason) => Err(ClientError::BeServed(clean(&reason))),
                    response => Ok(response),
                }
            }
            Ok(None) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: FrameError<io::Error>) -> ClientError {
        match error {
            FrameError::Read(error) | FrameError::Write(error) => self.broken(error),
            FrameError::Truncated => self.broken(io::ErrorKind::UnexpectedEof.into()),
            other => ClientError::Understand(other.to_string()),
        }
    }

    /// What a failure of the connection means.
    fn broken(&self, error: io::Error) -> ClientError {
        if let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            return self.explained(cause);
        }
        match error.kind() {
            io::ErrorKind::TimedOut => ClientError::Wait { endpoint: self.endpoint.clone() },
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                if !self.answered && !self.stream.0.conn.is_handshaking() =>
            {
                ClientError::BeAccepted("it hung up before it answered".to_owned())
            }
            _ => ClientError::Keep(error),
        }
    }

    fn explained(&self, error: &rustls::Error) -> ClientError {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidCertificate(reason) => ClientError::TrustNode {
                endpoint: self.endpoint.clone(),
                node: self.node.clone(),
                reason: clean(&reason.to_string()),
            },
            Tls::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => {
                    ClientError::BeAccepted("it asks for a client certificate".to_owned())
                }
                AlertDescription::UnknownCA => {
                    ClientError::BeAccepted("our certificate is signed by a CA it doesn't know".to_owned())
                }
                AlertDescription::CertificateExpired => {
                    ClientError::BeAccepted("our certificate is not valid now (check both clocks)".to_owned())
                }
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError => {
                    ClientError::BeAccepted(format!("it does not accept our certificate ({alert:?})"))
                }
                _ => ClientError::Understand(format!("TLS alert {alert:?}")),
            },
            other => ClientError::Understand(clean(&other.to_string())),
        }
    }
}

/// Log lines as they come, oldest first.
pub struct Logs {
    client: Client,
    follow: bool,
    lines: VecDeque<LogLine>,
    ended: bool,
}

impl Iterator for Logs {
    type Item = Result<LogLine, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.lines.is_empty() && !self.ended {
            let client = &mut self.client;
            if self.follow && client.answered {
                if let Err(error) = client.stream.0.sock.wait_while_alive() {
                    self.ended = true;
                    return Some(Err(ClientError::Keep(error)));
                }
            } else {
                client.stream.0.sock.within(client.timeout);
            }
            match client.receive() {
                Ok(Response::Logs(lines)) => self.lines.extend(lines),
                Ok(Response::End) => self.ended = true,
                Ok(_) => {
                    self.ended = true;
                    return Some(Err(ClientError::Understand("it answered something else than logs".into())));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        self.lines.pop_front().map(Ok)
    }
}

fn config(profile: &Profile) -> Result<ClientConfig, ClientError> {
    let unusable = |error: rustls::Error| ClientError::UseProfile(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in &profile.ca {
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match &profile.identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.certificate.clone(), identity.key.clone_key())
            .map_err(unusable)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
