//! The key pair that decides which images are taken: ECDSA on P-256, the kind that cosign uses unless told otherwise.
//!
//! The public key is PKIX in PEM, exactly cosign's `cosign.pub`. The private key is PKCS#8 in PEM without a password,
//! in a file that only its owner can read: cosign's own private keys are encrypted in a format of its own (scrypt and
//! secretbox), which this project has no use for, since a build server that can decrypt a key without a person has the
//! password beside it. An encrypted key is refused with that explanation, never asked a password for.

use crate::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What precedes the point in the PKIX form of every P-256 key (RFC 5480): SEQUENCE, the algorithm id-ecPublicKey with
/// the curve prime256v1, BIT STRING of 66 bytes without unused bits.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: 4, and two coordinates of 32 bytes (SEC 1, 2.3.3).
const POINT: usize = 65;
/// A key in PEM has some hundred bytes; a file that is much longer is something else.
const MAX_FILE: u64 = 16 * 1024;

/// The file that [`write_pair`] puts the private key into.
pub const PRIVATE_FILE: &str = "image.key";
/// The file that [`write_pair`] puts the public key into.
pub const PUBLIC_FILE: &str = "image.pub";

/// A key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key pair.
    #[error("no key pair could be made: the system gave no random bytes; try again")]
    Generate,
    /// The file can't be read.
    #[error(
        "can't read the key {path} ({source}): check the path, or make a pair with `cargo xtask keys DIR`"
    )]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be written.
    #[error("can't write the key {path} ({source}): name a folder without a key pair in it")]
    WriteFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a private key that can be used.
    #[error(
        "{0} is no ECDSA P-256 private key in PKCS#8 PEM without a password (\"BEGIN PRIVATE KEY\"; cosign's own \
         encrypted keys aren't read): make one with `cargo xtask keys DIR`"
    )]
    ParsePrivate(String),
    /// Not a public key that can be used.
    #[error(
        "{0} is no ECDSA P-256 public key in PEM (\"BEGIN PUBLIC KEY\", as cosign.pub is): name the .pub file"
    )]
    ParsePublic(String),
    /// No signature.
    #[error("the image could not be signed: the system gave no random bytes; try again")]
    Sign,
}

/// The private half.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl SigningKey {
    /// Reads a private key from PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::parse(pem).ok_or_else(|| KeyError::ParsePrivate("what was given".to_owned()))
    }

    /// Reads a private key from a file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read(path)?).ok_or_else(|| KeyError::ParsePrivate(path.display().to_string()))
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der(), &random);
        Some(Self { pair: pair.ok()?, random })
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let mut point = [0; POINT];
        // ring gives P-256 keys in the uncompressed form only.
        point.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(point)
    }

    /// Signs bytes: ECDSA with SHA-256, in DER.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&self.random, bytes).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// Tells nothing of the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("public", &self.public_key()).finish_non_exhaustive()
    }
}

/// The public half: whose images are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; POINT]);

impl PublicKey {
    /// Reads a public key from PEM. Whether the point is on the curve shows when a signature is checked.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::parse(pem).ok_or_else(|| KeyError::ParsePublic("what was given".to_owned()))
    }

    /// Reads a public key from a file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read(path)?).ok_or_else(|| KeyError::ParsePublic(path.display().to_string()))
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let point: [u8; POINT] = der.as_ref().strip_prefix(&SPKI_PREFIX[..])?.try_into().ok()?;
        (point[0] == 4).then_some(Self(point))
    }

    /// The key as cosign writes it.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.der())
    }

    /// SHA-256 of the key's PKIX form: the same for the same key wherever its file lies.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der())
    }

    fn der(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0[..]].concat()
    }

    /// Whether `signature` (in DER) is this key's over `bytes`.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0[..]).verify(bytes, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.fingerprint())
    }
}

/// A new key pair: the private key's PEM and the public key.
pub fn generate() -> Result<(String, PublicKey), KeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map_err(|_| KeyError::Generate)?;
    let private = pem("PRIVATE KEY", document.as_ref());
    let public = SigningKey::from_pem(private.as_bytes())?.public_key();
    Ok((private, public))
}

/// Writes a new key pair into a folder: [`PRIVATE_FILE`], which its owner alone can read, and [`PUBLIC_FILE`]. A key
/// that is there already is never replaced.
pub fn write_pair(dir: &Path) -> Result<(PathBuf, PathBuf), KeyError> {
    let (private, public) = generate()?;
    let paths = (dir.join(PRIVATE_FILE), dir.join(PUBLIC_FILE));
    fs::create_dir_all(dir).map_err(|source| KeyError::WriteFile { path: dir.to_owned(), source })?;
    // Not even the private half of a pair whose public half can't be written is left.
    if paths.1.symlink_metadata().is_ok() {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(KeyError::WriteFile { path: paths.1, source });
    }
    write(&paths.0, 0o600, &private)?;
    write(&paths.1, 0o644, &public.to_pem())?;
    Ok(paths)
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| KeyError::WriteFile { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| KeyError::ReadFile { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for start in (0..text.len()).step_by(64) {
        out += &text[start..text.len().min(start + 64)];
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_one_half_signs_the_other_verifies_and_nothing_else() {
        let (pem, public) = generate().unwrap();
        let (_, stranger) = generate().unwrap();
        let signature = SigningKey::from_pem(pem.as_bytes()).unwrap().sign(b"payload").unwrap();
        assert!(public.verifies(b"payload", &signature));
        assert!(!public.verifies(b"payloae", &signature));
        assert!(!stranger.verifies(b"payload", &signature));
        assert!(!public.verifies(b"payload", &signature[1..]));
    }

    #[test]
    fn keys_survive_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = write_pair(&dir.path().join("new")).unwrap();
        assert_eq!(SigningKey::load(&private).unwrap().public_key(), PublicKey::load(&public).unwrap());
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = write_pair(dir.path()).unwrap();
        let before = (fs::read(&private).unwrap(), fs::read(&public).unwrap());
        assert!(matches!(write_pair(dir.path()), Err(KeyError::WriteFile { .. })));
        fs::remove_file(&private).unwrap();
        assert!(matches!(write_pair(dir.path()), Err(KeyError::WriteFile { .. })));
        assert!(!private.exists(), "half a pair");
        fs::write(&private, &before.0).unwrap();
        assert_eq!((fs::read(&private).unwrap(), fs::read(&public).unwrap()), before);
    }

    #[test]
    fn what_is_not_a_key_of_this_kind_is_refused() {
        let (private, public) = generate().unwrap();
        let public = public.to_pem();
        for wrong in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &private] {
            assert!(
                matches!(PublicKey::from_pem(wrong.as_bytes()), Err(KeyError::ParsePublic(_))),
                "{wrong}"
            );
        }
        let encrypted = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
        for wrong in ["", encrypted, &public] {
            assert!(
                matches!(SigningKey::from_pem(wrong.as_bytes()), Err(KeyError::ParsePrivate(_))),
                "{wrong}"
            );
        }
        // The same curve's coordinates behind another algorithm's identifier.
        let der = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).unwrap();
        let mut other = der.as_ref().to_vec();
        other[22] ^= 1;
        assert!(PublicKey::from_pem(pem("PUBLIC KEY", &other).as_bytes()).is_err());
    }
}
