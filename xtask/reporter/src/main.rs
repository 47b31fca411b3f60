//! What the peer of `cargo xtask bench peer` tells of itself, since nothing outside can see it.
//!
//! It runs in the peer alone, beside what is measured, and must not be part of it: one static program of a few hundred
//! KiB that sleeps until it is asked, so that it costs a boot next to nothing and shares no page with anything. It gives
//! the kernel's own texts and judges nothing: what they mean, and that this process is left out of every count, is
//! decided on the host (`xtask/src/bench/peer/report.rs`), where it is tested.
//!
//! Two questions over HTTP, one connection each: `/idle` gives `/proc/uptime` alone, anything else all there is.
//!
//! It refuses to: write anything, open a connection, listen for anything else. The machine's network is closed; only
//! the harness reaches the port, over loopback.

use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Where it listens. The harness leaves this port out when it counts listening sockets.
const LISTEN: &str = "0.0.0.0:9100";
/// The pipe into which the launcher writes once the runtime's socket listens (its `NOTIFY_FD`).
const READY: &str = "/run/peer-ready";
/// `O_NONBLOCK` on x86-64: `/dev/kmsg` would otherwise wait for the kernel's next line.
const NONBLOCK: i32 = 0o4000;
/// A request has one line that matters; who sends none is let go.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

fn main() -> std::io::Result<()> {
    let ready: Arc<Mutex<Option<Value>>> = Arc::default();
    let seen = Arc::clone(&ready);
    thread::spawn(move || {
        // Opened for both, so that there is never an end of file before the launcher came.
        let pipe = OpenOptions::new().read(true).write(true).open(READY);
        if pipe.is_ok_and(|mut pipe| pipe.read(&mut [0; 16]).is_ok()) {
            let now = json!({ "uptime": text("/proc/uptime"), "stat": text("/proc/stat") });
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
    });
    for connection in TcpListener::bind(LISTEN)?.incoming().flatten() {
        let at = ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Who hangs up early gets no answer, and the next one does.
        let _ = serve(connection, at.as_ref());
    }
    Ok(())
}

fn serve(mut connection: TcpStream, ready: Option<&Value>) -> std::io::Result<()> {
    connection.set_read_timeout(Some(REQUEST_WITHIN))?;
    let mut reader = BufReader::new(connection.try_clone()?).take(8192);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let uptime = text("/proc/uptime");
    let body =
        if request.starts_with("GET /idle ") { json!({ "uptime": uptime }) } else { facts(&uptime, ready) };
    let body = body.to_string();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn facts(uptime: &str, ready: Option<&Value>) -> Value {
    let sockets = |name: &str| text(&format!("/proc/net/{name}"));
    // Before any program is started, so that the list holds none of ours.
    let (processes, meminfo) = (processes(), text("/proc/meminfo"));
    json!({
        "uptime": uptime,
        "ready": ready,
        "reporter": std::process::id(),
        "processes": processes,
        "meminfo": meminfo,
        "sockets": {
            "tcp": sockets("tcp"), "tcp6": sockets("tcp6"), "udp": sockets("udp"), "udp6": sockets("udp6"),
        },
        "manager": output("systemctl", &["show", "--property=UserspaceTimestampMonotonic,FinishTimestampMonotonic"]),
        "failed": output("systemctl", &["list-units", "--failed", "--plain", "--no-legend", "--no-pager"]),
        "blame": output("systemd-analyze", &["blame", "--no-pager"]),
        "chain": output("systemd-analyze", &["critical-chain", "--no-pager", "astromesh.service"]),
        "kernel": kernel_log("Run /init as init process"),
    })
}

/// Every process with pages of its own: kernel threads have none.
fn processes() -> Vec<Value> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = |pid: u32| {
        let of = |name: &str| text(&format!("/proc/{pid}/{name}"));
        let memory = of("smaps_rollup");
        (!memory.is_empty()).then(|| {
            let command = of("cmdline").replace('\0', " ");
            json!({ "pid": pid, "command": command.trim_end(), "stat": of("stat"), "memory": memory })
        })
    };
    numbers.filter_map(process).collect()
}

/// The kernel's log lines that hold `wanted`, each with its time.
fn kernel_log(wanted: &str) -> Vec<String> {
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(NONBLOCK).open("/dev/kmsg") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut record = [0; 8192];
    // One record for each read; an error is the end, or a record that was overwritten meanwhile.
    while let Ok(length @ 1..) = log.read(&mut record) {
        let line = String::from_utf8_lossy(&record[..length]);
        if line.contains(wanted) {
            found.push(line.into_owned());
        }
    }
    found
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn text(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
