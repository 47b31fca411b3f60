//! One repository of a registry (OCI distribution specification), read only.
//!
//! HTTPS, and plain HTTP with this machine. Who asks is told only when the registry wants to know, and only to it and to
//! the realm that it names for tokens.

use super::error::{RegistryError, SourceError, chain, short};
use super::http::{self, Failure, Plain, Question};
use super::pace::Paced;
use super::referrer::{self, INDEX_MEDIA_TYPE, MAX_INDEX, Referrer};
use super::repository::{Blob, Source};
use super::token::{self, Challenge};
use crate::{Digest, Patience, Reference, SourceOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Read};
use ureq::http::header::{CONTENT_ENCODING, CONTENT_RANGE, WWW_AUTHENTICATE};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// How much of an answer that isn't success is read.
const MAX_COMPLAINT: u64 = 4096;
/// The most challenges that are answered, each with a question to another server.
const MAX_CHALLENGES: usize = 4;
/// Blobs have no type that is asked for.
const ANY: &str = "*/*";

/// One repository of a registry.
pub struct RegistrySource {
    reference: Reference,
    options: SourceOptions,
    plain: Plain,
    agent: Agent,
    /// What is sent to the registry to say who asks, once it wanted to know.
    authorization: Option<String>,
}

impl RegistrySource {
    /// Prepares connections to the repository of `reference`; makes none yet.
    pub fn open(reference: &Reference, options: SourceOptions) -> Result<Self, RegistryError> {
        let plain = match (options.plain_http, reference.is_loopback()) {
            (true, _) => Plain::Always,
            (false, true) => Plain::Loopback,
            (false, false) => Plain::Never,
        };
        if plain == Plain::Never && options.roots.is_empty() {
            return Err(RegistryError::Prepare(
                "there is no certificate to check a server's with".to_owned(),
            ));
        }
        let agent = http::agent(&options, plain);
        Ok(Self { reference: reference.clone(), options, plain, agent, authorization: None })
    }

    /// Asks for something below the repository, and says who asks where that is wanted.
    fn ask(
        &mut self,
        rest: &str,
        accept: &str,
        range: Option<&str>,
        small: bool,
    ) -> Result<Response<Body>, RegistryError> {
        let scheme = if self.plain == Plain::Never { "https" } else { "http" };
        let host = match self.reference.registry() {
            // The one name that is a registry's in references and another's on the network.
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let address = format!("{scheme}://{host}/v2/{}/{rest}", self.reference.repository());
        let uri = self.address(&address)?;
        let get = |source: &Self| {
            let authorization = source.authorization.as_deref();
            let question = Question { accept, range, authorization, small };
            http::get(&source.agent, source.plain, &uri, &question).map_err(|failure| source.failed(failure))
        };
        let answer = get(self)?;
        // What was sent before may have run out: tokens do, within minutes.
        if answer.status().as_u16() == 401 && self.authorize(&answer)? { get(self) } else { Ok(answer) }
    }

    /// Does what a challenge asks for; `false` where nothing can be done.
    fn authorize(&mut self, answer: &Response<Body>) -> Result<bool, RegistryError> {
        let values =
            answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut challenges: Vec<_> = values.flat_map(Challenge::all).take(MAX_CHALLENGES).collect();
        // Nobody needs an account for a token, and the password goes to one server less.
        challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
        let basic = self.options.credentials.as_ref().map(|credentials| {
            let both = format!("{}:{}", credentials.user, credentials.password);
            format!("Basic {}", STANDARD.encode(both))
        });
        let mut refused = None;
        for challenge in challenges {
            let authorization = match challenge {
                Challenge::Basic => basic.clone(),
                Challenge::Bearer { realm, service } => {
                    match self.token(&realm, service.as_deref(), basic.as_deref()) {
                        Ok(token) => Some(format!("Bearer {token}")),
                        // Another challenge may be one that can be answered.
                        Err(error) => {
                            refused.get_or_insert(error);
                            None
                        }
                    }
                }
            };
            // Exactly what was just refused would be refused again.
            if authorization.is_some() && authorization != self.authorization {
                self.authorization = authorization;
                return Ok(true);
            }
        }
        refused.map_or(Ok(false), Err)
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<String, RegistryError> {
        let uri = self.address(&token::address(realm, service, self.reference.repository()))?;
        if !self.plain.allows(&uri) {
            return Err(self.refused(&format!("it wants to be told who asks over plain HTTP, at {uri}")));
        }
        let question = Question { accept: "application/json", range: None, authorization, small: true };
        let mut answer =
            http::get(&self.agent, self.plain, &uri, &question).map_err(|failure| self.failed(failure))?;
        if !answer.status().is_success() {
            return Err(self.complain(&mut answer));
        }
        let bytes = self.bounded(&mut answer, token::MAX_ANSWER)?;
        token::read(&bytes).ok_or_else(|| self.refused("its answer to who asks holds no token"))
    }

    fn address(&self, text: &str) -> Result<Uri, RegistryError> {
        text.parse().map_err(|_| self.refused(&format!("{} is no address", short(text))))
    }

    /// Refuses bytes that were packed on the way: they are not those that a digest or a signature is of.
    fn unpacked(&self, answer: &Response<Body>) -> Result<(), RegistryError> {
        let Some(coding) = answer.headers().get(CONTENT_ENCODING) else { return Ok(()) };
        if coding.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Ok(());
        }
        Err(self.refused(&format!(
            "it packs what it sends (Content-Encoding: {}), which was not asked for; turn that off there or in the \
             proxy before it",
            String::from_utf8_lossy(coding.as_bytes())
        )))
    }

    fn bounded(&self, answer: &mut Response<Body>, limit: usize) -> Result<Vec<u8>, RegistryError> {
        self.unpacked(answer)?;
        let mut bytes = Vec::new();
        let read = answer.body_mut().as_reader().take(limit as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.reach(&chain(&error)))?;
        if bytes.len() > limit {
            return Err(RegistryError::Bound { registry: self.name(), limit });
        }
        Ok(bytes)
    }

    /// What an answer that isn't success means, and says.
    fn complain(&self, answer: &mut Response<Body>) -> RegistryError {
        let (status, mut said) = (answer.status(), Vec::new());
        // What it says beside its status is a help, not needed.
        let _ = answer.body_mut().as_reader().take(MAX_COMPLAINT).read_to_end(&mut said);
        let cause = short(format!("{status} {}", String::from_utf8_lossy(&said).trim()).trim());
        let registry = self.name();
        match status.as_u16() {
            401 | 403 => RegistryError::Authenticate { registry, cause },
            _ => RegistryError::Answer { registry, cause },
        }
    }

    fn failed(&self, failure: Failure) -> RegistryError {
        match failure {
            Failure::Broken(cause) => self.reach(&cause),
            Failure::Refused(cause) => self.refused(&cause),
        }
    }

    fn refused(&self, cause: &str) -> RegistryError {
        RegistryError::Answer { registry: self.name(), cause: short(cause) }
    }

    fn reach(&self, cause: &str) -> RegistryError {
        RegistryError::Reach { registry: self.name(), cause: short(cause) }
    }

    fn name(&self) -> String {
        self.reference.registry().to_owned()
    }
}

impl Source for RegistrySource {
    fn place(&self, name: &str) -> String {
        let joint = if Digest::parse(name).is_some() { '@' } else { ':' };
        format!("{}/{}{joint}{name}", self.reference.registry(), self.reference.repository())
    }

    fn manifest(&mut self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let mut answer = self.ask(&format!("manifests/{name}"), crate::manifest::MEDIA_TYPE, None, true)?;
        match answer.status().as_u16() {
            200 => Ok(Some(self.bounded(&mut answer, limit)?)),
            404 => Ok(None),
            _ => Err(self.complain(&mut answer).into()),
        }
    }

    fn referrers(&mut self, digest: Digest) -> Result<Vec<Referrer>, SourceError> {
        for rest in [format!("referrers/{digest}"), format!("manifests/{}", digest.referrers_tag())] {
            let mut answer = self.ask(&rest, INDEX_MEDIA_TYPE, None, true)?;
            match answer.status().as_u16() {
                200 => {
                    let found = referrer::list(&self.bounded(&mut answer, MAX_INDEX)?);
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                // The registry is older than the question, or has none.
                400 | 404..=406 | 415 | 501 => {}
                _ => return Err(self.complain(&mut answer).into()),
            }
        }
        Ok(Vec::new())
    }

    fn blob(&mut self, digest: Digest, from: u64, length: Option<u64>) -> Result<Blob<'_>, SourceError> {
        if length == Some(0) {
            return Ok(Blob::exact(Box::new(io::empty()), length));
        }
        let last = length.map_or(String::new(), |length| from.saturating_add(length - 1).to_string());
        let range = format!("bytes={from}-{last}");
        let mut answer = self.ask(&format!("blobs/{digest}"), ANY, Some(&range), false)?;
        let starts = answer.headers().get(CONTENT_RANGE).and_then(|value| {
            value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok()
        });
        if answer.status().is_success() {
            self.unpacked(&answer)?;
        }
        match answer.status().as_u16() {
            206 if starts != Some(from) => {
                Err(self.refused("it sends another part of a blob than was asked for").into())
            }
            206 => Ok(Blob::exact(self.reader(answer, length), length)),
            200 => Ok(Blob::whole(self.reader(answer, None), from, length)),
            // Busy, restarting, or a blob shorter than it was: what may be over in a while.
            408 | 416 | 429 | 500.. => {
                let complaint = self.complain(&mut answer).to_string();
                Err(self.reach(&complaint).into())
            }
            _ => Err(self.complain(&mut answer).into()),
        }
    }

    fn patience(&self) -> Patience {
        self.options.patience
    }
}

impl RegistrySource {
    fn reader(&self, answer: Response<Body>, length: Option<u64>) -> Box<dyn Read> {
        let ends_with = length.filter(|length| answer.body().content_length() == Some(*length));
        let inner = Ending { inner: answer.into_body().into_reader(), rest: ends_with };
        Box::new(Paced::new(inner, self.options.rate))
    }
}

/// Sees the end of an answer as soon as its last byte was read: then the connection serves the next question, too, and a
/// hundred parts of a blob aren't a hundred handshakes.
struct Ending<R> {
    inner: R,
    /// What the answer still holds, where its head said how much it is.
    rest: Option<u64>,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_sub(read as u64);
            if *rest == 0 {
                self.rest = None;
                // Waits for nothing: the client knows how long the answer is.
                let _ = self.inner.read(&mut [0]);
            }
        }
        Ok(read)
    }
}
