//! Promise: the launcher serves the declared agents on one address, says when it is ready, and ends as it should.
//!
//! It runs from the staged tree through the tree's own `ld.so`, on loopback with a port of the kernel's choice, against
//! a model provider that is a thread of this test.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_rootfs::{BuildOptions, REMEMBERED, build};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const READY_TIMEOUT: Duration = Duration::from_secs(90);

fn stage() -> PathBuf {
    let out = tempfile::tempdir().unwrap();
    build(&BuildOptions::new(out.path(), "0.0.0").unwrap(), &|line| eprintln!("{line}")).unwrap().stage
}

/// The launcher as `init` executes it, but through the tree's own linker.
fn launcher(config: &Path, port: u16) -> Command {
    let stage = stage();
    let mut command = Command::new(stage.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(stage.join("usr/lib/x86_64-linux-gnu"));
    command.arg(stage.join("usr/bin/python3.13")).args(["-I", "-S", "-B"]);
    command.arg(stage.join("usr/lib/astromesh/launch.pyc")).env_clear();
    command.env("ASTROMESH_CONFIG_DIR", config).env("ASTROMESH_PERSIST_AGENTS", "0");
    command.env("ASTROMESH_LISTEN", format!("127.0.0.1:{port}")).env("KEY", "secret");
    command
}

/// A runtime process and the directory it is configured from.
struct Runtime {
    child: Option<Child>,
    config: tempfile::TempDir,
    port: u16,
}

impl Runtime {
    /// Starts the runtime with one agent document.
    fn start(agent: &str) -> Self {
        Self::start_all(&[agent])
    }

    /// Starts the runtime with these agent documents.
    fn start_all(agents: &[&str]) -> Self {
        let config = tempfile::tempdir().unwrap();
        fs::create_dir(config.path().join("agents")).unwrap();
        for (number, agent) in agents.iter().enumerate() {
            fs::write(config.path().join(format!("agents/{number}.agent.yaml")), agent).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = launcher(config.path(), port);
        // Readiness is written to standard output, here a file.
        let ready = fs::File::create(config.path().join("ready")).unwrap();
        command.env("NOTIFY_FD", "1").stdin(Stdio::null()).stdout(ready).stderr(Stdio::piped());
        Self { child: Some(command.spawn().unwrap()), config, port }
    }

    /// Waits until the runtime has said that it is ready; false when it ended first.
    fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        let child = self.child.as_mut().unwrap();
        while begun.elapsed() < READY_TIMEOUT {
            if fs::read(self.config.path().join("ready")).unwrap() == b"ready\n" {
                return true;
            }
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// One request; the whole response.
    fn request(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// Sends SIGTERM and collects the end.
    fn stop(mut self) -> Output {
        let child = self.child.take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        child.wait_with_output().unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads a request to the end of its body, since closing with bytes unread would reset the connection.
fn read_request(stream: &mut TcpStream) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
}

/// A model provider that answers every request alike, and the port it listens on.
fn provider() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            let body = r#"{"id":"1","object":"chat.completion","model":"m","data":[],"choices":[{"index":0,
                "finish_reason":"stop","message":{"role":"assistant","content":"hello from the model"}}],
                "usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n";
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

fn agent(port: u16) -> String {
    format!(
        "apiVersion: astromesh/v1\nkind: Agent\nmetadata: {{name: greeter}}\nspec:\n  model:\n    primary:\n      \
         provider: openai_compat\n      model: m\n      endpoint: http://127.0.0.1:{port}/v1\n      \
         api_key_env: KEY\n  prompts: {{system: Greet.}}\n"
    )
}

#[test]
fn a_declared_agent_is_listed_runs_and_the_launcher_ends_with_0() {
    let mut runtime = Runtime::start(&agent(provider()));
    assert!(runtime.is_ready());
    assert!(runtime.request("GET /v1/health", "").starts_with("HTTP/1.1 200"));
    let agents = runtime.request("GET /v1/agents", "");
    assert!(agents.contains(r#""name":"greeter""#) && agents.contains(r#""status":"deployed""#), "{agents}");
    let doctor = runtime.request("GET /v1/system/doctor", "");
    assert!(doctor.contains(r#""healthy":true"#), "{doctor}");
    let answer = runtime.request("POST /v1/agents/greeter/run", r#"{"query":"hi","session_id":"s"}"#);
    assert!(answer.contains("hello from the model") && answer.contains(r#""tokens_in":7"#), "{answer}");
    // What the launcher imports late or replaces still works: the schema needs every deferred validator.
    assert!(runtime.request("GET /openapi.json", "").starts_with("HTTP/1.1 200"));
    let end = runtime.stop();
    assert_eq!(end.status.code(), Some(0), "{}", String::from_utf8_lossy(&end.stderr));
}

/// Runs the program that records what a start compiles on a staged tree.
fn record(stage: &Path, launcher: &Path, output: &Path) {
    let config = tempfile::tempdir().unwrap();
    fs::create_dir(config.path().join("agents")).unwrap();
    fs::write(config.path().join("agents/one.agent.yaml"), agent(1)).unwrap();
    let mut command = Command::new(stage.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(stage.join("usr/lib/x86_64-linux-gnu"));
    command.arg(stage.join("usr/bin/python3.13")).args(["-P", "-s", "-S", "-B"]).env_clear();
    command.env("ASTROMESH_CONFIG_DIR", config.path()).env("ASTROMESH_PERSIST_AGENTS", "0").env("KEY", "x");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/launcher/record.py")).arg(launcher).arg(output);
    let end = command.output().unwrap();
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
}

/// The four tables of a record: how many entries each has, and a sum of the first, which says where modules are.
fn entries(stage: &Path, record: &Path) -> (Vec<usize>, String) {
    let mut command = Command::new(stage.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(stage.join("usr/lib/x86_64-linux-gnu"));
    command.arg(stage.join("usr/bin/python3.13")).args(["-I", "-S", "-B", "-c"]).env_clear();
    let text = "import hashlib, marshal, sys\ntables = marshal.load(open(sys.argv[1], 'rb'))\n\
                print(*map(len, tables), hashlib.sha256(marshal.dumps(tables[0], 2)).hexdigest())";
    let end = command.arg(text).arg(record).output().unwrap();
    let text = String::from_utf8(end.stdout).unwrap();
    let (counts, sum) = text.trim_end().rsplit_once(' ').unwrap();
    (counts.split(' ').map(|count| count.parse().unwrap()).collect(), sum.to_owned())
}

#[test]
fn a_start_compiles_next_to_nothing_and_one_that_remembers_nothing_compiles_it_all() {
    let (stage, out) = (stage(), tempfile::tempdir().unwrap());
    let launcher = stage.join("usr/lib/astromesh/launch.pyc");
    let (kept, modules) = entries(&stage, &stage.join(REMEMBERED));
    assert!(kept.iter().zip([500, 150, 80, 200]).all(|(count, least)| *count >= least), "{kept:?}");

    // What this records is what was compiled although it could have been remembered.
    record(&stage, &launcher, &out.path().join("again"));
    let (again, same_modules) = entries(&stage, &out.path().join("again"));
    assert_eq!(modules, same_modules);
    // What is imported before the record is open: `re`, `collections` and what the recording program itself needs.
    assert!(again[1..].iter().sum::<usize>() <= 30, "{again:?}");

    // The launcher beside no record.
    let bare = out.path().join("usr/lib/astromesh");
    fs::create_dir_all(&bare).unwrap();
    fs::copy(&launcher, bare.join("launch.pyc")).unwrap();
    std::os::unix::fs::symlink(stage.join("usr/lib/astromesh/site"), bare.join("site")).unwrap();
    std::os::unix::fs::symlink(stage.join("usr/lib/python3.13"), out.path().join("usr/lib/python3.13"))
        .unwrap();
    record(&stage, &bare.join("launch.pyc"), &out.path().join("bare"));
    let (bare, _) = entries(&stage, &out.path().join("bare"));
    assert!(bare[1..].iter().zip(&kept[1..]).all(|(now, kept)| now >= kept), "{bare:?} {kept:?}");
}

#[test]
fn a_websocket_upgrade_is_answered() {
    let mut runtime = Runtime::start(&agent(1));
    assert!(runtime.is_ready());
    let mut stream = TcpStream::connect(("127.0.0.1", runtime.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head =
        "GET /v1/ws/agent/greeter HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    write!(stream, "{head}sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        .unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
}

#[test]
fn sigterm_while_starting_ends_with_0() {
    let runtime = Runtime::start(&agent(1));
    // Well inside the imports, after the launcher's first lines.
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(runtime.stop().status.code(), Some(0));
}

/// Documents that each ended the runtime's whole start: with each the name of its agent, if that can be read.
fn bad_agents() -> Vec<(Option<&'static str>, String)> {
    let of = |name: &'static str, spec: &str| {
        let head = "apiVersion: astromesh/v1\nkind: Agent\nmetadata";
        (Some(name), format!("{head}: {{name: {name}}}\n{spec}\n"))
    };
    vec![
        of("no-spec", ""),
        of("no-tools", "spec: {tools: null}"),
        of("odd-tools", "spec: {tools: [web_search]}"),
        of("odd-agent", "spec: {tools: [{type: agent, name: x, agent: [a]}]}"),
        of("itself", "spec: {tools: [{type: agent, name: x, agent: itself}]}"),
        of("nowhere", "spec: {chain: {on_complete: [{agent: absent}]}}"),
        of("odd-chain", "spec: {chain: 7}"),
        (None, "apiVersion: astromesh/v1\nmetadata: {name: \"\u{7f}\"}\n".to_owned()),
        (None, "a: [".to_owned()),
    ]
}

#[test]
fn one_bad_agent_never_takes_the_others_down() {
    let (good, bad) = (agent(provider()), bad_agents());
    let documents: Vec<&str> =
        std::iter::once(good.as_str()).chain(bad.iter().map(|(_, text)| text.as_str())).collect();
    let mut runtime = Runtime::start_all(&documents);
    assert!(runtime.is_ready());
    let agents = runtime.request("GET /v1/agents", "");
    let body = agents.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let state = |name: &str| {
        let list = body["agents"].as_array().unwrap();
        list.iter().find(|agent| agent["name"] == name).map(|agent| agent["status"].clone())
    };
    assert_eq!(state("greeter").unwrap(), "deployed");
    for name in bad.iter().filter_map(|(name, _)| *name) {
        assert_eq!(state(name).unwrap(), "draft", "{name}");
    }
    let errors = body["agents"].as_array().unwrap().iter().filter(|agent| agent["error"].is_string());
    assert_eq!(errors.count(), bad.iter().filter(|(name, _)| name.is_some()).count());
    let answer = runtime.request("POST /v1/agents/greeter/run", r#"{"query":"hi","session_id":"s"}"#);
    assert!(answer.contains("hello from the model"), "{answer}");
    let end = runtime.stop();
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(said.matches("a document can't be read").count(), 2, "{said}");
}

#[test]
fn a_start_that_fails_says_why_and_ends_with_1() {
    let config = tempfile::tempdir().unwrap();
    let end = launcher(config.path(), 1).env("ASTROMESH_LISTEN", "nowhere").output().unwrap();
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(1));
    assert!(stderr.contains("Traceback") && stderr.contains("ASTROMESH_LISTEN='nowhere'"), "{stderr}");
}

#[test]
fn an_address_that_is_taken_is_a_failed_start() {
    let mut first = Runtime::start(&agent(1));
    assert!(first.is_ready());
    let second = launcher(first.config.path(), first.port).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
}
