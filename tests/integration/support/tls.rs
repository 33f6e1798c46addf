//! A TLS client of the tests.

use std::io;
use std::sync::Arc;

use tidegate::config::tls::CertificateFiles;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::version::TLS13;

use crate::support::within;

/// The settings of a TLS client. Clones share their session tickets.
#[derive(Clone)]
pub(crate) struct TlsClient {
    roots: Arc<RootCertStore>,
    certificate: Option<CertificateFiles>,
    tls_1_2_only: bool,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts the CAs in this PEM.
    pub(crate) fn new(ca: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let roots = Arc::new(roots);
        let config = config(&roots, None, false);
        Self { roots, certificate: None, tls_1_2_only: false, config }
    }

    pub(crate) fn with_tls_1_2_only(mut self) -> Self {
        self.tls_1_2_only = true;
        self.config = config(&self.roots, self.certificate.as_ref(), true);
        self
    }

    /// Offers HTTP/1.1 only, to servers that would choose HTTP/2.
    pub(crate) fn with_http_1_1_only(mut self) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![b"http/1.1".to_vec()];
        self
    }

    /// Shows this certificate to the server.
    pub(crate) fn with_certificate(mut self, files: &CertificateFiles) -> Self {
        self.certificate = Some(files.clone());
        self.config = config(&self.roots, self.certificate.as_ref(), self.tls_1_2_only);
        self
    }

    /// Starts TLS over a stream, and verifies the server's certificate.
    pub(crate) async fn try_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let name = name.to_owned().try_into().unwrap();
        within("a TLS handshake", connector.connect(name, stream)).await
    }

    /// The same, which must succeed.
    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        stream: S,
    ) -> TlsStream<S> {
        let stream = self.try_over(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream
    }
}

fn config(
    roots: &Arc<RootCertStore>,
    certificate: Option<&CertificateFiles>,
    tls_1_2_only: bool,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let versions = if tls_1_2_only { &[&TLS12][..] } else { &[&TLS13, &TLS12] };
    let config = config.with_protocol_versions(versions).unwrap().with_root_certificates(Arc::clone(roots));
    let mut config = match certificate {
        None => config.with_no_client_auth(),
        Some(files) => {
            let chain =
                CertificateDer::pem_file_iter(&files.cert_file).unwrap().map(Result::unwrap).collect();
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key_file).unwrap())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
