//! The promise: what the command prints and how it exits is what `--help` says.

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod node;

use astromesh_proto::control::{
    Check, LogLine, MAX_RESPONSE, Mode, Request, Response, Service, Stage, StageOutcome, Status,
};
use astromesh_proto::frame::encode_vec;
use astromesh_proto::machine_config::{MAX_DOCUMENT, MachineConfig};
use astromesh_proto::update::{Attempt, Release, State, Step, UpdateAnswer, UpdateRequest};
use astromeshctl::template;
use node::{credentials, serve};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astromeshctl"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn answer(request: &Request, green: bool) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(Status {
            node: "node-1".into(),
            hostname: "node-1".into(),
            version: "0.1.0".into(),
            mode: Mode::Running,
            healthy: green,
            reason: "as it is\u{1b}[2J".into(),
            root_hash: "ab".repeat(32),
            uptime_ms: 61_000,
            addresses: vec!["10.0.2.15/24".into()],
            services: vec![Service {
                name: "init".into(),
                pid: 1,
                restarts: 0,
                rss_kib: 1500,
                pss_kib: 1400,
            }],
            memory_total_kib: 1_000_000,
            memory_available_kib: 900_000,
        })),
        Request::Doctor => Response::Doctor(vec![
            Check { name: "root".into(), ok: true, detail: "verified".into(), hint: String::new() },
            Check {
                name: "runtime".into(),
                ok: green,
                detail: "\u{1b}]0;x\u{7}seen".into(),
                hint: "look".into(),
            },
        ]),
        Request::Boot => Response::Boot(vec![
            Stage {
                name: "early".into(),
                started_us: 900_000,
                took_us: 40_000,
                idle_us: 0,
                outcome: StageOutcome::Done,
                note: String::new(),
            },
            Stage {
                name: "<agent>".into(),
                started_us: 940_000,
                took_us: 9_000_000,
                idle_us: 0,
                outcome: StageOutcome::Degraded,
                note: "slow".into(),
            },
        ]),
        Request::Logs { .. } => Response::Logs(vec![LogLine {
            at_us: 1_500_000,
            source: "agent".into(),
            text: "a\u{1b}[31mb".into(),
        }]),
        Request::Reboot | Request::Poweroff | Request::RestartAgent => Response::Accepted,
        Request::Update(request) => Response::Update(about_updates(request, green)),
    }
}

fn about_updates(request: &UpdateRequest, green: bool) -> UpdateAnswer {
    let release = Release {
        version: "0.2.0".parse().unwrap(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        root_hash: "cd".repeat(32),
        kernel: "6.12\u{1b}[2J".into(),
        runtime: "0.74.1".into(),
        size: 36_000_000,
    };
    match request {
        _ if !green => UpdateAnswer::Refused("nothing to install: 0.2.0 runs already".into()),
        UpdateRequest::Check(_) | UpdateRequest::Apply { dry_run: true, .. } => UpdateAnswer::Found(release),
        UpdateRequest::Apply { .. } | UpdateRequest::Rollback => {
            UpdateAnswer::Done("the node reboots".into())
        }
        UpdateRequest::State => UpdateAnswer::State(Box::new(State {
            slots: None,
            peak_kib: 0,
            policy: "registry.example.com/os, channel stable".into(),
            attempts: vec![Attempt {
                release,
                from: "0.1.0".parse().unwrap(),
                began: 0,
                outcome: astromesh_proto::update::Outcome::RolledBack,
                reason: "it was tried 3 times".into(),
                moved: 5,
                reused: 7,
                interruptions: 0,
            }],
        })),
    }
}

/// A folder with what `gen config` writes, for a node that answers.
fn operated(green: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let credentials = credentials("node-1");
    template::write(folder.path(), &credentials, false).unwrap();
    let address = serve(&credentials, move |request| {
        let mut bytes = Vec::new();
        if matches!(request, Request::Update(UpdateRequest::Apply { .. })) {
            let progress = UpdateAnswer::Progress { step: Step::Fetch, done: 1, total: 2 };
            bytes.extend(encode_vec(&Response::Update(progress), MAX_RESPONSE).unwrap());
        }
        bytes.extend(encode_vec(&answer(request, green), MAX_RESPONSE).unwrap());
        if matches!(request, Request::Logs { .. }) {
            bytes.extend(encode_vec(&Response::End, MAX_RESPONSE).unwrap());
        }
        bytes
    });
    let file = folder.path().join("astromeshctl.toml");
    let profile = std::fs::read_to_string(&file).unwrap().replace("127.0.0.1:7443", &address.to_string());
    std::fs::write(file, profile).unwrap();
    folder
}

#[test]
fn gen_config_writes_what_the_node_accepts_and_keeps_keys_private() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["gen", "config", "--node", "edge-7", "--out", "new"]);
    assert_eq!(code(&made), 0, "{}", text(&made.stderr));
    let out = folder.path().join("new");
    for (name, mode) in [
        ("ca.pem", 0o644),
        ("ca.key", 0o600),
        ("operator.pem", 0o644),
        ("operator.key", 0o600),
        ("machine-config.yaml", 0o600),
        ("astromeshctl.toml", 0o644),
    ] {
        let found = std::fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{name} is {found:o}");
    }
    let config = MachineConfig::parse(&std::fs::read(out.join("machine-config.yaml")).unwrap()).unwrap();
    assert_eq!(config.node.id, "edge-7");
    assert_eq!(config.agents[0].name, "assistant");
    let valid = run(&out, &["config", "validate", "machine-config.yaml"]);
    assert_eq!(code(&valid), 0, "{}", text(&valid.stderr));

    let before = std::fs::read(out.join("ca.key")).unwrap();
    let again = run(folder.path(), &["gen", "config", "--out", "new"]);
    assert_eq!(code(&again), 2);
    assert!(text(&again.stderr).contains("--force"));
    assert_eq!(std::fs::read(out.join("ca.key")).unwrap(), before);
    assert_eq!(code(&run(folder.path(), &["gen", "config", "--out", "new", "--force"])), 0);
    assert_ne!(std::fs::read(out.join("ca.key")).unwrap(), before);
}

#[test]
fn gen_config_refuses_an_id_that_the_node_would_refuse_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for bad in ["Node", "-a", "123", "a b", "a\nb: c", ""] {
        let made = run(folder.path(), &["gen", "config", &format!("--node={bad}"), "--out", "new"]);
        assert_eq!(code(&made), 2, "{bad:?}");
        assert!(!folder.path().join("new").exists());
    }
}

#[test]
fn config_validate_points_at_the_line_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let good = template::machine_config(&credentials("node-1"));
    let bad = good.replace("apiKey: \"replace-me\"", "apiKey: \"sk secret\"");
    std::fs::write(folder.path().join("bad.yaml"), bad).unwrap();
    let refused = run(folder.path(), &["config", "validate", "bad.yaml"]);
    let report = text(&refused.stderr);
    assert_eq!(code(&refused), 2);
    assert!(report.contains("providers[0].apiKey") && report.contains('^'), "{report}");
    assert!(!report.contains("sk secret"), "{report}");

    let refused = run(folder.path(), &["-o", "json", "config", "validate", "bad.yaml"]);
    let value: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&value["valid"], &value["path"]), (&json!(false), &json!("providers[0].apiKey")));
    assert!(value["line"].is_u64());

    std::fs::write(folder.path().join("big.yaml"), vec![b'#'; MAX_DOCUMENT + 10]).unwrap();
    let refused = run(folder.path(), &["config", "validate", "big.yaml"]);
    assert!(text(&refused.stderr).contains("1 MiB"));
    assert_eq!(code(&run(folder.path(), &["config", "validate", "none.yaml"])), 2);
    // Standard input, which is empty here.
    assert!(text(&run(folder.path(), &["config", "validate", "-"]).stderr).contains("empty document"));
}

#[test]
fn doctor_exits_0_only_when_all_is_green() {
    let (green, red) = (operated(true), operated(false));
    for (folder, expected) in [(&green, 0), (&red, 1)] {
        let table = run(folder.path(), &["doctor"]);
        assert_eq!(code(&table), expected, "{}", text(&table.stderr));
        assert!(
            !text(&table.stdout).contains('\u{1b}'),
            "neither colour nor an escape of the node in a pipe"
        );
        let answer = run(folder.path(), &["doctor", "-o", "json"]);
        assert_eq!(code(&answer), expected);
        let value: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(value["ok"], json!(expected == 0));
        assert_eq!(value["checks"][1]["name"], "runtime");
    }
}

#[test]
fn status_exits_1_on_an_unhealthy_node_only_when_asked_to() {
    let red = operated(false);
    let table = run(red.path(), &["status"]);
    assert_eq!(code(&table), 0);
    assert!(text(&table.stdout).contains("not healthy") && !text(&table.stdout).contains('\u{1b}'));
    assert_eq!(code(&run(red.path(), &["status", "--check"])), 1);
    let value: Value = serde_json::from_slice(&run(red.path(), &["status", "-o", "json"]).stdout).unwrap();
    assert_eq!((&value["node"], &value["mode"]), (&json!("node-1"), &json!("Running")));
}

#[test]
fn boot_draws_a_timeline_and_a_picture() {
    let folder = operated(true);
    let table = run(folder.path(), &["boot", "--svg", "boot.svg"]);
    let shown = text(&table.stdout);
    assert_eq!(code(&table), 0, "{}", text(&table.stderr));
    assert!(shown.contains('█') && shown.contains("degraded") && shown.contains("9000.0"), "{shown}");
    let picture = std::fs::read_to_string(folder.path().join("boot.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("&lt;agent&gt;"));
    let value: Value = serde_json::from_slice(&run(folder.path(), &["boot", "-o", "json"]).stdout).unwrap();
    assert_eq!(value["stages"][1]["took_us"], 9_000_000);
}

#[test]
fn logs_are_lines_without_what_a_terminal_obeys() {
    let folder = operated(true);
    let lines = run(folder.path(), &["logs", "-n", "1"]);
    assert_eq!(text(&lines.stdout), "[     1.500000] agent    ab\n");
    let value: Value = serde_json::from_slice(&run(folder.path(), &["logs", "-o", "json"]).stdout).unwrap();
    assert_eq!(value["text"], "a\u{1b}[31mb");
}

#[test]
fn what_changes_the_node_says_that_it_was_accepted() {
    let folder = operated(true);
    for verb in ["restart-agent", "reboot", "poweroff"] {
        let value: Value = serde_json::from_slice(&run(folder.path(), &[verb, "-o", "json"]).stdout).unwrap();
        assert_eq!(value, json!({ "accepted": true }));
    }
}

#[test]
fn each_way_of_not_reaching_a_node_has_its_exit_code() {
    let folder = operated(true);
    let stranger = tempfile::tempdir().unwrap();
    template::write(stranger.path(), &credentials("node-1"), false).unwrap();
    let file = |name: &str| stranger.path().join(name).display().to_string();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let foreign = serve(&credentials("x"), |_| vec![]);
    let cases: [(&[&str], i32, &str); 6] = [
        (&["doctor", "--endpoint", &nobody], 3, "can't reach"),
        (
            &["doctor", "--cert", &file("operator.pem"), "--key", &file("operator.key")],
            4,
            "refuses this client",
        ),
        (&["doctor", "--node", "node-2"], 4, "is not the node node-2"),
        (&["doctor", "--endpoint", &foreign.to_string()], 4, "is not the node"),
        (&["doctor", "--config", "none.toml"], 2, "gen config"),
        (&["doctor", "--timeout", "0"], 2, "seconds"),
    ];
    for (arguments, expected, words) in cases {
        let output = run(folder.path(), arguments);
        let said = text(&output.stderr);
        assert_eq!(code(&output), expected, "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let help = text(&run(Path::new("/"), &["--help"]).stdout);
    for code in 0..=5 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
}

#[test]
fn update_shows_releases_and_attempts_and_exits_1_when_the_node_refuses() {
    let (good, bad) = (operated(true), operated(false));
    let check = run(good.path(), &["update", "check"]);
    assert_eq!(code(&check), 0);
    assert!(text(&check.stdout).contains("36000000") && !text(&check.stdout).contains('\u{1b}'));
    let history = run(good.path(), &["update", "history"]);
    assert!(text(&history.stdout).contains("rolled back") && text(&history.stdout).contains("5 of 36000000"));
    let status = run(good.path(), &["update", "status", "-o", "json"]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["State"]["attempts"][0]["outcome"], "RolledBack");
    let apply = run(good.path(), &["update", "apply"]);
    assert_eq!((code(&apply), text(&apply.stderr).trim()), (0, "fetching"));
    for arguments in [&["update", "check"][..], &["update", "apply"], &["update", "rollback"]] {
        let refused = run(bad.path(), arguments);
        assert_eq!(code(&refused), 1, "{arguments:?}");
        assert!(text(&refused.stdout).is_empty() && text(&refused.stderr).contains("runs already"));
    }
}
