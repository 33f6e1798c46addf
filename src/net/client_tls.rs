//! How Tidegate verifies the servers that it connects to over TLS: nats-server, issuers of tokens, and certificate
//! authorities.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinError;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// Why a TLS client cannot be configured.
#[derive(Debug, Error)]
pub enum ClientTlsError {
    #[error("cannot read the certificates in {file}: {reason}")]
    Certificates { file: String, reason: String },
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
    #[error("the certificates were not read: {0}")]
    Stopped(#[from] JoinError),
}

/// The TLS settings of a client that trusts the CAs in this file, or those of the system. Call it for each connection, so
/// that changed certificates need no restart. A blocking thread reads and parses the CAs, about 150 on most systems,
/// because the calling thread may serve clients.
pub async fn load_client_config(ca: Option<&Path>) -> Result<ClientConfig, ClientTlsError> {
    let ca = ca.map(Path::to_owned);
    tokio::task::spawn_blocking(move || client_config(ca.as_deref())).await?
}

/// The same on this thread.
pub fn client_config(ca: Option<&Path>) -> Result<ClientConfig, ClientTlsError> {
    let roots = match ca {
        Some(file) => roots_in(file)?,
        None => system_roots(),
    };
    Ok(client_with(roots)?)
}

/// A client that trusts these CAs.
pub fn client_with(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// The CAs of the system that can be used. There may be none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_in(file: &Path) -> Result<RootCertStore, ClientTlsError> {
    let invalid = |reason: String| ClientTlsError::Certificates { file: file.display().to_string(), reason };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() { Err(invalid("it contains no certificate".to_owned())) } else { Ok(roots) }
}
