//! Fetches a small document over HTTP, or posts one. No redirects, no proxy, no compression, and one connection for each request.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper::Request;
use hyper::StatusCode;
use hyper::header;
use hyper::http::request::Builder;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::secret::Secret;
use crate::net::client_tls::ClientTlsError;
use crate::net::client_tls::load_client_config;
use crate::net::http_exchange::ExchangeError;
use crate::net::http_exchange::exchange;

/// The server of a document, and how to reach it.
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
    Box::pin(send(target, request(target, Request::get(target.path)).body(String::new())?, max)).await
}

/// Posts JSON with these further headers, and returns the answer of at most `max` bytes. Sets no time limit: let the caller
/// do that.
pub async fn post(
    target: FetchTarget<'_>,
    headers: &[(String, Secret)],
    json: String,
    max: usize,
) -> Result<Vec<u8>, FetchError> {
    let post = request(target, Request::post(target.path)).header(header::CONTENT_TYPE, "application/json");
    let add = |request: Builder, (name, value): &(String, Secret)| request.header(name, value.expose());
    Box::pin(send(target, headers.iter().fold(post, add).body(json)?, max)).await
}

async fn send(target: FetchTarget<'_>, request: Request<String>, max: usize) -> Result<Vec<u8>, FetchError> {
    // First, so that certificates that cannot be read are the error, and not the server.
    let config = if target.is_tls { Some(load_client_config(target.ca_file).await?) } else { None };
    let stream = TcpStream::connect((target.host, target.port)).await?;
    let Some(mut config) = config else { return answer(stream, request, max).await };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(target.host.to_owned()).map_err(io::Error::other)?;
    answer(connector.connect(name, stream).await?, request, max).await
}

/// Adds the headers of all requests.
fn request(target: FetchTarget<'_>, request: Builder) -> Builder {
    let is_default = target.port == if target.is_tls { 443 } else { 80 };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_owned() };
    request
        .header(header::HOST, if is_default { host } else { format!("{host}:{}", target.port) })
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<String>,
    max: usize,
) -> Result<Vec<u8>, FetchError> {
    let check = |status: StatusCode| match status {
        StatusCode::OK => Ok(()),
        status if status.is_redirection() => Err(FetchError::Redirect(status.as_u16())),
        status => Err(FetchError::Status(status.as_u16())),
    };
    Ok(exchange(stream, request, max, check).await?.into_body())
}

#[cfg(test)]
mod tests;
