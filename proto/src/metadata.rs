//! What a cloud's metadata server is asked for the machine-config, and what its answers are worth.
//!
//! Which cloud it is says the firmware ([`crate::cloud`]). The questions and answers of each cloud are a small state
//! machine without a socket and without a clock. It refuses an answer that is not exactly what the cloud's
//! documentation promises: on EC2 it never asks without a session token (IMDSv2), so a server that offers only version 1
//! gives no machine-config; a redirect is an error. Which refusals may pass is each cloud's own: a status that is final
//! on one is on another what its server says while it starts.
//!
//! Sources: AWS, "Use the Instance Metadata Service"; Google Cloud, "About VM metadata"; Azure, "Azure Instance
//! Metadata Service for virtual machines", `userData` and "Errors and debugging".

use crate::cloud::Cloud;
use crate::http::Reply;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where each of these clouds has its metadata server: link-local, the same in all three.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);

/// Largest body of an answer, in bytes: a whole machine-config.
pub const MAX_ANSWER: usize = crate::machine_config::MAX_DOCUMENT;

/// Longest session token taken, in bytes: EC2's have 56.
const MAX_TOKEN: usize = 256;

/// The token is used once, at once. Seconds; a minute leaves room for every attempt.
const TOKEN_SECONDS: &str = "60";

/// Why a metadata server gave no machine-config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// EC2 gave no token.
    #[error(
        "no IMDSv2 session token (status {0}); version 1 is never asked: let the instance's metadata options \
         allow IMDSv2"
    )]
    ObtainToken(u16),
    /// What it gave is no token.
    #[error("the IMDSv2 session token is not visible ASCII of at most {MAX_TOKEN} bytes")]
    ReadToken,
    /// What it gave is not taken.
    #[error("the IMDSv2 session token that it gave is not taken (status {0})")]
    UseToken(u16),
    /// There is none yet.
    #[error("the metadata service doesn't have the instance's user data (status {0})")]
    AwaitDocument(u16),
    /// There is none.
    #[error("the instance has no machine-config there (status {0}): set one")]
    FindDocument(u16),
    /// The answer sends elsewhere.
    #[error("status {0} sends elsewhere, which is not followed: no cloud's metadata server does that")]
    RefuseRedirect(u16),
    /// Another status.
    #[error("status {0}")]
    CheckStatus(u16),
    /// The body is in another form than was asked for.
    #[error("the answer is compressed (Content-Encoding), which was not asked for")]
    CheckEncoding,
    /// A stranger answers in its place.
    #[error("the answer does not carry Metadata-Flavor: Google, so it is not GCE's metadata server's")]
    CheckFlavor,
    /// Azure's encoding.
    #[error("the user data is not base64; set it through Azure's API or tools, which encode it")]
    DecodeBase64,
}

impl MetadataError {
    /// Whether the same question may have another answer soon: the server is not ready, or asks for patience.
    pub fn may_pass(self) -> bool {
        match self {
            // 410: Azure, while the instance is being moved, for at most 70 seconds.
            Self::ObtainToken(status) | Self::CheckStatus(status) => {
                matches!(status, 408 | 410 | 425 | 429 | 500..=599)
            }
            // A token runs out, or is unknown to the server that answers next: a new conversation gets a new one.
            Self::UseToken(_) | Self::AwaitDocument(_) => true,
            _ => false,
        }
    }
}

/// The questions to one server, one after the other.
#[derive(Debug)]
pub struct Conversation {
    cloud: Cloud,
    /// EC2's, once there is one.
    token: Option<String>,
}

impl Conversation {
    /// Begins.
    pub fn new(cloud: Cloud) -> Self {
        Self { cloud, token: None }
    }

    /// The next question, as it goes onto a connection of its own.
    pub fn request(&self) -> String {
        let (line, field) = match (self.cloud, &self.token) {
            (Cloud::Ec2, None) => (
                "PUT /latest/api/token",
                format!("X-aws-ec2-metadata-token-ttl-seconds: {TOKEN_SECONDS}\r\nContent-Length: 0"),
            ),
            (Cloud::Ec2, Some(token)) => {
                ("GET /latest/user-data", format!("X-aws-ec2-metadata-token: {token}"))
            }
            (Cloud::Gce, _) => (
                "GET /computeMetadata/v1/instance/attributes/astromesh-machine-config",
                "Metadata-Flavor: Google".to_owned(),
            ),
            (Cloud::Azure, _) => (
                "GET /metadata/instance/compute/userData?api-version=2021-01-01&format=text",
                "Metadata: true".to_owned(),
            ),
        };
        let host = SERVER.ip();
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{field}\r\nAccept: */*\r\nConnection: close\r\n\r\n")
    }

    /// What an answer gives: the document, or the right to the next question.
    pub fn answer(&mut self, reply: Reply) -> Result<Option<Vec<u8>>, MetadataError> {
        let for_token = self.cloud == Cloud::Ec2 && self.token.is_none();
        match reply.status {
            200 => {}
            status @ 300..=399 => return Err(MetadataError::RefuseRedirect(status)),
            status if for_token => return Err(MetadataError::ObtainToken(status)),
            401 if self.cloud == Cloud::Ec2 => return Err(MetadataError::UseToken(401)),
            // An instance without user data answers 200 there; this is a service that doesn't know the instance yet.
            404 if self.cloud == Cloud::Azure => return Err(MetadataError::AwaitDocument(404)),
            status @ (204 | 404) => return Err(MetadataError::FindDocument(status)),
            status => return Err(MetadataError::CheckStatus(status)),
        }
        if reply.field("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(MetadataError::CheckEncoding);
        }
        if self.cloud == Cloud::Gce && reply.field("metadata-flavor") != Some(b"Google") {
            return Err(MetadataError::CheckFlavor);
        }
        if for_token {
            self.token = Some(token(reply.body)?);
            return Ok(None);
        }
        let document = match self.cloud {
            Cloud::Azure => {
                STANDARD.decode(reply.body.trim_ascii()).map_err(|_| MetadataError::DecodeBase64)?
            }
            Cloud::Ec2 | Cloud::Gce => reply.body,
        };
        // Azure answers so when there is none.
        if document.is_empty() { Err(MetadataError::FindDocument(200)) } else { Ok(Some(document)) }
    }
}

/// The token in an answer: it is sent back in a header field, so nothing in it may end one.
fn token(body: Vec<u8>) -> Result<String, MetadataError> {
    let token = String::from_utf8(body).map_err(|_| MetadataError::ReadToken)?;
    let fits = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(token) } else { Err(MetadataError::ReadToken) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &[u8]) -> Reply {
        let fields = vec![("Metadata-Flavor".to_owned(), b"Google".to_vec())];
        Reply { status, fields, body: body.to_vec() }
    }

    fn conversation(cloud: Cloud) -> Conversation {
        let mut conversation = Conversation::new(cloud);
        if cloud == Cloud::Ec2 {
            assert_eq!(conversation.answer(reply(200, b"to-ken=")), Ok(None));
        }
        conversation
    }

    const ALL: [Cloud; 3] = [Cloud::Ec2, Cloud::Gce, Cloud::Azure];

    #[test]
    fn ec2_is_asked_for_a_token_first_and_for_user_data_only_with_it() {
        let mut conversation = Conversation::new(Cloud::Ec2);
        let request = conversation.request();
        assert!(request.starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n"), "{request}");
        assert_eq!(conversation.answer(reply(200, b"AQAE==")), Ok(None));
        let request = conversation.request();
        assert!(request.starts_with("GET /latest/user-data HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nX-aws-ec2-metadata-token: AQAE==\r\n"), "{request}");
        assert_eq!(conversation.answer(reply(200, b"apiVersion: x")), Ok(Some(b"apiVersion: x".to_vec())));
    }

    #[test]
    fn without_a_token_there_is_no_second_question() {
        for status in [400, 401, 403, 404, 405, 503] {
            let mut conversation = Conversation::new(Cloud::Ec2);
            // Whatever its body says: a server of version 1 might answer with the document itself.
            let answer = conversation.answer(reply(status, b"apiVersion: astromesh.os/v1"));
            assert_eq!(answer, Err(MetadataError::ObtainToken(status)));
            assert!(conversation.request().starts_with("PUT "), "{status}");
        }
        let long = [b'a'; MAX_TOKEN + 1];
        for token in [&b""[..], b"a b", b"a\r\nX: y", b"a\n", b"\xff", &long] {
            let mut conversation = Conversation::new(Cloud::Ec2);
            assert_eq!(conversation.answer(reply(200, token)), Err(MetadataError::ReadToken));
            assert!(conversation.request().starts_with("PUT "));
        }
    }

    #[test]
    fn gce_must_name_itself_and_azure_must_encode() {
        let mut gce = conversation(Cloud::Gce);
        assert!(gce.request().contains("\r\nMetadata-Flavor: Google\r\n"));
        let mut stranger = reply(200, b"x");
        stranger.fields.clear();
        assert_eq!(gce.answer(stranger), Err(MetadataError::CheckFlavor));
        assert_eq!(gce.answer(reply(200, b"x")), Ok(Some(b"x".to_vec())), "the twin");

        let mut azure = conversation(Cloud::Azure);
        assert!(azure.request().contains("\r\nMetadata: true\r\n"));
        for wrong in [&b"apiVersion: x"[..], b"eA", b"eA==eA=="] {
            assert_eq!(azure.answer(reply(200, wrong)), Err(MetadataError::DecodeBase64));
        }
        assert_eq!(azure.answer(reply(200, b"eA==\n")), Ok(Some(b"x".to_vec())), "the twin");
    }

    #[test]
    fn every_status_but_200_is_no_document_and_only_some_are_worth_another_try() {
        for cloud in ALL {
            for status in
                [100, 201, 204, 206, 301, 302, 307, 400, 401, 403, 404, 408, 410, 429, 500, 503, 599]
            {
                let error = conversation(cloud).answer(reply(status, b"eA==")).unwrap_err();
                let may_pass = match (cloud, status) {
                    (Cloud::Ec2, 401) | (Cloud::Azure, 404) => true,
                    _ => matches!(status, 408 | 410 | 429 | 500..=599),
                };
                assert_eq!(error.may_pass(), may_pass, "{cloud:?} {status}");
            }
            let answer = |status| conversation(cloud).answer(reply(status, b""));
            assert_eq!(answer(302), Err(MetadataError::RefuseRedirect(302)), "{cloud:?}");
            for status in [200, 204] {
                assert_eq!(answer(status), Err(MetadataError::FindDocument(status)), "{cloud:?}");
            }
            if cloud != Cloud::Azure {
                assert_eq!(answer(404), Err(MetadataError::FindDocument(404)), "{cloud:?}");
            }
        }
        assert!(MetadataError::ObtainToken(503).may_pass() && !MetadataError::ObtainToken(401).may_pass());
    }

    #[test]
    fn a_body_that_was_compressed_unasked_is_no_document() {
        for cloud in ALL {
            let mut packed = reply(200, b"\x1f\x8b\x08");
            packed.fields.push(("Content-Encoding".to_owned(), b"gzip".to_vec()));
            assert_eq!(conversation(cloud).answer(packed), Err(MetadataError::CheckEncoding));
            let mut plain = reply(200, b"eA==");
            plain.fields.push(("Content-Encoding".to_owned(), b"Identity".to_vec()));
            assert!(conversation(cloud).answer(plain).is_ok_and(|document| document.is_some()), "the twin");
        }
    }
}
