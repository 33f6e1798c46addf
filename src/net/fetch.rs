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
use tokio_rustls::rustls::pki_types::ServerName;

use crate::net::client_tls::ClientTlsError;
use crate::net::client_tls::client_config;

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
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

/// Fetches a document of at most `max` bytes. Sets no time limit: let the caller do that.
pub async fn fetch(target: FetchTarget<'_>, max: usize) -> Result<Vec<u8>, FetchError> {
    let config = target.is_tls.then(|| client_config(target.ca_file)).transpose()?;
    let stream = TcpStream::connect((target.host, target.port)).await?;
    let Some(mut config) = config else { return exchange(stream, target, max).await };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
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

#[cfg(test)]
mod tests;
