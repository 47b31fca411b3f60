//! The sections `node`, `runtime`, `certificateAuthorities` and `operator`.

use super::error::ConfigError;
use super::names::{is_hostname, is_node_id};
use super::pem;
use super::reader::At;
use super::types::{NodeIdentity, Operator, Profile, Runtime, Secret};
use std::net::{Ipv4Addr, SocketAddr};

/// Certificates beside the image's own, and blocks in one text: more is a bundle, which belongs in an image.
const MAX_CERTIFICATES: usize = 32;

/// Where the runtime listens unless told otherwise: its interface has no authentication of its own.
const RUNTIME_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Where the control API listens unless told otherwise: it demands a client certificate.
const CONTROL_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), crate::control::DEFAULT_PORT);

pub(super) fn node(at: &At<'_>) -> Result<NodeIdentity, ConfigError> {
    let fields = at.mapping(&["id", "hostname"])?;
    let expected = "a name of 1 to 63 lower-case letters, digits and inner hyphens, not all digits";
    let id =
        fields.required("id", expected)?.parse(expected, |text| is_node_id(text).then(|| text.to_owned()))?;
    let hostname = match fields.optional("hostname") {
        None => id.clone(),
        Some(at) => at.parse("a host name (RFC 1123) of at most 64 bytes", |text| {
            is_hostname(text, crate::ipc::MAX_HOSTNAME).then(|| text.to_owned())
        })?,
    };
    Ok(NodeIdentity { id, hostname })
}

pub(super) fn runtime(at: Option<&At<'_>>) -> Result<Runtime, ConfigError> {
    let mut runtime = Runtime { profile: Profile::Full, listen: RUNTIME_LISTEN };
    let Some(at) = at else {
        return Ok(runtime);
    };
    let fields = at.mapping(&["profile", "listen"])?;
    if let Some(profile) = fields.optional("profile") {
        let text = profile.text("a profile: full")?;
        runtime.profile =
            profile.parse("full", |text| (text == "full").then_some(Profile::Full)).map_err(|error| {
                if matches!(text, "gateway" | "worker" | "inference") {
                    error.hint("this profile needs several nodes, which this release can't join: use `full`")
                } else {
                    error
                }
            })?;
    }
    if let Some(listen) = fields.optional("listen") {
        runtime.listen = socket(&listen)?;
    }
    Ok(runtime)
}

pub(super) fn certificate_authorities(at: &At<'_>) -> Result<Vec<String>, ConfigError> {
    let items = at.list("a list of at most 32 certificates in PEM", 0, MAX_CERTIFICATES)?;
    items.iter().map(certificates).collect()
}

pub(super) fn operator(at: &At<'_>) -> Result<Operator, ConfigError> {
    let fields = at.mapping(&["ca", "certificate", "key", "listen"])?;
    let ca = certificates(&fields.required("ca", "the operator's CA in PEM")?)?;
    let certificate = certificates(&fields.required("certificate", "the node's certificate in PEM")?)?;
    let key = fields.required("key", "the node's private key in PEM")?;
    let text = key.text("a private key in PEM (PKCS#8)")?;
    match pem::decode(text, pem::PRIVATE_KEY).as_deref() {
        Ok([_]) => {}
        Ok(_) => return Err(key.wrong_value("one private key", "several")),
        Err(error) => {
            let error = key.wrong_value(
                "a `-----BEGIN PRIVATE KEY-----` block (PKCS#8, unencrypted)",
                &error.to_string(),
            );
            return Err(error.hint("convert it with: openssl pkcs8 -topk8 -nocrypt"));
        }
    }
    let listen = match fields.optional("listen") {
        None => CONTROL_LISTEN,
        Some(at) => socket(&at)?,
    };
    Ok(Operator { ca, certificate, key: Secret::new(text), listen })
}

/// One or more certificates in PEM; what is found instead is never repeated, since a key may stand there.
fn certificates(at: &At<'_>) -> Result<String, ConfigError> {
    let text = at.text("certificates in PEM")?;
    match pem::decode(text, pem::CERTIFICATE) {
        Ok(blocks) if blocks.len() <= MAX_CERTIFICATES => Ok(text.to_owned()),
        Ok(blocks) => Err(at.wrong_value("at most 32 certificates", &format!("{} blocks", blocks.len()))),
        Err(error) => Err(at
            .wrong_value("`-----BEGIN CERTIFICATE-----` blocks", &error.to_string())
            .hint("paste the whole PEM under `|`, indented deeper than its key")),
    }
}

fn socket(at: &At<'_>) -> Result<SocketAddr, ConfigError> {
    at.parse("an address with a port, such as 0.0.0.0:7443 or \"[::]:7443\"", |text| {
        text.parse::<SocketAddr>().ok().filter(|socket| socket.port() != 0 && !socket.ip().is_multicast())
    })
}
