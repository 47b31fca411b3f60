//! Whole conversations with metadata servers as they write, played by a server on loopback: what each ends in, and how
//! often is asked.
//!
//! The heads are those of the real servers (EC2ws, GCE's "Metadata Server for VM", Azure's IMDS), the statuses those
//! that their vendors document. Each row stands for a way in which a conversation goes wrong, or seems to.

use crate::ask::{AskError, Limits, ask};
use astromesh_http::stand_in::{say, serve};
use astromesh_http::{ExchangeError, exchange};
use astromesh_proto::cloud::Cloud::{self, Azure, Ec2, Gce};
use astromesh_proto::metadata::MetadataError;
use std::time::{Duration, Instant};

/// The document that is to be had.
const DOCUMENT: &[u8] = b"apiVersion: astromesh.os/v1\n";

const EC2_TOKEN: &str = "HTTP/1.1 200 OK\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60\r\nContent-Type: text/plain\r\n\
    Content-Length: 8\r\nDate: Wed, 25 Nov 2026 13:00:00 GMT\r\nServer: EC2ws\r\nConnection: close\r\n\r\nAQAEAA==";
const EC2_DATA: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: none\r\n\
    Last-Modified: Wed, 25 Nov 2026 12:59:00 GMT\r\nContent-Length: 28\r\nServer: EC2ws\r\nConnection: close\r\n\r\n\
    apiVersion: astromesh.os/v1\n";
const EC2_401: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\
    Server: EC2ws\r\nConnection: close\r\n\r\n<?xml version=";
const EC2_404: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\
    Server: EC2ws\r\nConnection: close\r\n\r\n<?xml version=";
const GCE_DATA: &str = "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Type: application/text\r\n\
    ETag: 99d9d3d3bdbd3a35\r\nServer: Metadata Server for VM\r\nContent-Length: 28\r\nX-XSS-Protection: 0\r\n\
    X-Frame-Options: SAMEORIGIN\r\n\r\napiVersion: astromesh.os/v1\n";
const GCE_404: &str = "HTTP/1.1 404 Not Found\r\nMetadata-Flavor: Google\r\nServer: Metadata Server for VM\r\n\
    Content-Type: text/html; charset=UTF-8\r\nContent-Length: 9\r\n\r\nnot found";
const AZURE_DATA: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nServer: IMDS/150.870.65.1854\r\n\
    x-ms-request-id: 00000000-0000-0000-0000-000000000000\r\nContent-Length: 40\r\n\r\n\
    YXBpVmVyc2lvbjogYXN0cm9tZXNoLm9zL3YxCg==";

/// An answer of Azure's with this status and its usual words.
macro_rules! azure {
    ($status:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nContent-Type: application/json; charset=utf-8\r\nServer: IMDS/150.870.65.1854\r\n",
            "Content-Length: 21\r\n\r\n{\"error\":\"Not today\"}"
        )
    };
}

/// What a conversation ends in.
type Ends = fn(&Result<Vec<u8>, AskError>) -> bool;

/// The document.
const GOOD: Ends = |result| result.as_deref().is_ok_and(|document| document == DOCUMENT);

/// A server: what it says on each connection in turn, the last for ever; `""` is a connection that it closes.
struct Row {
    what: &'static str,
    cloud: Cloud,
    says: &'static [&'static str],
    ends: Ends,
    /// How often it is asked.
    asked: usize,
}

const fn row(
    what: &'static str,
    cloud: Cloud,
    says: &'static [&'static str],
    ends: Ends,
    asked: usize,
) -> Row {
    Row { what, cloud, says, ends, asked }
}

/// A `no` that is believed.
fn refused(result: &Result<Vec<u8>, AskError>) -> Option<MetadataError> {
    match result {
        Err(AskError::Answer(error)) => Some(*error),
        _ => None,
    }
}

const ROWS: &[Row] = &[
    row("EC2: a token, then the document", Ec2, &[EC2_TOKEN, EC2_DATA], GOOD, 2),
    row(
        "EC2: a token that is not taken for a while",
        Ec2,
        &[EC2_TOKEN, EC2_401, EC2_TOKEN, EC2_401, EC2_TOKEN, EC2_DATA],
        GOOD,
        6,
    ),
    row(
        "EC2: not ready for tokens yet",
        Ec2,
        &["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", EC2_TOKEN, EC2_DATA],
        GOOD,
        3,
    ),
    row(
        "EC2: too many questions",
        Ec2,
        &[
            EC2_TOKEN,
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            EC2_TOKEN,
            EC2_DATA,
        ],
        GOOD,
        4,
    ),
    row("EC2: hangs up after the token", Ec2, &[EC2_TOKEN, "", EC2_TOKEN, EC2_DATA], GOOD, 4),
    row(
        "EC2: an instance without user data",
        Ec2,
        &[EC2_TOKEN, EC2_404],
        |r| refused(r) == Some(MetadataError::FindDocument(404)),
        2,
    ),
    row(
        "EC2: metadata is turned off",
        Ec2,
        &["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nServer: EC2ws\r\n\r\n"],
        |r| refused(r) == Some(MetadataError::ObtainToken(403)),
        1,
    ),
    row(
        "EC2: version 1 alone, which answers with the document",
        Ec2,
        &[EC2_404, EC2_DATA],
        |r| refused(r) == Some(MetadataError::ObtainToken(404)),
        1,
    ),
    row(
        "EC2: a page of a captive portal as token",
        Ec2,
        &["HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html> </html"],
        |r| refused(r) == Some(MetadataError::ReadToken),
        1,
    ),
    row("GCE: the document", Gce, &[GCE_DATA], GOOD, 1),
    row(
        "GCE: in chunks",
        Gce,
        &["HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nTransfer-Encoding: chunked\r\n\r\n\
        a\r\napiVersion\r\n12;x\r\n: astromesh.os/v1\n\r\n0\r\nTrailer: x\r\n\r\n"],
        GOOD,
        1,
    ),
    row(
        "GCE: until the connection ends",
        Gce,
        &["HTTP/1.0 200 OK\r\nMetadata-Flavor: Google\r\n\r\napiVersion: astromesh.os/v1\n"],
        GOOD,
        1,
    ),
    row(
        "GCE: 100 Continue first",
        Gce,
        &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n\
        Content-Length: 28\r\n\r\napiVersion: astromesh.os/v1\n"],
        GOOD,
        1,
    ),
    row(
        "GCE: early hints first, then a no",
        Gce,
        &["HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 404 Not Found\r\n\
        Content-Length: 0\r\n\r\n"],
        |r| refused(r) == Some(MetadataError::FindDocument(404)),
        1,
    ),
    row(
        "GCE: maintenance of the host",
        Gce,
        &[
            "HTTP/1.1 503 Service Unavailable\r\nMetadata-Flavor: Google\r\nContent-Length: 0\r\n\r\n",
            GCE_DATA,
        ],
        GOOD,
        2,
    ),
    row(
        "GCE: cut in the head, cut in the body",
        Gce,
        &[
            "HTTP/1.1 200 OK\r\nMetadata-Fl",
            "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 28\r\n\r\napiVers",
            GCE_DATA,
        ],
        GOOD,
        3,
    ),
    row(
        "GCE: an instance without the attribute",
        Gce,
        &[GCE_404],
        |r| refused(r) == Some(MetadataError::FindDocument(404)),
        1,
    ),
    row("GCE: a stranger", Gce, &[EC2_DATA], |r| refused(r) == Some(MetadataError::CheckFlavor), 1),
    row(
        "GCE: packed, unasked",
        Gce,
        &[
            "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
        ],
        |r| refused(r) == Some(MetadataError::CheckEncoding),
        1,
    ),
    row(
        "GCE: a redirect",
        Gce,
        &["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"],
        |r| refused(r) == Some(MetadataError::RefuseRedirect(302)),
        1,
    ),
    row("Azure: the document", Azure, &[AZURE_DATA], GOOD, 1),
    row(
        "Azure: an instance that the service doesn't know yet",
        Azure,
        &[azure!("404 Not Found"), azure!("404 Not Found"), AZURE_DATA],
        GOOD,
        3,
    ),
    row(
        "Azure: an instance that is being moved",
        Azure,
        &[azure!("410 Gone"), azure!("410 Gone"), azure!("410 Gone"), AZURE_DATA],
        GOOD,
        4,
    ),
    row(
        "Azure: too many questions, then a fault",
        Azure,
        &[azure!("429 Too Many Requests"), azure!("500 Internal Server Error"), AZURE_DATA],
        GOOD,
        3,
    ),
    row(
        "Azure: every passing fault in turn",
        Azure,
        &[
            "",
            azure!("404 Not Found"),
            azure!("410 Gone"),
            azure!("429 Too Many Requests"),
            azure!("503 Service Unavailable"),
            AZURE_DATA,
        ],
        GOOD,
        6,
    ),
    row(
        "Azure: an instance without user data",
        Azure,
        &["HTTP/1.1 200 OK\r\nServer: IMDS/150.870.65.1854\r\nContent-Length: 0\r\n\r\n"],
        |r| refused(r) == Some(MetadataError::FindDocument(200)),
        1,
    ),
    row(
        "Azure: the question is refused",
        Azure,
        &[azure!("400 Bad Request")],
        |r| refused(r) == Some(MetadataError::CheckStatus(400)),
        1,
    ),
    row(
        "Azure: custom data in place of user data",
        Azure,
        &["HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\napiVersion: astromesh.os/v1\n"],
        |r| refused(r) == Some(MetadataError::DecodeBase64),
        1,
    ),
];

#[test]
fn each_cloud_is_asked_until_it_gives_its_document_or_a_no_that_is_final() {
    for Row { what, cloud, says, ends, asked } in ROWS {
        let mut connection = 0;
        let (server, requests) = serve(move |_, stream| {
            say(stream, says[connection.min(says.len() - 1)].as_bytes());
            connection += 1;
        });
        let end = Instant::now() + Duration::from_secs(20);
        let limits = Limits { silent: end, patient: end, pause: Duration::from_millis(1) };
        let result = ask(server, *cloud, &limits);
        assert!(ends(&result), "{what}: {result:?}");
        // The server tells of a request after it has answered it.
        let heads: Vec<_> =
            (0..*asked).map_while(|_| requests.recv_timeout(Duration::from_secs(5)).ok()).collect();
        assert_eq!(heads.len(), *asked, "{what}");
        assert!(requests.try_recv().is_err(), "{what}: it was asked once more");
        if *cloud == Ec2 {
            for head in heads.iter().filter(|head| head.starts_with("GET ")) {
                assert!(head.contains("X-aws-ec2-metadata-token: AQAEAA=="), "{what}: {head}");
            }
        }
    }
}

/// The node doesn't ask these clouds' servers, but their answers are in the forms that any server may use tomorrow.
#[test]
fn the_forms_in_which_other_clouds_servers_answer_are_read() {
    for (server, answer) in [
        (
            "Hetzner",
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/octet-stream\r\n\
            Transfer-Encoding: Chunked\r\nConnection: keep-alive\r\n\r\n1c\r\napiVersion: astromesh.os/v1\n\r\n0\r\n\r\n",
        ),
        (
            "DigitalOcean",
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Date: Wed, 25 Nov 2026 13:00:00 GMT\r\nContent-Length: 28\r\n\r\napiVersion: astromesh.os/v1\n",
        ),
        (
            "OpenStack, nova behind haproxy",
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\
            content-length: 28\r\ndate: Wed, 25 Nov 2026 13:00:00 GMT\r\n\r\napiVersion: astromesh.os/v1\n",
        ),
        (
            "NoCloud, Python's http.server",
            "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6 Python/3.13.5\r\n\
            Content-type: application/octet-stream\r\nContent-Length: 28\r\n\r\napiVersion: astromesh.os/v1\n",
        ),
        ("QEMU's guestfwd to a shell", "HTTP/1.1 200 OK\r\n\r\napiVersion: astromesh.os/v1\n"),
    ] {
        let (address, _requests) = serve(move |_, stream| say(stream, answer.as_bytes()));
        let deadline = Instant::now() + Duration::from_secs(20);
        let reply = exchange(address, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 100, deadline);
        assert_eq!(
            reply.as_ref().map(|reply| reply.body.as_slice()).ok(),
            Some(DOCUMENT),
            "{server}: {reply:?}"
        );
    }
    // The twin: a head that two readers could read in two ways is none of them.
    let (address, _requests) = serve(|_, stream| {
        say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let reply = exchange(address, b"GET / HTTP/1.1\r\n\r\n", 100, deadline);
    assert!(matches!(reply, Err(ExchangeError::Read(_))), "{reply:?}");
}
