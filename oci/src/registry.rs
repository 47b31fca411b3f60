//! One repository of a registry, and everything that is said to it.
//!
//! Blobs, uploads and tokens go through oci-client. Manifests don't: it keeps whatever a registry sends for one in
//! memory, and its own error path expects every manifest to have a tag. Here a manifest is read up to its bound and no
//! further.
//!
//! The network is asynchronous underneath and nowhere else: [`block_on`] is the only place where a runtime is made.

use crate::options::Credentials;
use crate::{Digest, Options, Reference};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as ClientError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one exchange about a small thing (a manifest, the start of an answer) may take in all, however slowly bytes
/// drip.
const EXCHANGE: Duration = Duration::from_secs(60);
/// An upload slower than this is given up on: 32 KiB/s.
const SLOWEST_UPLOAD: u64 = 32 * 1024;
/// How much of a file is in memory while it is sent.
const CHUNK: usize = 256 * 1024;
/// How much of what a registry says about a failure is shown.
const MAX_CAUSE: usize = 300;

/// A registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// This side is not ready.
    #[error(
        "no connection can be made from here: {0}; check the system's certificates (package ca-certificates)"
    )]
    Prepare(String),
    /// No connection, or none that lasts.
    #[error("can't reach the registry {registry}: {cause}; is it running, and is its address right?")]
    Reach {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
    /// Not let in.
    #[error(
        "the registry {registry} refuses access: {cause}; set ASTROMESH_REGISTRY_USER and ASTROMESH_REGISTRY_PASSWORD \
         to an account that may do this"
    )]
    Authenticate {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
    /// A failure on its side.
    #[error("the registry {registry} did not do what was asked ({cause}): try again, or read its log")]
    Answer {
        /// The registry.
        registry: String,
        /// What it said.
        cause: String,
    },
    /// More than can be right.
    #[error(
        "the registry {registry} answers with more than {limit} bytes where fewer were expected: it can't be used"
    )]
    Bound {
        /// The registry.
        registry: String,
        /// How many were expected at most.
        limit: usize,
    },
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// Why the bytes of a blob stopped coming.
pub(crate) enum Stop {
    /// It may go on from where it stopped.
    Broken(String),
    /// It won't.
    Final(RegistryError),
}

/// The bytes of a blob.
pub(crate) struct BlobBytes {
    /// Where the first of them stands in the blob: what was asked for, or 0 when the registry doesn't know ranges.
    pub(crate) offset: u64,
    pub(crate) stream: BoxStream<'static, Result<Bytes, io::Error>>,
}

/// One repository.
pub(crate) struct Registry {
    reference: Reference,
    client: Client,
    http: reqwest::Client,
    credentials: Option<Credentials>,
    operation: RegistryOperation,
}

/// Runs asynchronous work to its end on this thread.
pub(crate) fn block_on<T, E: From<RegistryError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| RegistryError::Prepare(error.to_string()))?.block_on(work)
}

impl Registry {
    /// Prepares connections; makes none yet.
    pub(crate) async fn open(
        reference: &Reference,
        options: &Options,
        access: Access,
    ) -> Result<Self, RegistryError> {
        // reqwest is built without a choice of its own (that would be aws-lc-rs). A process that has chosen keeps its choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let loopback = reference.is_loopback();
        // An upload says nothing back until it is over; `upload` has a limit of its own.
        let idle = (access == Access::Pull).then_some(options.idle);
        let config = ClientConfig {
            protocol: if loopback { ClientProtocol::Http } else { ClientProtocol::Https },
            // One request for each blob: what every registry knows, chunks are not.
            use_monolithic_push: true,
            read_timeout: idle,
            connect_timeout: Some(CONNECT),
            user_agent: concat!("astromesh-os/", env!("CARGO_PKG_VERSION")),
            // A proxy from the environment is for the way out. That none may be used for loopback can only be said here
            // by naming one and excepting loopback from it.
            http_proxy: loopback.then(|| "http://127.0.0.1:9".to_owned()),
            no_proxy: loopback.then(|| "127.0.0.0/8,localhost".to_owned()),
            ..ClientConfig::default()
        };
        let prepare = |error: &dyn Error| RegistryError::Prepare(chain(error));
        let client = Client::try_from(config).map_err(|error| prepare(&error))?;
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(EXCHANGE);
        http = http.user_agent(concat!("astromesh-os/", env!("CARGO_PKG_VERSION")));
        http = if loopback { http.no_proxy() } else { http.https_only(true) };
        let http = http.build().map_err(|error| prepare(&error))?;
        let credentials = options.credentials.clone();
        let operation = match access {
            Access::Pull => RegistryOperation::Pull,
            Access::Push => RegistryOperation::Push,
        };
        let registry = Self { reference: reference.clone(), client, http, credentials, operation };
        let name = reference.inner().resolve_registry();
        registry.client.store_auth_if_needed(name, &registry.authentication()).await;
        Ok(registry)
    }

    /// The bytes of the manifest with this tag or digest; `None` where there is none.
    pub(crate) async fn manifest(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, RegistryError> {
        let accept = crate::manifest::MEDIA_TYPE;
        let answer = self.exchange(Method::GET, name, |request| request.header("Accept", accept)).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(self.bounded(answer, limit).await?)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failure(answer).await),
        }
    }

    /// Stores a manifest under a tag or its digest.
    pub(crate) async fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let kind = crate::manifest::MEDIA_TYPE;
        let bytes = Bytes::from(bytes);
        let answer = self
            .exchange(Method::PUT, name, |request| request.header("Content-Type", kind).body(bytes.clone()))
            .await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.failure(answer).await) }
    }

    /// A small blob as a whole, of exactly this size and digest; `None` when what comes is something else.
    pub(crate) async fn small_blob(
        &self,
        digest: Digest,
        size: u64,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let receive = async {
            let mut blob = match self.blob(digest, 0).await {
                Ok(blob) => blob,
                Err(Stop::Broken(cause)) => return Err(self.reach(cause)),
                Err(Stop::Final(error)) => return Err(error),
            };
            let mut bytes = Vec::new();
            while (bytes.len() as u64) < size {
                let Some(chunk) = blob.stream.next().await else { break };
                bytes.extend_from_slice(&chunk.map_err(|error| self.reach(chain(&error)))?);
            }
            Ok((bytes.len() as u64 == size && Digest::of(&bytes) == digest).then_some(bytes))
        };
        self.within(EXCHANGE, receive).await
    }

    /// The bytes of a blob from `offset` on. They are not compared with anything yet.
    pub(crate) async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobBytes, Stop> {
        let digest = digest.to_string();
        let asked =
            self.client.pull_blob_stream_partial(self.reference.inner(), digest.as_str(), offset, None);
        let Ok(answer) = tokio::time::timeout(EXCHANGE, asked).await else {
            return Err(Stop::Broken("no answer in time".to_owned()));
        };
        match answer {
            Ok(BlobResponse::Partial(part)) => Ok(BlobBytes { offset, stream: part.stream }),
            Ok(BlobResponse::Full(whole)) => Ok(BlobBytes { offset: 0, stream: whole.stream }),
            Err(error) if is_final(&error) => Err(Stop::Final(self.translate(&error))),
            Err(error) => Err(Stop::Broken(short(&chain(&error)))),
        }
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let digest = digest.to_string();
        let asked = self.client.blob_exists(self.reference.inner(), &digest);
        self.within(EXCHANGE, async { asked.await.map_err(|error| self.translate(&error)) }).await
    }

    /// Stores bytes as a blob.
    pub(crate) async fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(digest).await? {
            let bytes = Bytes::copy_from_slice(bytes);
            let length = bytes.len() as u64;
            self.upload(stream::iter([Ok(bytes)]), digest, length).await?;
        }
        Ok(digest)
    }

    /// Stores a file as a blob. The registry compares it with the digest, so a file that changed meanwhile is refused.
    pub(crate) async fn put_file(
        &self,
        file: File,
        digest: Digest,
        length: u64,
    ) -> Result<(), RegistryError> {
        let mut file = Some(file);
        let chunks = std::iter::from_fn(move || {
            let mut buffer = Vec::with_capacity(CHUNK);
            match file.as_mut()?.take(CHUNK as u64).read_to_end(&mut buffer) {
                Ok(0) => None,
                Ok(_) => Some(Ok(Bytes::from(buffer))),
                Err(error) => {
                    file = None;
                    Some(Err(error.into()))
                }
            }
        });
        self.upload(stream::iter(chunks), digest, length).await
    }

    async fn upload(
        &self,
        bytes: impl futures_util::Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
        digest: Digest,
        length: u64,
    ) -> Result<(), RegistryError> {
        let digest = digest.to_string();
        let sent = self.client.push_blob_stream(self.reference.inner(), bytes, &digest, Some(length));
        let limit = EXCHANGE + Duration::from_secs(length / SLOWEST_UPLOAD);
        self.within(limit, async { sent.await.map(drop).map_err(|error| self.translate(&error)) }).await
    }

    async fn exchange(
        &self,
        method: Method,
        name: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let reference = self.reference.inner();
        let scheme = if self.reference.is_loopback() { "http" } else { "https" };
        let (host, repository) = (reference.resolve_registry(), reference.repository());
        let url = format!("{scheme}://{host}/v2/{repository}/manifests/{name}");
        let authentication = self.authentication();
        let token = self.client.auth(reference, &authentication, self.operation);
        let token =
            self.within(EXCHANGE, async { token.await.map_err(|error| self.translate(&error)) }).await?;
        let mut request = complete(self.http.request(method.clone(), &url));
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.reach(chain(&error)))?;
        match &self.credentials {
            // Without a token, a registry that wants to know who asks wants name and password.
            Some(Credentials { user, password })
                if token.is_none() && answer.status() == StatusCode::UNAUTHORIZED =>
            {
                let again = complete(self.http.request(method, &url)).basic_auth(user, Some(password));
                again.send().await.map_err(|error| self.reach(chain(&error)))
            }
            _ => Ok(answer),
        }
    }

    async fn bounded(&self, mut answer: Response, limit: usize) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.reach(chain(&error)))? {
            if bytes.len() + chunk.len() > limit {
                return Err(RegistryError::Bound { registry: self.name(), limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// What an answer that isn't success means.
    async fn failure(&self, answer: Response) -> RegistryError {
        let status = answer.status();
        let said = self.bounded(answer, 4096).await.unwrap_or_default();
        let cause = short(&format!("{status} {}", String::from_utf8_lossy(&said).trim()));
        let registry = self.name();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Authenticate { registry, cause }
            }
            _ => RegistryError::Answer { registry, cause },
        }
    }

    fn authentication(&self) -> RegistryAuth {
        match &self.credentials {
            Some(Credentials { user, password }) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let late = |_| self.reach(format!("not done within {} s", limit.as_secs()));
        tokio::time::timeout(limit, work).await.map_err(late)?
    }

    fn name(&self) -> String {
        self.reference.registry().to_owned()
    }

    fn reach(&self, cause: impl AsRef<str>) -> RegistryError {
        RegistryError::Reach { registry: self.name(), cause: short(cause.as_ref()) }
    }

    fn translate(&self, error: &ClientError) -> RegistryError {
        let (registry, cause) = (self.name(), short(&chain(error)));
        match error {
            ClientError::RequestError(request) if request.status().is_none() => {
                RegistryError::Reach { registry, cause }
            }
            _ if is_access(error) => RegistryError::Authenticate { registry, cause },
            _ => RegistryError::Answer { registry, cause },
        }
    }
}

fn is_access(error: &ClientError) -> bool {
    match error {
        ClientError::UnauthorizedError { .. } | ClientError::AuthenticationFailure(_) => true,
        ClientError::RequestError(error) => {
            matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
        }
        ClientError::ServerError { code, .. } => matches!(code, 401 | 403),
        ClientError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|error| matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied)),
        _ => false,
    }
}

/// Whether asking again can't help: the blob is not there, or not for us.
fn is_final(error: &ClientError) -> bool {
    let unknown = match error {
        ClientError::ServerError { code, .. } => matches!(code, 404 | 410),
        ClientError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::BlobUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        }),
        _ => false,
    };
    unknown || is_access(error)
}

/// An error with its causes: reqwest's own text is only the outermost.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn short(text: &str) -> String {
    text.chars().take(MAX_CAUSE).collect()
}
