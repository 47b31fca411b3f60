//! A blocking HTTP client for one question to one address.
//!
//! It exists for the gates and `cargo xtask run`, which ask a guest through a forwarded loopback port. Each
//! call is one connection with one time limit. It refuses to follow redirects, to use a proxy from the
//! environment, to speak TLS, and to hold more than 16 MiB.

use std::net::SocketAddr;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer came.
    #[error(
        "cannot ask {address}{path}: {source}. Look whether the guest listens: its console, Vm::events()"
    )]
    AskGuest {
        /// Where.
        address: SocketAddr,
        /// What.
        path: String,
        /// ureq's words.
        source: Box<ureq::Error>,
    },
    /// The answer is not JSON.
    #[error("the answer (status {status}) is not JSON: {source}. It begins with {start:?}")]
    ParseJson {
        /// HTTP status.
        status: u16,
        /// Its first bytes.
        start: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// An answer of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, decoded from its transfer coding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, with bytes that are not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value, HttpError> {
        serde_json::from_slice(&self.body).map_err(|source| HttpError::ParseJson {
            status: self.status,
            start: self.text().chars().take(200).collect(),
            source,
        })
    }
}

/// The largest body that is read.
const BODY_LIMIT: u64 = 16 << 20;

/// `GET path`. The limit covers all: connecting, waiting, reading.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    let asked = agent(limit).get(format!("http://{address}{path}")).header("connection", "close").call();
    finish(asked).map_err(failed(address, path))
}

/// `POST path` with a JSON body.
pub fn post_json(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
    limit: Duration,
) -> Result<Answer, HttpError> {
    let request = agent(limit).post(format!("http://{address}{path}"));
    let request = request.header("connection", "close").header("content-type", "application/json");
    finish(request.send(body.to_string().as_bytes())).map_err(failed(address, path))
}

fn agent(limit: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None);
    config.build().into()
}

fn finish(asked: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Box<ureq::Error>> {
    let mut answer = asked?;
    let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Ok(Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().iter().map(header).collect(),
        body: answer.body_mut().with_config().limit(BODY_LIMIT).read_to_vec()?,
    })
}

fn failed(address: SocketAddr, path: &str) -> impl FnOnce(Box<ureq::Error>) -> HttpError {
    move |source| HttpError::AskGuest { address, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Answers one connection with `answer` and gives back what was asked.
    fn serve(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (address, served)
    }

    #[test]
    fn a_chunked_answer_is_put_together() {
        let (address, served) = serve(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
        );
        assert_eq!(get(address, "/x", LIMIT).unwrap().json().unwrap()["a"], 1);
        let asked = served.join().unwrap().to_lowercase();
        assert!(asked.starts_with("get /x http/1.1\r\n") && asked.contains("connection: close"), "{asked}");
    }

    #[test]
    fn an_error_status_is_an_answer_and_a_redirect_is_not_followed() {
        let (address, _) = serve("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno");
        let answer = post_json(address, "/", &serde_json::json!({}), LIMIT).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (502, "no"));
        let (address, _) =
            serve("HTTP/1.1 302 Found\r\nLocation: http://198.51.100.1/\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(get(address, "/", LIMIT).unwrap().status, 302);
    }

    #[test]
    fn a_silent_server_is_an_error_after_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let started = std::time::Instant::now();
        assert!(get(listener.local_addr().unwrap(), "/", Duration::from_millis(200)).is_err());
        assert!(started.elapsed() < LIMIT);
    }
}
