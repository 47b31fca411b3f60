//! Certificates for operating one node: a CA of the operator's own, a client certificate, a server certificate.
//!
//! The same CA signs both, so what each may be used for is said in it (extended key usage): a stolen node key
//! can't operate another node, and an operator's key can't pose as a node. The node's certificate names the node's id
//! and nothing else; addresses change and aren't identity.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the CA, and with it everything it signed, is valid: ten years. There is no revocation in phase 0:
/// a lost key means a new CA.
const VALID: Duration = Duration::from_hours(3652 * 24);

/// How far validity begins in the past, since a node's clock may be a little behind.
const BACKDATED: Duration = Duration::from_hours(24);

/// What to make credentials for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenOptions {
    /// The node's id: the only name in its certificate.
    pub node: String,
}

/// All that operator and node need, in PEM. No `Debug`: most of it is secret.
#[derive(Clone)]
pub struct Credentials {
    /// The node's id.
    pub node: String,
    /// The operator's CA.
    pub ca_pem: String,
    /// Its key, which signs further certificates and is needed for nothing else.
    pub ca_key_pem: String,
    /// The operator's client certificate.
    pub client_cert_pem: String,
    /// Its key.
    pub client_key_pem: String,
    /// The node's server certificate.
    pub node_cert_pem: String,
    /// Its key.
    pub node_key_pem: String,
}

/// Why credentials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// the clock is before 1970
    #[error("can't date certificates: this machine's clock is before 1970; set it")]
    ReadClock,
    /// a certificate could not be made
    #[error("can't make the certificate of {subject}: {source}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// Makes new credentials: a new CA each time.
pub fn generate(options: &GenOptions) -> Result<Credentials, CredentialsError> {
    let node = options.node.clone();
    let ca_name = format!("Astromesh operator CA for {node}");
    let ca_key = key(&ca_name)?;
    let mut ca = params(&ca_name)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key_pem = ca_key.serialize_pem();
    let issuer = CertifiedIssuer::self_signed(ca, ca_key)
        .map_err(|source| CredentialsError::Sign { subject: ca_name, source })?;

    let client = params("operator")?;
    let (client_cert_pem, client_key_pem) =
        signed(client, "operator", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    let mut server = params(&node)?;
    let name =
        node.clone().try_into().map_err(|source| CredentialsError::Sign { subject: node.clone(), source })?;
    server.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
    let (node_cert_pem, node_key_pem) = signed(server, &node, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    Ok(Credentials {
        node,
        ca_pem: issuer.pem(),
        ca_key_pem,
        client_cert_pem,
        client_key_pem,
        node_cert_pem,
        node_key_pem,
    })
}

/// A certificate for one purpose and its new key, in PEM.
fn signed(
    mut params: CertificateParams,
    subject: &str,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(String, String), CredentialsError> {
    let key = key(subject)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(&key, issuer)
        .map_err(|source| CredentialsError::Sign { subject: subject.to_owned(), source })?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// ECDSA on P-256: what every TLS library verifies, and small.
fn key(subject: &str) -> Result<KeyPair, CredentialsError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| CredentialsError::Sign { subject: subject.to_owned(), source })
}

fn params(subject: &str) -> Result<CertificateParams, CredentialsError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| CredentialsError::ReadClock)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + now + VALID;
    Ok(params)
}
