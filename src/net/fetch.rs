//! Fetches a small document over HTTP. No redirects, no proxy, no compression, and one connection for each request.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// The most bytes and fields of the head of a response.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;

/// Where to fetch a document.
#[derive(Clone, Copy, Debug)]
pub struct FetchTarget<'t> {
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: &'t str,
    pub port: u16,
    /// Path and query.
    pub path: &'t str,
    /// The certificates to trust, in PEM. `None`: those of the system.
    pub ca_file: Option<&'t Path>,
}

/// Why a document could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// TCP or TLS failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server does not speak HTTP, or ended the connection early.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the URL cannot be used in a request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the server answered {0}; redirects are not followed, so write the URL that it leads to")]
    Redirect(u16),
    #[error("the server answered {0}")]
    Status(u16),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot read the certificates in {file}: {reason}")]
    Certificates { file: String, reason: String },
}

/// Fetches a document of at most `max` bytes. Sets no time limit: let the caller do that.
pub async fn fetch(target: FetchTarget<'_>, max: usize) -> Result<Vec<u8>, FetchError> {
    let connector = target.is_tls.then(|| tls_config(target.ca_file)).transpose()?;
    let stream = TcpStream::connect((target.host, target.port)).await?;
    let Some(connector) = connector else { return exchange(stream, target, max).await };
    let connector = TlsConnector::from(Arc::new(connector));
    let name = ServerName::try_from(target.host.to_owned()).map_err(io::Error::other)?;
    exchange(connector.connect(name, stream).await?, target, max).await
}

/// Sends the request on a connected stream and reads the response.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: FetchTarget<'_>,
    max: usize,
) -> Result<Vec<u8>, FetchError> {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
    let is_default = target.port == if target.is_tls { 443 } else { 80 };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_owned() };
    let request = Request::get(target.path)
        .header(header::HOST, if is_default { host } else { format!("{host}:{}", target.port) })
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(String::new())?;
    let response = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirect(status.as_u16()));
        }
        if status != hyper::StatusCode::OK {
            return Err(FetchError::Status(status.as_u16()));
        }
        read_body(response.into_body(), max).await
    };
    let (mut response, mut connection) = (pin!(response), pin!(connection));
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            result = &mut response => return result,
            // Its errors reach the response too.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read_body(mut body: Incoming, max: usize) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > max {
                return Err(FetchError::TooLarge(max));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Called for each fetch, so that changed certificates need no restart.
fn tls_config(ca: Option<&Path>) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let invalid =
                |reason: String| FetchError::Certificates { file: file.display().to_string(), reason };
            let found = CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("it contains no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config =
        builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
