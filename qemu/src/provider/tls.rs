//! The certificate authority of a server outside the machine, made anew each time and never written anywhere.
//!
//! The certificates satisfy the strict checks of Python 3.13 (`VERIFY_X509_STRICT`): key usage on the
//! authority, and key identifiers on both. They are valid for centuries, because a guest's clock may be wrong
//! and this provider doesn't test that.

use super::error::ProviderError;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

pub(super) struct Tls {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) ca_pem: String,
}

/// An authority's certificate, and one that it issued to a server, with the key.
pub struct Certificates {
    /// The authority's, in PEM.
    pub ca_pem: String,
    /// The server's, in PEM.
    pub certificate_pem: String,
    /// The server's private key, in PEM.
    pub key_pem: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Certificates {
    /// For a server of these names: DNS names, and addresses such as `10.0.2.101`.
    pub fn issue(names: &[&str]) -> Result<Self, ProviderError> {
        let made = |error: rcgen::Error| failed(error.to_string());

        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "Astromesh test provider CA");
        let ca_key = KeyPair::generate().map_err(made)?;
        let ca_pem = ca.self_signed(&ca_key).map_err(made)?.pem();

        // rcgen makes an address of a name that is one.
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names).map_err(made)?;
        server.distinguished_name.push(DnType::CommonName, "Astromesh test provider");
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(made)?;
        let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key)).map_err(made)?;
        let der = (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Ok(Self { ca_pem, certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), der })
    }
}

pub(super) fn make(names: &[&str]) -> Result<Tls, ProviderError> {
    let Certificates { ca_pem, der: (certificate, key), .. } = Certificates::issue(names)?;
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let tls = |error: rustls::Error| failed(error.to_string());
    let config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(tls)?;
    Ok(Tls { config: Arc::new(config), ca_pem })
}

fn failed(reason: String) -> ProviderError {
    ProviderError::MakeCertificates { reason }
}
