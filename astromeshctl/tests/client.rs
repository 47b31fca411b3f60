//! The promise: a client is served by the node it meant and with a certificate of the node's CA, and by nobody else.

#![allow(clippy::unwrap_used)] // Helpers of tests only; clippy.toml covers the tests themselves.

mod node;

use astromesh_proto::control::{LogLine, MAX_RESPONSE, Request, Response};
use astromesh_proto::frame::encode_vec;
use astromeshctl::client::{Client, ClientError};
use astromeshctl::credentials::Credentials;
use astromeshctl::exit;
use astromeshctl::profile::Profile;
use node::{credentials, serve};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

fn encode(response: &Response) -> Vec<u8> {
    encode_vec(response, MAX_RESPONSE).unwrap()
}

fn accepting(credentials: &Credentials) -> SocketAddr {
    serve(credentials, |_| encode(&Response::Accepted))
}

fn profile(node: &str, address: SocketAddr, ca: &Credentials, identity: Option<(&str, &str)>) -> Profile {
    let mut profile = Profile::from_pem(node, &address.to_string(), &ca.ca_pem, identity).unwrap();
    profile.timeout = Duration::from_secs(20);
    profile
}

fn own(credentials: &Credentials) -> (&str, &str) {
    (&credentials.client_cert_pem, &credentials.client_key_pem)
}

fn ask(profile: &Profile) -> Result<Response, ClientError> {
    Client::connect(profile)?.request(&Request::Reboot)
}

#[test]
fn the_operator_of_the_node_is_served() {
    let node = credentials("node-1");
    let profile = profile("node-1", accepting(&node), &node, Some(own(&node)));
    assert_eq!(ask(&profile).unwrap(), Response::Accepted);
}

#[test]
fn a_client_that_the_node_does_not_know_is_refused() {
    let node = credentials("node-1");
    let other = credentials("node-1");
    let address = accepting(&node);
    let strangers = [
        ("no certificate", None),
        ("a certificate of another CA", Some(own(&other))),
        ("the node's own certificate", Some((node.node_cert_pem.as_str(), node.node_key_pem.as_str()))),
        ("the CA itself", Some((node.ca_pem.as_str(), node.ca_key_pem.as_str()))),
    ];
    for (what, identity) in strangers {
        // Many times: the refusal comes as an alert or as a reset, whichever is first.
        for _ in 0..20 {
            let error = ask(&profile("node-1", address, &node, identity)).expect_err(what);
            assert!(matches!(error, ClientError::BeAccepted(_)), "{what}: {error}");
            assert_eq!(error.exit_code(), exit::REFUSED);
        }
    }
}

#[test]
fn a_node_that_is_not_the_one_that_was_meant_is_refused() {
    let node = credentials("node-1");
    let other = credentials("node-1");
    let address = accepting(&node);
    let mut posing = node.clone();
    posing.node_cert_pem.clone_from(&node.client_cert_pem);
    posing.node_key_pem.clone_from(&node.client_key_pem);
    let operator_poses_as_node = accepting(&posing);
    for (what, name, address, ca) in [
        ("another name", "node-2", address, &node),
        ("another CA", "node-1", address, &other),
        ("an operator's certificate", "node-1", operator_poses_as_node, &node),
    ] {
        let error = ask(&profile(name, address, ca, Some(own(&node)))).expect_err(what);
        assert!(matches!(error, ClientError::TrustNode { .. }), "{what}: {error}");
        assert_eq!(error.exit_code(), exit::REFUSED);
    }
}

#[test]
fn what_is_not_the_protocol_is_refused_without_being_read_to_the_end() {
    let node = credentials("node-1");
    let oversized = u32::try_from(MAX_RESPONSE + 1).unwrap().to_le_bytes().to_vec();
    let garbage = vec![3, 0, 0, 0, 0xff, 0xff, 0xff];
    for bytes in [oversized, garbage] {
        let address = serve(&node, move |_| bytes.clone());
        let error = ask(&profile("node-1", address, &node, Some(own(&node)))).unwrap_err();
        assert_eq!(error.exit_code(), exit::PROTOCOL, "{error}");
    }
}

#[test]
fn a_refusal_in_words_is_cleaned_and_is_not_a_refused_certificate() {
    let node = credentials("node-1");
    let address = serve(&node, |_| encode(&Response::Refused("busy\u{1b}[2J".into())));
    let error = ask(&profile("node-1", address, &node, Some(own(&node)))).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string()), (1, "the node refuses the request: busy".into()));
}

#[test]
fn a_peer_that_says_nothing_is_given_up_on_in_time() {
    let node = credentials("node-1");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut profile = profile("node-1", silent.local_addr().unwrap(), &node, Some(own(&node)));
    profile.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let error = ask(&profile).unwrap_err();
    assert!(matches!(error, ClientError::Wait { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_port_where_nobody_listens_is_unreachable() {
    let node = credentials("node-1");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = ask(&profile("node-1", address, &node, Some(own(&node)))).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}

#[test]
fn logs_come_in_order_over_many_frames_until_the_end() {
    let node = credentials("node-1");
    let address = serve(&node, |request| {
        assert_eq!(*request, Request::Logs { lines: 3, follow: true });
        let line = |at_us| LogLine { at_us, source: "init".into(), text: format!("line {at_us}") };
        [
            encode(&Response::Logs(vec![line(1), line(2)])),
            encode(&Response::Logs(vec![])),
            encode(&Response::Logs(vec![line(3)])),
            encode(&Response::End),
        ]
        .concat()
    });
    let logs =
        Client::connect(&profile("node-1", address, &node, Some(own(&node)))).unwrap().logs(3, true).unwrap();
    let times: Vec<u64> = logs.map(|line| line.unwrap().at_us).collect();
    assert_eq!(times, [1, 2, 3]);
}
