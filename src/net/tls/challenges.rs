//! `Challenges`: the certificates with which the node proves to a certificate authority that it has a name (TLS-ALPN-01,
//! RFC 8737). They are files in the cache folder: where several nodes share a name, the authority's check reaches any of
//! them.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::server::ClientHello;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::config::tls::acme::AcmeConfig;
use crate::net::tls::certificate::read_file;

/// The protocol of such a check (RFC 8737 §6.2).
pub(in crate::net) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The checks that the node can answer. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::net) struct Challenges(Arc<AcmeConfig>);

impl Challenges {
    pub(in crate::net) fn new(config: &AcmeConfig) -> Self {
        Self(Arc::new(config.clone()))
    }

    /// Whether this is such a check: it offers that one protocol (RFC 8737 §3).
    pub(in crate::net) fn is_asked_by(hello: &ClientHello<'_>) -> bool {
        hello
            .alpn()
            .is_some_and(|mut offered| offered.next() == Some(ACME_PROTOCOL) && offered.next().is_none())
    }

    /// The certificate for a check of this name; `None` if none is expected. This reads a file: checks are rare, and other
    /// clients that offer the protocol cost less than a TLS handshake.
    pub(in crate::net) fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let pem = read_file(&self.file(name)?).ok()?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok()?;
        let key = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from_pem_slice(&pem).ok()?).ok()?;
        // Not checked further: webpki refuses the critical extension that such a certificate has (RFC 8737 §3).
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }

    /// The file with the certificate and its key for the check of a name; `None` if it is none of this node's.
    pub(in crate::net) fn file(&self, name: &str) -> Option<PathBuf> {
        let name = name.to_ascii_lowercase();
        self.0.domains.contains(&name).then(|| self.0.cache_dir.join(format!("challenge-{name}.pem")))
    }
}
