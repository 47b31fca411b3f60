//! The sections `node`, `runtime`, `certificateAuthorities` and `operator`.

use super::error::ConfigError;
use super::names::{is_hostname, is_node_id};
use super::pem;
use super::reader::{At, Fields};
use super::types::{NodeIdentity, Operator, Profile, Runtime, Secret};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Certificates beside the image's own, and blocks in one text: more is a bundle, which belongs in an image.
const MAX_CERTIFICATES: usize = 32;

/// Where the runtime listens unless told otherwise: its interface has no authentication of its own.
const RUNTIME_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Where the control API listens unless told otherwise: it demands a client certificate.
const CONTROL_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), crate::control::DEFAULT_PORT);

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

/// That the runtime and the control API don't listen at the same place: whichever came second would not listen at all.
pub(super) fn listen_apart(
    fields: &Fields<'_>,
    operator: &Operator,
    runtime: &Runtime,
) -> Result<(), ConfigError> {
    if !overlap(operator.listen, runtime.listen) {
        return Ok(());
    }
    let at = |section: &str| {
        let section = fields.optional(section)?.open_mapping("").ok()?;
        section.optional("listen")
    };
    // At least one of the two is written out: the defaults differ.
    let (at, other) = match (at("runtime"), at("operator")) {
        (Some(at), _) => (at, "operator.listen"),
        (None, Some(at)) => (at, "runtime.listen"),
        (None, None) => (fields.required("operator", "operator access")?, "runtime.listen"),
    };
    let found = format!("{}, where both would listen", runtime.listen.port());
    Err(at.wrong_value(&format!("another port than that of `{other}`"), &found))
}

/// Whether no two sockets can listen at these: the same port, and an address that is the same or is every address. `[::]`
/// is every address of IPv4 too (ipv6(7), `IPV6_V6ONLY`).
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_places_overlap_where_one_is_in_the_other() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        for (one, other) in [
            ("0.0.0.0:7443", "127.0.0.1:7443"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:10.0.0.5]:80", "10.0.0.5:80"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("0.0.0.0:7443", "0.0.0.0:8000"),
            ("10.0.0.5:80", "10.0.0.6:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:80", "[::1]:80"),
        ] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }
}
