//! TLS between clients and servers: a certificate for one run, and the configuration of clients that verify it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::kx_group::X25519;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;

/// The name in the certificate, which clients ask for.
const SERVER_NAME: &str = "localhost";

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls,
}

/// The certificate of the servers, and the configuration of clients that trust no other.
#[derive(Clone, Debug)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub client: Arc<ClientConfig>,
}

impl Tls {
    /// Writes a new self-signed certificate (ECDSA, P-256) and its key to this folder.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("cannot create a key")?;
        let certificate = CertificateParams::new([SERVER_NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .context("cannot create a certificate")?;
        let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert_file, certificate.pem())?;
        // Tidegate warns of keys that others may read.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&key_file)?.write_all(key.serialize_pem().as_bytes())?;
        let client = client_config(&cert_file)?;
        Ok(Self { cert_file, key_file, client })
    }
}

/// The configuration of clients that trust the certificate in this file. All servers negotiate the same: TLS 1.3 with the
/// cipher suite that browsers prefer, and a full handshake for each connection.
pub fn client_config(cert_file: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert_file)?)?;
    let provider = CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![X25519],
        ..default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A session that has not begun its handshake.
pub fn session(config: &Arc<ClientConfig>) -> Result<ClientConnection, rustls::Error> {
    let name =
        ServerName::try_from(SERVER_NAME).map_err(|error| rustls::Error::General(error.to_string()))?;
    ClientConnection::new(Arc::clone(config), name)
}
