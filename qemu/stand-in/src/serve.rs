//! The runtime's routes that somebody asks: `control` for health and doctor, a gate for an answer and for test data.
//!
//! | route | answer |
//! |---|---|
//! | `GET /v1/health` | `ok`, as the runtime says with no agent at all |
//! | `GET /v1/agents` | every document of the machine-config, deployed or not |
//! | `GET /v1/system/doctor` | healthy or not |
//! | `POST /v1/agents/NAME/run` | SHA-256 of seed, name and question, in hex |
//! | `GET /probe/keep/MIB/SEED` | writes test data; see [`kept`] |
//! | `GET /probe/kept` | tells it |

use crate::kept;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Largest head of a request, and largest body.
const HEAD_LIMIT: usize = 16 << 10;
const BODY_LIMIT: usize = 1 << 20;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every answer is made of.
struct Runtime {
    agents: Vec<String>,
    deployed: bool,
    seed: Vec<u8>,
}

/// Serves until the process ends.
pub fn forever(listen: &str, deployed: bool, seed: Vec<u8>) -> io::Result<()> {
    let runtime = Arc::new(Runtime { agents: agents()?, deployed, seed });
    let listener = TcpListener::bind(listen)?;
    for stream in listener.incoming() {
        let (mut stream, runtime) = (stream?, Arc::clone(&runtime));
        // A client that breaks off is its own problem.
        std::thread::spawn(move || runtime.answer(&mut stream));
    }
    Ok(())
}

/// The agents of the machine-config: `agents/NAME.agent.yaml` in the configuration's folder.
fn agents() -> io::Result<Vec<String>> {
    let folder = std::env::var("ASTROMESH_CONFIG_DIR").unwrap_or_default();
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(&folder).join("agents"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".agent.yaml").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

impl Runtime {
    fn answer(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (status, body) = match read(stream)? {
            Some((method, path, body)) => self.route(&method, &path, &body),
            None => ("400 Bad Request", json!({ "detail": "not a request" })),
        };
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    fn route(&self, method: &str, path: &str, body: &[u8]) -> (&'static str, Value) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let found = match (method, parts.as_slice()) {
            ("GET", ["v1", "health"]) => Some(json!({ "status": "ok", "version": "stand-in" })),
            ("GET", ["v1", "agents"]) => Some(json!({ "agents": self.states() })),
            ("GET", ["v1", "system", "doctor"]) => Some(json!({ "healthy": self.deployed, "checks": {} })),
            ("POST", ["v1", "agents", name, "run"]) => self.run(name, body),
            ("GET", ["probe", "kept"]) => Some(told(kept::kept(&kept::place()))),
            ("GET", ["probe", "keep", mib, seed]) => match (mib.parse(), seed.parse()) {
                (Ok(mib), Ok(seed)) if mib <= kept::MOST_MIB => {
                    Some(told(kept::keep(&kept::place(), mib, seed)))
                }
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(value) => ("200 OK", value),
            None => ("404 Not Found", json!({ "detail": "Not Found" })),
        }
    }

    fn states(&self) -> Vec<Value> {
        let state = |name: &String| {
            if self.deployed {
                json!({ "name": name, "status": "deployed" })
            } else {
                json!({ "name": name, "status": "draft", "error": "this stand-in deploys no agent" })
            }
        };
        self.agents.iter().map(state).collect()
    }

    /// The answer to a question: the same in every boot of the same root, and in no other root.
    fn run(&self, name: &str, body: &[u8]) -> Option<Value> {
        let known = self.deployed && self.agents.iter().any(|agent| agent == name);
        let body: Value = serde_json::from_slice(body).ok()?;
        let query = body["query"].as_str().filter(|_| known)?;
        let sum = Sha256::new().chain_update(&self.seed).chain_update(name).chain_update(query).finalize();
        Some(json!({ "answer": format!("{sum:x}") }))
    }
}

/// What a probe found; one that breaks is a result too.
fn told(found: io::Result<Value>) -> Value {
    found.unwrap_or_else(|error| json!({ "broken": error.to_string() }))
}

/// Method, path and body of one request; `None` if it is none.
fn read(stream: &mut TcpStream) -> io::Result<Option<(String, String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let (head, method, path, length) = loop {
        let count = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(head)) => {
                let (Some(method), Some(path)) = (request.method, request.path) else { return Ok(None) };
                let length = request
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                    .map_or(Some(0), |header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
                let Some(length) = length.filter(|&length: &usize| length <= BODY_LIMIT) else {
                    return Ok(None);
                };
                break (head, method.to_owned(), path.to_owned(), length);
            }
            Ok(httparse::Status::Partial) if count > 0 && bytes.len() <= HEAD_LIMIT => {}
            _ => return Ok(None),
        }
    };
    let mut body = bytes.split_off(head);
    while body.len() < length {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&piece[..count]);
    }
    Ok(Some((method, path, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(deployed: bool, seed: u8) -> Runtime {
        Runtime { agents: vec!["assistant".to_owned()], deployed, seed: vec![seed; 16] }
    }

    #[test]
    fn an_answer_depends_on_the_root_the_agent_and_the_question_alone() {
        let ask = |runtime: &Runtime, query: &str| {
            let body = json!({ "query": query, "session_id": "x" }).to_string();
            runtime.route("POST", "/v1/agents/assistant/run", body.as_bytes()).1
        };
        let first = ask(&runtime(true, 1), "why");
        assert_eq!(first["answer"].as_str().unwrap().len(), 64);
        assert_eq!(ask(&runtime(true, 1), "why"), first);
        assert_ne!(ask(&runtime(true, 1), "how"), first);
        assert_ne!(ask(&runtime(true, 2), "why"), first);
        assert!(ask(&runtime(false, 1), "why")["answer"].is_null());
    }

    #[test]
    fn only_a_healthy_one_has_its_agents_deployed() {
        for (deployed, status) in [(true, "deployed"), (false, "draft")] {
            let (code, answer) = runtime(deployed, 0).route("GET", "/v1/agents", b"");
            assert_eq!((code, &answer["agents"][0]["status"]), ("200 OK", &json!(status)));
            assert_eq!(runtime(deployed, 0).route("GET", "/v1/health", b"").1["status"], "ok");
            assert_eq!(runtime(deployed, 0).route("GET", "/v1/system/doctor", b"").1["healthy"], deployed);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_a_request_in_pieces_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let say = |pieces: &'static [&'static [u8]]| {
            let client = std::thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                for piece in pieces {
                    let _ = client.write_all(piece);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let found = read(&mut listener.accept().unwrap().0).unwrap();
            client.join().unwrap();
            found
        };
        let whole = say(&[b"POST /x HTTP/1.1\r\nContent-Le", b"ngth: 3\r\n\r\na", b"bc"]);
        assert_eq!(whole, Some(("POST".to_owned(), "/x".to_owned(), b"abc".to_vec())));
        assert_eq!(say(&[b"\x16\x03\x01"]), None);
        assert_eq!(say(&[b"POST /x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"]), None);
    }
}
