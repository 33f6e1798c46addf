//! `Certificate`: a certificate chain with its key, ready for TLS handshakes.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use thiserror::Error;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use crate::net::tls::validity::Validity;

/// More than any certificate chain needs.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Certificate {
    pub(in crate::net) key: Arc<CertifiedKey>,
    /// Its DNS names in lower case; `*.` begins those that are wildcards.
    pub(in crate::net) names: Vec<String>,
    pub(in crate::net) validity: Validity,
}

/// Why a certificate and its key cannot be used. The texts continue a sentence that begins with the name of the file.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is empty")]
    Empty,
    #[error("is too long for a certificate or a key")]
    TooLong,
    #[error("has no certificate in PEM")]
    NoCertificate,
    #[error("has no private key in PEM")]
    NoKey,
    #[error("has an encrypted private key")]
    EncryptedKey,
    #[error("is not valid PEM: {0}")]
    Pem(pem::Error),
    #[error("has a private key that is not valid PEM: {0}")]
    KeyPem(pem::Error),
    #[error("does not belong to the private key")]
    Mismatch,
    #[error("begins with another certificate than that of the private key")]
    WrongOrder,
    #[error("cannot be used: {0}")]
    Unusable(String),
    #[error("expired on {0}")]
    Expired(String),
    #[error("is not valid before {0}")]
    NotYetValid(String),
}

impl CertificateError {
    /// Whether the file with the key is wrong, and not that with the certificate.
    pub(in crate::net) fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::EncryptedKey | Self::KeyPem(_))
    }

    /// How to fix it.
    pub(in crate::net) fn help(&self) -> &'static str {
        match self {
            Self::Read(_) => "name a file that exists and that the account of Tidegate may read",
            Self::Empty | Self::TooLong | Self::NoCertificate | Self::Pem(_) => {
                "use a file in PEM: certificates begin with -----BEGIN CERTIFICATE-----, the server's own comes first"
            }
            Self::NoKey | Self::KeyPem(_) => {
                "use the private key in PEM, which begins with -----BEGIN PRIVATE KEY-----"
            }
            Self::EncryptedKey => {
                "write it without a password, and readable by Tidegate only: openssl pkey -in key.pem -out plain.pem"
            }
            Self::Mismatch => "use the certificate and the key that were made together",
            Self::WrongOrder => {
                "put the server's own certificate first, and after it the certificates of the CAs, each before the one that \
                 has signed it"
            }
            Self::Unusable(_) => "use an X.509 certificate with an RSA, ECDSA or Ed25519 key",
            Self::Expired(_) => "renew the certificate",
            Self::NotYetValid(_) => "check the clock of this machine, or use an older certificate",
        }
    }
}

impl Certificate {
    /// Reads a chain from PEM, the server's own certificate first, and its private key.
    pub(in crate::net) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(CertificateError::Pem)?;
        Self::new(chain, private_key(key)?)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let own = chain.first().ok_or(CertificateError::NoCertificate)?;
        let unusable = |reason: &dyn ToString| CertificateError::Unusable(reason.to_string());
        let parsed = EndEntityCert::try_from(own).map_err(|error| unusable(&error))?;
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let validity = Validity::of(own).ok_or_else(|| unusable(&"its dates are unreadable"))?;
        let provider = aws_lc_rs::default_provider();
        let others = chain.get(1..).unwrap_or_default().to_vec();
        let key = CertifiedKey::from_der(chain, key.clone_key(), &provider).map_err(|error| {
            let is_of_key = |other| CertifiedKey::from_der(vec![other], key.clone_key(), &provider).is_ok();
            if !matches!(error, rustls::Error::InconsistentKeys(_)) {
                unusable(&error)
            } else if others.iter().cloned().any(is_of_key) {
                CertificateError::WrongOrder
            } else {
                CertificateError::Mismatch
            }
        })?;
        Ok(Self { key: Arc::new(key), names, validity })
    }

    /// An error if it is not valid at this time.
    pub(in crate::net) fn check_validity(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now > self.validity.not_after {
            return Err(CertificateError::Expired(date(self.validity.not_after)));
        }
        if now < self.validity.not_before {
            return Err(CertificateError::NotYetValid(date(self.validity.not_before)));
        }
        Ok(())
    }

    /// Whether it is the same certificate, with the same chain.
    pub(in crate::net) fn is_same(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }

    /// Its first name, for the log.
    pub(in crate::net) fn name(&self) -> &str {
        self.names.first().map_or("a certificate without a name", String::as_str)
    }
}

fn private_key(key: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| contains(key, mark));
    PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        if is_encrypted {
            CertificateError::EncryptedKey
        } else if matches!(error, pem::Error::NoItemsFound) {
            CertificateError::NoKey
        } else {
            CertificateError::KeyPem(error)
        }
    })
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

/// Reads a file with certificates or a key.
pub(in crate::net) fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(CertificateError::Read)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(CertificateError::Read)?;
    match bytes.len() as u64 {
        0 => Err(CertificateError::Empty),
        length if length > MAX_FILE_BYTES => Err(CertificateError::TooLong),
        _ => Ok(bytes),
    }
}

/// The day of a time, as `2026-11-30`.
pub(in crate::net) fn date(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string().chars().take_while(|c| *c != 'T').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn names_are_those_of_the_certificate_in_lower_case() {
        let (chain, key) = made(&["Live.Example.com", "*.example.com"]);
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(certificate.names, ["live.example.com", "*.example.com"]);
        assert_eq!(certificate.name(), "live.example.com");
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let ((chain, key), (other, _)) = (made(&["a.example"]), made(&["b.example"]));
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let error = |chain: &str, key: &str| {
            Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(error("", &key), "has no certificate in PEM");
        assert_eq!(error(&key, &key), "has no certificate in PEM");
        assert_eq!(error(&chain, &chain), "has no private key in PEM");
        assert_eq!(error(&chain, &encrypted), "has an encrypted private key");
        assert_eq!(error(&other, &key), "does not belong to the private key");
        let other_first = "begins with another certificate than that of the private key";
        assert_eq!(error(&format!("{other}{chain}"), &key), other_first);
        assert!(error(&chain[..chain.len() / 2], &key).starts_with("is not valid PEM: "));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(error(nonsense, &key).starts_with("cannot be used: "));
    }
}
