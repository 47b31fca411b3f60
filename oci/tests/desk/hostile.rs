//! A way to a registry that can be made hostile: it passes requests on and changes what comes back.
//!
//! It knows just enough HTTP for that: each request gets a connection of its own to the registry, which ends with the
//! answer. Bodies of requests are those with a length.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What is done to an answer.
pub enum Fault {
    /// The connection ends here, this many times.
    Cut(usize, u32),
    /// The connection ends here, once, after this was done.
    Then(usize, Box<dyn FnMut() + Send>),
    /// Another path is asked for in its place.
    Serve(String),
    /// The body is this one.
    Body(Vec<u8>),
    /// The body never ends.
    Endless,
    /// There is no such thing.
    Missing,
    /// Parts of blobs aren't known: all of it is sent.
    Whole,
    /// This is the whole answer, with its head.
    Answer(String),
    /// Nobody is let in who doesn't say this (`Authorization`); this (`WWW-Authenticate`) is what others are told.
    Guard(String, String),
}

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// Bytes of the body that were sent.
    pub sent: usize,
}

struct State {
    upstream: SocketAddr,
    faults: Vec<(String, Fault)>,
    requests: Vec<Asked>,
    connections: usize,
}

/// The way.
pub struct Way {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Way {
    /// A way to `upstream` that changes nothing yet.
    pub fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            upstream,
            faults: Vec::new(),
            requests: Vec::new(),
            connections: 0,
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                state.lock().unwrap().connections += 1;
                // A broken connection is what it is for.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { address, state }
    }

    /// A place behind it.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// From now on, answers to paths that end in `path` suffer this.
    pub fn fault(&self, path: impl Into<String>, fault: Fault) {
        self.state.lock().unwrap().faults.push((path.into(), fault));
    }

    /// From now on, nothing is changed.
    pub fn behave(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests so far whose path ends in `path`: the range that each asked for.
    pub fn asked(&self, path: &str) -> Vec<Option<String>> {
        self.requests(path).into_iter().map(|asked| asked.range).collect()
    }

    /// The requests so far whose path ends in `path`.
    pub fn requests(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|asked| asked.path.ends_with(path)).cloned().collect()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// How many bytes of bodies were sent for requests whose path ends in `path`.
    pub fn sent(&self, path: &str) -> usize {
        self.requests(path).iter().map(|asked| asked.sent).sum()
    }
}

/// How an answer is passed on.
#[derive(Default)]
struct Plan {
    cut: Option<usize>,
    then: Option<Box<dyn FnMut() + Send>>,
    path: Option<String>,
    body: Option<Vec<u8>>,
    endless: bool,
    missing: bool,
    whole: bool,
    answer: Option<String>,
    guard: Option<(String, String)>,
}

impl State {
    fn plan(&mut self, path: &str) -> Plan {
        let mut plan = Plan::default();
        let Some(at) = self.faults.iter().position(|(end, _)| path.ends_with(end.as_str())) else {
            return plan;
        };
        let mut spent = false;
        match &mut self.faults[at].1 {
            Fault::Cut(place, times) => {
                plan.cut = Some(*place);
                *times -= 1;
                spent = *times == 0;
            }
            Fault::Then(place, action) => {
                plan.cut = Some(*place);
                plan.then = Some(std::mem::replace(action, Box::new(|| ())));
                spent = true;
            }
            Fault::Serve(other) => plan.path = Some(other.clone()),
            Fault::Body(body) => plan.body = Some(body.clone()),
            Fault::Endless => plan.endless = true,
            Fault::Missing => plan.missing = true,
            Fault::Whole => plan.whole = true,
            Fault::Answer(answer) => plan.answer = Some(answer.clone()),
            Fault::Guard(word, challenge) => plan.guard = Some((word.clone(), challenge.clone())),
        }
        if spent {
            self.faults.remove(at);
        }
        plan
    }
}

fn serve(client: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client.try_clone()?;
    loop {
        let head = head(&mut reader)?;
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let range = field(&head, "range");
        let length = field(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut sent = vec![0; length];
        reader.read_exact(&mut sent)?;
        let authorization = field(&head, "authorization");
        let (mut plan, upstream, number) = {
            let mut state = state.lock().unwrap();
            let (path, authorization) = (path.to_owned(), authorization.clone());
            state.requests.push(Asked { path: path.clone(), range, authorization, sent: 0 });
            let number = state.requests.len() - 1;
            (state.plan(&path), state.upstream, number)
        };
        if let Some((word, challenge)) = &plan.guard
            && authorization.as_ref() != Some(word)
        {
            plan.answer = Some(format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
        if let Some(answer) = &plan.answer {
            client.write_all(answer.as_bytes())?;
            continue;
        }
        if plan.missing {
            client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        if plan.endless {
            client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let spaces = vec![b' '; 65536];
            loop {
                client.write_all(&spaces)?;
            }
        }
        let mut upstream = TcpStream::connect(upstream)?;
        let target = plan.path.as_deref().unwrap_or(path);
        let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        let passed = |line: &&String| {
            let line = line.to_ascii_lowercase();
            !(line.starts_with("connection:") || plan.whole && line.starts_with("range:"))
        };
        for line in head[1..].iter().filter(passed) {
            request.extend([line, "\r\n"]);
        }
        upstream.write_all(format!("{request}\r\n").as_bytes())?;
        upstream.write_all(&sent)?;
        let mut answer = BufReader::new(upstream);
        let answered = self::head(&mut answer)?;
        let mut body = Vec::new();
        if method != "HEAD" {
            // Small enough for memory: these are tests.
            answer.read_to_end(&mut body)?;
        }
        if let Some(other) = plan.body.take() {
            body = other;
        }
        let length = if method == "HEAD" { field(&answered, "content-length") } else { None };
        let length = length.unwrap_or_else(|| body.len().to_string());
        let mut text = format!("{}\r\nContent-Length: {length}\r\n", answered[0]);
        // What would give the change away to any client that looked at it is dropped.
        let kept = |line: &&String| {
            let line = line.to_ascii_lowercase();
            !["content-length:", "connection:", "docker-content-digest:", "etag:"]
                .iter()
                .any(|name| line.starts_with(name))
        };
        for line in answered[1..].iter().filter(kept) {
            text.extend([line, "\r\n"]);
        }
        client.write_all(format!("{text}\r\n").as_bytes())?;
        let end = plan.cut.unwrap_or(body.len()).min(body.len());
        if method != "HEAD" {
            state.lock().unwrap().requests[number].sent = end;
        }
        client.write_all(&body[..end])?;
        if let Some(action) = &mut plan.then {
            action();
        }
        if plan.cut.is_some() {
            return client.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// The lines before the empty one; an error at the end of the connection.
fn head(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => return Ok(lines),
            text => lines.push(text.to_owned()),
        }
    }
}

fn field(head: &[String], name: &str) -> Option<String> {
    head.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
