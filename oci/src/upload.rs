//! Everything that is stored in one repository of a registry: blobs and manifests.
//!
//! Uploads and their tokens go through oci-client; manifests are stored by our own few lines over the HTTP client that it
//! brings, because its own error path expects every manifest to have a tag. Nothing is read here: that is
//! [`crate::RegistrySource`]'s.
//!
//! The network is asynchronous underneath and nowhere else: [`block_on`] is the only place where a runtime is made.

use crate::options::Credentials;
use crate::source::{chain, short};
use crate::{Digest, Options, Reference, RegistryError};
use bytes::Bytes;
use futures_util::stream;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as ClientError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use reqwest::{Response, StatusCode};
use std::error::Error;
use std::fs::File;
use std::io::Read as _;
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
/// How much of what a registry says about a failure is read.
const MAX_COMPLAINT: usize = 4096;

/// One repository, to store in.
pub(crate) struct Upload {
    reference: oci_client::Reference,
    registry: String,
    scheme: &'static str,
    client: Client,
    http: reqwest::Client,
    credentials: Option<Credentials>,
}

/// Runs asynchronous work to its end on this thread.
pub(crate) fn block_on<T, E: From<RegistryError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| RegistryError::Prepare(error.to_string()))?.block_on(work)
}

impl Upload {
    /// Prepares connections; makes none yet.
    pub(crate) async fn open(reference: &Reference, options: &Options) -> Result<Self, RegistryError> {
        // reqwest is built without a choice of its own (that would be aws-lc-rs). A process that has chosen keeps its choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let loopback = reference.is_loopback();
        let config = ClientConfig {
            protocol: if loopback { ClientProtocol::Http } else { ClientProtocol::Https },
            // One request for each blob: what every registry knows, chunks are not.
            use_monolithic_push: true,
            // An upload says nothing back until it is over; `upload` has a limit of its own.
            read_timeout: None,
            connect_timeout: Some(CONNECT),
            user_agent: concat!("astromesh-os/", env!("CARGO_PKG_VERSION")),
            // A proxy from the environment is for the way out. That none may be used for loopback can only be said here
            // by naming one and excepting loopback from it.
            http_proxy: loopback.then(|| "http://127.0.0.1:9".to_owned()),
            no_proxy: loopback.then(|| "127.0.0.0/8,localhost,::1".to_owned()),
            ..ClientConfig::default()
        };
        let prepare = |error: &dyn Error| RegistryError::Prepare(chain(error));
        let client = Client::try_from(config).map_err(|error| prepare(&error))?;
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(EXCHANGE);
        http = http.user_agent(concat!("astromesh-os/", env!("CARGO_PKG_VERSION")));
        http = if loopback { http.no_proxy() } else { http.https_only(true) };
        let http = http.build().map_err(|error| prepare(&error))?;
        let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
        let inner = oci_client::Reference::with_tag(registry.clone(), repository, reference.name());
        let credentials = options.credentials.clone();
        let scheme = if loopback { "http" } else { "https" };
        let upload = Self { reference: inner, registry, scheme, client, http, credentials };
        let name = upload.reference.resolve_registry();
        upload.client.store_auth_if_needed(name, &upload.authentication()).await;
        Ok(upload)
    }

    /// Stores a manifest under a tag or its digest.
    pub(crate) async fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let bytes = Bytes::from(bytes);
        let (host, repository) = (self.reference.resolve_registry(), self.reference.repository());
        let url = format!("{}://{host}/v2/{repository}/manifests/{name}", self.scheme);
        let authentication = self.authentication();
        let token = self.client.auth(&self.reference, &authentication, RegistryOperation::Push);
        let token =
            self.within(EXCHANGE, async { token.await.map_err(|error| self.translate(&error)) }).await?;
        let request = || {
            let request = self.http.put(&url).header("Content-Type", crate::manifest::MEDIA_TYPE);
            request.body(bytes.clone())
        };
        let first = token.as_ref().map_or_else(request, |token| request().bearer_auth(token));
        let mut answer = first.send().await.map_err(|error| self.reach(chain(&error)))?;
        // Without a token, a registry that wants to know who asks wants name and password.
        if let Some(Credentials { user, password }) = &self.credentials
            && token.is_none()
            && answer.status() == StatusCode::UNAUTHORIZED
        {
            let again = request().basic_auth(user, Some(password));
            answer = again.send().await.map_err(|error| self.reach(chain(&error)))?;
        }
        if answer.status().is_success() { Ok(()) } else { Err(self.failure(answer).await) }
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let digest = digest.to_string();
        let asked = self.client.blob_exists(&self.reference, &digest);
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
        let sent = self.client.push_blob_stream(&self.reference, bytes, &digest, Some(length));
        let limit = EXCHANGE + Duration::from_secs(length / SLOWEST_UPLOAD);
        self.within(limit, async { sent.await.map(drop).map_err(|error| self.translate(&error)) }).await
    }

    /// What an answer that isn't success means.
    async fn failure(&self, mut answer: Response) -> RegistryError {
        let (status, mut said) = (answer.status(), Vec::new());
        while said.len() < MAX_COMPLAINT
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            said.extend_from_slice(&chunk);
        }
        let cause = short(&format!("{status} {}", String::from_utf8_lossy(&said).trim()));
        let registry = self.registry.clone();
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

    fn reach(&self, cause: impl AsRef<str>) -> RegistryError {
        RegistryError::Reach { registry: self.registry.clone(), cause: short(cause.as_ref()) }
    }

    fn translate(&self, error: &ClientError) -> RegistryError {
        let (registry, cause) = (self.registry.clone(), chain(error));
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
