//! A node for tests: TLS as the node's `control` service does it, answers as the test wants them.

use astromesh_proto::control::{ALPN, MAX_REQUEST, Request};
use astromesh_proto::frame;
use astromesh_proto::machine_config::pem;
use astromeshctl::credentials::{Credentials, GenOptions, generate};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// New credentials for a node of that id.
pub(crate) fn credentials(node: &str) -> Credentials {
    generate(&GenOptions { node: node.to_owned() }).unwrap()
}

/// Serves on a port of its own for as long as the test's process lives: for each request the bytes that `answer`
/// makes, and after them the end.
pub(crate) fn serve(
    credentials: &Credentials,
    answer: impl Fn(&Request) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let config = Arc::new(server(credentials));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(connection, stream);
            let mut bytes = Vec::new();
            let mut chunk = [0; 512];
            let request = loop {
                match frame::take::<Request>(&bytes, MAX_REQUEST) {
                    Ok(Some((request, _))) => break Some(request),
                    Ok(None) => {}
                    Err(_) => break None,
                }
                match tls.read(&mut chunk) {
                    Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
                    _ => break None,
                }
            };
            if let Some(request) = request {
                let _ = tls.write_all(&answer(&request));
            }
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    address
}

fn server(credentials: &Credentials) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    for ca in pem::decode(&credentials.ca_pem, pem::CERTIFICATE).unwrap() {
        roots.add(CertificateDer::from(ca)).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = pem::decode(&credentials.node_cert_pem, pem::CERTIFICATE).unwrap();
    let key = pem::decode(&credentials.node_key_pem, pem::PRIVATE_KEY).unwrap().remove(0);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            chain.into_iter().map(CertificateDer::from).collect(),
            PrivatePkcs8KeyDer::from(key).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}
