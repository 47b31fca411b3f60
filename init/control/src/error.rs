//! Why the operator API can't be served, and why one connection of it ended.

use astromesh_node::clock::time_of_day;
use astromesh_proto::date::utc;
use astromesh_proto::frame::FrameError;
use rustls::pki_types::pem;
use rustls::server::VerifierBuilderError;
use std::convert::Infallible;
use std::io;

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No operator is known.
    #[error(
        "no operator is known: the control API is closed; give the node a machine-config with an `operator` section"
    )]
    FindOperator,
    /// The certificates or the key can't be used.
    #[error(
        "the certificates or the key in the `operator` section can't be used: {0}; make them anew with `astromeshctl gen config`"
    )]
    UseCertificates(#[from] CertificatesError),
    /// The address can't be listened on.
    #[error(
        "the control API can't listen on {address} yet: {cause}; this is tried until it can, and if the node never gets \
         that address, correct `operator.listen` of the machine-config"
    )]
    Listen {
        /// Which.
        address: String,
        /// Why.
        cause: io::Error,
    },
}

/// What is wrong with certificates or key.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A PEM block is none.
    #[error(transparent)]
    ReadPem(#[from] pem::Error),
    /// TLS can't be spoken with them.
    #[error(transparent)]
    SpeakTls(#[from] rustls::Error),
    /// No client can be checked against the authority.
    #[error(transparent)]
    CheckClients(#[from] VerifierBuilderError),
}

/// Why a connection ended before its answer was sent.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The limits of its socket.
    #[error("the limits of a connection can't be set: {0}")]
    LimitWaits(io::Error),
    /// TLS can't begin.
    #[error(transparent)]
    SpeakTls(#[from] rustls::Error),
    /// The client is none of the operators, or speaks another language.
    #[error("{}", refusal(.0))]
    Greet(rustls::Error),
    /// The client was silent, or went away.
    #[error("the handshake came to no end: {0}")]
    AwaitClient(io::Error),
    /// Its request can't be read.
    #[error(transparent)]
    ReadRequest(#[from] FrameError<io::Error>),
    /// The `update` service can't be asked.
    #[error("the update service can't be asked: {0}")]
    AskUpdate(io::Error),
    /// A message is too long.
    #[error(transparent)]
    EncodeMessage(#[from] FrameError<Infallible>),
    /// The answer can't be sent.
    #[error("the answer can't be sent: {0}")]
    SendAnswer(io::Error),
}

impl ServeError {
    /// What an error of a handshake means: what TLS says of the client, or that there is none.
    pub fn of_handshake(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) => Self::Greet(cause.clone()),
            None => Self::AwaitClient(error),
        }
    }
}

/// Why a client is refused, for the log. A certificate is judged by this node's clock, so a wrong clock must be seen there.
fn refusal(error: &rustls::Error) -> String {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. }
            | Certificate::Expired
            | Certificate::ExpiredContext { .. },
        ) => format!("{error}; by the clock of this node it is {} UTC: is that right?", utc(time_of_day())),
        other => other.to_string(),
    }
}
