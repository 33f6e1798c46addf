//! Fetches a small document over HTTP. No redirects, no proxy, no compression, and one connection for each request.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper::Request;
use hyper::StatusCode;
use hyper::header;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::net::client_tls::ClientTlsError;
use crate::net::client_tls::load_client_config;
use crate::net::http_exchange::ExchangeError;
use crate::net::http_exchange::exchange;

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
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("the URL cannot be used in a request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the server answered {0}; redirects are not followed, so write the URL that it leads to")]
    Redirect(u16),
    #[error("the server answered {0}")]
    Status(u16),
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

/// Fetches a document of at most `max` bytes. Sets no time limit: let the caller do that.
pub async fn fetch(target: FetchTarget<'_>, max: usize) -> Result<Vec<u8>, FetchError> {
    // First, so that certificates that cannot be read are the error, and not the server.
    let config = if target.is_tls { Some(load_client_config(target.ca_file).await?) } else { None };
    let stream = TcpStream::connect((target.host, target.port)).await?;
    let Some(mut config) = config else { return request(stream, target, max).await };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(target.host.to_owned()).map_err(io::Error::other)?;
    request(connector.connect(name, stream).await?, target, max).await
}

async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: FetchTarget<'_>,
    max: usize,
) -> Result<Vec<u8>, FetchError> {
    let is_default = target.port == if target.is_tls { 443 } else { 80 };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_owned() };
    let request = Request::get(target.path)
        .header(header::HOST, if is_default { host } else { format!("{host}:{}", target.port) })
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(String::new())?;
    let check = |status: StatusCode| match status {
        StatusCode::OK => Ok(()),
        status if status.is_redirection() => Err(FetchError::Redirect(status.as_u16())),
        status => Err(FetchError::Status(status.as_u16())),
    };
    Ok(exchange(stream, request, max, check).await?.into_body())
}

#[cfg(test)]
mod tests;
