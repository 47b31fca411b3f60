//! Debian's `docker-registry` on a loopback port of its own, gone when it is dropped.

use super::tool;
use astromesh_oci::Digest;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// `user` with the password `secret`, as `htpasswd -B` writes it; the registry knows no other form than bcrypt.
const ACCOUNT: &str = "user:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// Where it keeps its certificate and key, if it has any.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

/// A registry.
pub struct Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    child: Option<Child>,
    log: Arc<Log>,
}

/// What it says of itself in its log, added up since it first started.
#[derive(Default)]
struct Log {
    manifests_asked: AtomicUsize,
    bytes_sent: AtomicU64,
}

impl Log {
    fn hear(&self, line: &str) {
        if !line.contains("response completed") {
            return;
        }
        if line.contains("/manifests/") {
            self.manifests_asked.fetch_add(1, Ordering::Relaxed);
        }
        let written = line.split("http.response.written=").nth(1);
        let written = written.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        self.bytes_sent.fetch_add(written.unwrap_or(0), Ordering::Relaxed);
    }
}

impl Server {
    /// An empty registry that lets everybody in.
    pub fn start() -> Self {
        Self::with("")
    }

    /// One that lets only `user` in, with the password `secret`.
    pub fn with_password() -> Self {
        Self::with("auth: {htpasswd: {realm: test, path: DIR/htpasswd}}\n")
    }

    /// A second door to what `other` holds: it speaks HTTPS, with this certificate and key in PEM.
    pub fn with_tls(other: &Self, certificate: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = other.dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink(data, dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join(CERTIFICATE), certificate).unwrap();
        std::fs::write(dir.path().join(KEY), key).unwrap();
        Self::within(dir, "")
    }

    fn with(more: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), more)
    }

    fn within(dir: tempfile::TempDir, more: &str) -> Self {
        std::fs::write(dir.path().join("htpasswd"), ACCOUNT).unwrap();
        let more = more.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("more"), more).unwrap();
        let mut server = Self { dir, address: ([127, 0, 0, 1], 0).into(), child: None, log: Arc::default() };
        server.again();
        server
    }

    /// Starts it (again, after [`Server::kill`]): at the same address, with what it holds.
    pub fn again(&mut self) {
        let dir = self.dir.path();
        let more = std::fs::read_to_string(dir.join("more")).unwrap();
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        let tls = if certificate.is_file() {
            format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display())
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: {}, secret: test{tls}}}\n{more}",
            dir.join("data").display(),
            self.address
        );
        let file = dir.join("config.yml");
        std::fs::write(&file, config).unwrap();
        let (child, address) = spawn(&file, Arc::clone(&self.log));
        self.child = Some(child);
        self.address = address;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often somebody asked for a manifest, as it logs them, since it first started.
    pub fn manifests_asked(&self) -> usize {
        self.log.manifests_asked.load(Ordering::Relaxed)
    }

    /// How many bytes of answers it wrote, without their heads, as it logs them, since it first started.
    pub fn bytes_sent(&self) -> u64 {
        self.log.bytes_sent.load(Ordering::Relaxed)
    }

    /// A place in it.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// The file in which it keeps a blob: to damage it.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Ends it at once, whatever it is doing.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the program and waits until it says where it listens.
fn spawn(config: &Path, log: Arc<Log>) -> (Child, SocketAddr) {
    // setpriv: a test that is killed leaves no registry behind.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(tool("docker-registry")).arg("serve").arg(config);
    command.env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    // Reads to the end, so that the registry never waits for a full pipe.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            log.hear(&line);
            let address = line.split("listening on ").nth(1).and_then(|rest| {
                rest.split(|character: char| matches!(character, '"' | ',') || character.is_whitespace())
                    .next()?
                    .parse()
                    .ok()
            });
            if let Some(address) = address {
                let _ = send.send(address);
            }
        }
    });
    let address = receive.recv_timeout(Duration::from_secs(30)).expect("the registry listens");
    (child, address)
}
