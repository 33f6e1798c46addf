//! `LoadedTls`: the certificates of a node and the settings that are made from them.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::SupportedProtocolVersion;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::version::TLS13;

use crate::config::tls::CertificateFiles;
use crate::config::tls::TlsConfig;
use crate::config::tls::TlsVersion;
use crate::net::tls::certificate::Certificate;
use crate::net::tls::certificate::CertificateError;
use crate::net::tls::certificate::read_file;
use crate::net::tls::challenges::ACME_PROTOCOL;
use crate::net::tls::challenges::Challenges;
use crate::net::tls::resolver::CertificateResolver;

/// The only protocol. RFC 6455 §4.2.1: the handshake is an HTTP/1.1 request, so do not negotiate HTTP/2.
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

const TLS_1_2_AND_1_3: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
const TLS_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];

/// A file of the TLS configuration that cannot be used.
#[derive(Debug, Error)]
#[error("{key}: {file} {error}")]
pub struct TlsFileError {
    /// The configuration key of the file.
    pub(in crate::net) key: String,
    /// The file, in quotation marks.
    file: String,
    error: CertificateError,
}

impl TlsFileError {
    /// What is wrong, without the key.
    pub(in crate::net) fn message(&self) -> String {
        format!("{} {}", self.file, self.error)
    }

    /// How to fix it.
    pub(in crate::net) fn help(&self) -> &'static str {
        let has_no_contents = matches!(self.error, CertificateError::Empty | CertificateError::TooLong);
        let has_no_certificate =
            matches!(self.error, CertificateError::Empty | CertificateError::NoCertificate);
        if has_no_contents && self.key.ends_with("key_file") {
            CertificateError::NoKey.help()
        } else if has_no_certificate && self.key.ends_with("ca_file") {
            "use a file with the certificates of the CAs in PEM, which begin with -----BEGIN CERTIFICATE-----"
        } else {
            self.error.help()
        }
    }
}

/// Why TLS cannot start.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// rustls refuses the settings.
    #[error("cannot use the settings of TLS: {0}")]
    Settings(#[from] rustls::Error),
}

/// What the files of a configuration contain.
#[derive(Debug)]
pub(in crate::net) struct LoadedTls {
    /// The certificates in files, in the order of the configuration.
    pub(in crate::net) certificates: Vec<Arc<Certificate>>,
    /// The one from an authority.
    pub(in crate::net) issued: Option<Arc<Certificate>>,
    pub(in crate::net) client_ca: ClientCa,
    /// Encrypts the tickets with which clients resume their sessions. Its keys change every six hours.
    ticketer: Arc<dyn ProducesTickets>,
}

/// The CAs of which each client needs a certificate.
#[derive(Debug, Default)]
pub(in crate::net) struct ClientCa {
    pem: Vec<u8>,
    /// `None`: clients need no certificate.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientCa {
    /// Whether both are from the same text.
    pub(in crate::net) fn is_same(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl LoadedTls {
    /// Reads all files.
    pub(in crate::net) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let certificates = config.certificates.iter().map(|files| read_certificate(files).map(Arc::new));
        Ok(Self {
            certificates: certificates.collect::<Result<_, _>>()?,
            issued: None,
            client_ca: read_client_ca(config)?,
            ticketer: Ticketer::new()?,
        })
    }

    /// Sets other CAs of clients. Tickets of sessions that the old ones allowed are not valid any more.
    pub(in crate::net) fn set_client_ca(&mut self, client_ca: ClientCa) -> Result<(), rustls::Error> {
        self.ticketer = Ticketer::new()?;
        self.client_ca = client_ca;
        Ok(())
    }

    /// The settings for new sessions.
    pub(in crate::net) fn server_config(&self, config: &TlsConfig) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match config.min_version {
            TlsVersion::V1_2 => &TLS_1_2_AND_1_3,
            TlsVersion::V1_3 => &TLS_1_3,
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
        let builder = match &self.client_ca.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let certificates = self.certificates.iter().chain(&self.issued);
        let resolver = CertificateResolver::new(certificates, config.acme.as_ref().map(Challenges::new));
        let mut server_config = builder.with_cert_resolver(Arc::new(resolver));
        server_config.alpn_protocols = vec![HTTP_PROTOCOL.to_vec()];
        if config.acme.is_some() {
            server_config.alpn_protocols.push(ACME_PROTOCOL.to_vec());
        }
        server_config.ticketer = Arc::clone(&self.ticketer);
        // Clients keep their sessions themselves, in tickets.
        server_config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(server_config)
    }
}

/// Reads a certificate and its key.
pub(in crate::net) fn read_certificate(files: &CertificateFiles) -> Result<Certificate, TlsFileError> {
    let in_file = |key: &str, path: &Path, error| TlsFileError {
        key: format!("{}.{key}", files.section),
        file: shown(path),
        error,
    };
    let (cert_file, key_file) = (files.cert_file.as_path(), files.key_file.as_path());
    let chain = read_file(cert_file).map_err(|error| in_file("cert_file", cert_file, error))?;
    let key = read_file(key_file).map_err(|error| in_file("key_file", key_file, error))?;
    Certificate::from_pem(&chain, &key).map_err(|error| {
        if error.is_of_key() {
            in_file("key_file", key_file, error)
        } else {
            in_file("cert_file", cert_file, error)
        }
    })
}

/// Reads the CAs of clients, if there must be any.
pub(in crate::net) fn read_client_ca(config: &TlsConfig) -> Result<ClientCa, TlsFileError> {
    let Some(path) = &config.client_ca_file else { return Ok(ClientCa::default()) };
    let client_ca = read_file(path).and_then(|pem| {
        let roots = Arc::new(read_roots(&pem)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| CertificateError::Unusable(error.to_string()))?;
        Ok(ClientCa { pem, verifier: Some(verifier) })
    });
    let key = "tls.client_ca_file".to_owned();
    client_ca.map_err(|error| TlsFileError { key, file: shown(path), error })
}

/// Checks the CAs that verify the server of an ACME directory.
pub(in crate::net) fn check_directory_ca(config: &TlsConfig) -> Result<(), TlsFileError> {
    let Some(path) = config.acme.as_ref().and_then(|acme| acme.directory_ca_file.as_ref()) else {
        return Ok(());
    };
    let key = "tls.acme.directory_ca_file".to_owned();
    let roots = read_file(path).and_then(|pem| read_roots(&pem));
    roots.map(drop).map_err(|error| TlsFileError { key, file: shown(path), error })
}

/// The certificates of CAs in PEM; at least one.
pub(in crate::net) fn read_roots(pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = roots.add(certificate.map_err(CertificateError::Pem)?);
        added.map_err(|error| CertificateError::Unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(roots) }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
