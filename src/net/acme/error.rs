//! `AcmeError`: why no certificate was ordered.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::net::tls::certificate::CertificateError;

/// The type of problem (RFC 8555 §6.7) when there are too many requests.
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

/// Why no certificate was ordered, or why a cached one cannot be used.
#[derive(Debug, Error)]
pub enum AcmeError {
    #[error("\"{path}\": {source}", path = .path.display())]
    Cache { path: PathBuf, source: io::Error },
    #[error("\"{path}\" {source}", path = .path.display())]
    CachedCertificate { path: PathBuf, source: CertificateError },
    #[error("\"{path}\" has no account of an authority", path = .path.display())]
    CachedAccount { path: PathBuf },
    #[error("tls.acme.directory_ca_file: {0}")]
    DirectoryCa(CertificateError),
    /// No CA of the system can be used.
    #[error("the system has no CA certificates")]
    NoRoots,
    /// It would be ordered again at once.
    #[error("the new certificate must be renewed at once")]
    DueAtOnce,
    #[error("the certificate authority answers: {0}")]
    Authority(#[from] instant_acme::Error),
    #[error("the certificate authority does not offer the check TLS-ALPN-01 for {0}")]
    NoChallenge(String),
    #[error("the certificate authority could not check {domain}: {reason}")]
    Check { domain: String, reason: String },
    #[error("cannot make a key or a request for a certificate: {0}")]
    Key(String),
}

impl AcmeError {
    /// How to fix it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Cache { .. } => "check that the account of Tidegate may write to tls.acme.cache_dir",
            Self::CachedCertificate { .. } | Self::CachedAccount { .. } => "remove that file",
            Self::DirectoryCa(_) | Self::NoRoots => {
                "check tls.acme.directory_ca_file, or install ca-certificates"
            }
            Self::DueAtOnce => "check the clock of this machine",
            Self::Authority(_) => "check tls.acme.directory_url and the network",
            Self::NoChallenge(_) => "use another authority, or certificates in files",
            Self::Check { .. } => {
                "the name must lead to this node, with port 443 forwarded to its TLS listener"
            }
            Self::Key(_) => "report this as a bug in Tidegate",
        }
    }

    /// Whether the authority has had too many requests.
    pub(super) fn is_rate_limit(&self) -> bool {
        matches!(self, Self::Authority(instant_acme::Error::Api(problem))
            if problem.r#type.as_deref() == Some(RATE_LIMITED))
    }
}
