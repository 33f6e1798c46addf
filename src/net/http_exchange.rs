//! One HTTP request and its response on a connected stream, with bounds for the head and the body of the response.

use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;

use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// The most bytes and fields of the head of a response.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no response.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The server does not speak HTTP, or ended the connection early.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Sends the request and reads the response, whose body has at most `max` bytes. `check` may refuse a status before the
/// body is read. Sets no time limit: let the caller do that.
pub async fn exchange<S, B, E>(
    stream: S,
    request: Request<B>,
    max: usize,
    check: impl FnOnce(StatusCode) -> Result<(), E>,
) -> Result<Response<Vec<u8>>, E>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data: Send, Error: Into<BoxError>> + 'static,
    E: From<ExchangeError>,
{
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(ExchangeError::from)?;
    let response = async {
        let (head, body) = sender.send_request(request).await.map_err(ExchangeError::from)?.into_parts();
        check(head.status)?;
        Ok(Response::from_parts(head, read_body(body, max).await?))
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

async fn read_body(mut body: Incoming, max: usize) -> Result<Vec<u8>, ExchangeError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > max {
                return Err(ExchangeError::TooLarge(max));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
