//! The promise: an answer of the provider proves that this question reached it, over TLS that the asker
//! checked, with the right key; and the relay carries it without a leftover.
#![allow(clippy::unwrap_used, reason = "a test file: its helpers may panic as its tests do")]

use astromesh_qemu::Provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(provider: &Provider, ca_pem: &str, name: &'static str) -> io::Result<Tls> {
    let stream = TcpStream::connect(provider.address())?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut tls = StreamOwned::new(client(ca_pem, name), stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

fn client(ca_pem: &str, name: &'static str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap()
}

/// Asks and reads one answer, by `Content-Length` or to the last chunk; the connection stays open.
fn ask(tls: &mut (impl Read + Write), head: &str, key: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(
        tls,
        "{head} HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    tls.flush().unwrap();
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = tls.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let wanted = head.lines().find_map(|l| l.strip_prefix("content-length: "));
        let whole = match wanted {
            Some(wanted) => body.len() == wanted.parse::<usize>().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if whole {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
        }
    }
}

fn question(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]})
}

#[test]
fn an_answer_seals_the_nonce_of_the_question() {
    let provider = Provider::start("key", &["provider.test", "10.0.2.100"]).unwrap();
    let mut tls = connect(&provider, provider.ca_pem(), "10.0.2.100").unwrap();
    let (status, models) = ask(&mut tls, "GET /v1/models", "key", "");
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&models).unwrap()["object"], "list");
    // The same connection goes on: keep-alive.
    let mut seals = Vec::new();
    for nonce in ["00aa", "00ab"] {
        let body = question(&format!("please seal nonce:{nonce}")).to_string();
        let (status, answer) = ask(&mut tls, "POST /v1/chat/completions", "key", &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["model"], "m");
        let usage = &answer["usage"];
        let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"], sum);
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert!(content.contains(&provider.expected_answer(nonce)), "{content}");
        seals.push(content);
    }
    assert_ne!(seals[0], seals[1]);
    // Another provider can't make this answer.
    let other = Provider::start("key", &["x"]).unwrap();
    assert_ne!(other.expected_answer("00aa"), provider.expected_answer("00aa"));
    let requests = provider.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.authorized && request.status == 200));
    assert!(String::from_utf8_lossy(&requests[2].body).contains("nonce:00ab"));
}

#[test]
fn a_stream_gives_the_same_answer_in_events() {
    let provider = Provider::start("key", &["provider.test"]).unwrap();
    let mut tls = connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    let mut body = question("nonce:77");
    body["stream"] = json!(true);
    let (status, answer) = ask(&mut tls, "POST /v1/chat/completions", "key", &body.to_string());
    assert_eq!(status, 200);
    assert!(answer.contains("data: [DONE]"));
    let events =
        answer.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let content: String = events
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(content.contains(&provider.expected_answer("77")), "{content}");
}

#[test]
fn a_wrong_key_and_a_wrong_path_are_refused_and_recorded() {
    let provider = Provider::start("key", &["provider.test"]).unwrap();
    let mut tls = connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    assert_eq!(ask(&mut tls, "GET /v1/models", "kez", "").0, 401);
    assert_eq!(ask(&mut tls, "GET /v1/files", "key", "").0, 404);
    assert_eq!(ask(&mut tls, "POST /v1/chat/completions", "key", "no json").0, 400);
    let seen: Vec<_> = provider.requests().iter().map(|r| (r.authorized, r.status)).collect();
    assert_eq!(seen, [(false, 401), (true, 404), (true, 400)]);
    // A body above the limit is refused by its announcement.
    let mut tls = connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    write!(tls, "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn another_authority_and_another_name_fail_the_handshake() {
    let provider = Provider::start("key", &["provider.test"]).unwrap();
    let other = Provider::start("key", &["provider.test"]).unwrap();
    let failure = |ca: &str, name| connect(&provider, ca, name).unwrap_err().to_string();
    assert!(failure(other.ca_pem(), "provider.test").contains("certificate"));
    assert!(failure(provider.ca_pem(), "elsewhere.test").contains("certificate"));
    // Mutation twin: with the right authority and name the same call succeeds.
    connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    assert!(provider.requests().is_empty());
}

#[test]
fn a_stopped_provider_is_down_and_comes_back_on_its_port() {
    let mut provider = Provider::start("key", &["provider.test"]).unwrap();
    let port = provider.port();
    let mut kept = connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    assert_eq!(ask(&mut kept, "GET /v1/models", "key", "").0, 200);
    provider.stop();
    assert!(connect(&provider, provider.ca_pem(), "provider.test").is_err());
    assert!(matches!(kept.read(&mut [0; 16]), Ok(0) | Err(_)), "a kept connection is cut as well");
    provider.restart().unwrap();
    assert_eq!(provider.port(), port);
    let mut again = connect(&provider, provider.ca_pem(), "provider.test").unwrap();
    assert_eq!(ask(&mut again, "GET /v1/models", "key", "").0, 200);
}

struct Relay(Child);

impl Relay {
    fn start(target: &str) -> Self {
        let mut command = Command::new(astromesh_qemu::relay_path().unwrap());
        Self(command.arg(target).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn ended(&mut self) -> bool {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The relay's two pipes as one stream.
struct Pipes(std::process::ChildStdin, std::process::ChildStdout);

impl Read for Pipes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.read(buffer)
    }
}

impl Write for Pipes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn the_relay_carries_a_question_and_ends_with_it() {
    let mut provider = Provider::start("key", &["10.0.2.100"]).unwrap();
    let mut relay = Relay::start(&provider.address().to_string());
    let pipes = Pipes(relay.0.stdin.take().unwrap(), relay.0.stdout.take().unwrap());
    let mut tls = StreamOwned::new(client(provider.ca_pem(), "10.0.2.100"), pipes);
    let body = question("nonce:5eed").to_string();
    let (status, answer) = ask(&mut tls, "POST /v1/chat/completions", "key", &body);
    assert_eq!(status, 200);
    assert!(answer.contains(&provider.expected_answer("5eed")));
    // The target closes while the guest still listens: the relay ends, though its input is open.
    provider.stop();
    assert!(relay.ended());
}

#[test]
fn the_relay_passes_on_a_half_close_and_ends_when_the_target_does() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut relay = Relay::start(&listener.local_addr().unwrap().to_string());
    let (mut target, _) = listener.accept().unwrap();
    target.set_read_timeout(Some(LIMIT)).unwrap();
    relay.0.stdin.take().unwrap().write_all(b"question").unwrap();
    let mut heard = String::new();
    target.read_to_string(&mut heard).unwrap();
    target.write_all(b"answer").unwrap();
    drop(target);
    let mut answer = String::new();
    relay.0.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
    assert!(relay.ended());
}

#[test]
fn the_relay_ends_when_nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut relay = Relay::start(&format!("127.0.0.1:{port}"));
    assert!(relay.ended());
}
