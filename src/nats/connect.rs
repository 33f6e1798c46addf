//! Connects to a nats-server: TCP, the server's `INFO`, and TLS where the configuration or the server requires it.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::nats::info::ServerInfo;
use crate::nats::servers::Server;
use crate::nats::wire::ServerOp;
use crate::nats::wire::WireError;
use crate::nats::wire::WireParser;
use crate::net::client_tls::ClientTlsError;
use crate::net::client_tls::load_client_config;

/// The time limit for TCP, `INFO` and TLS together.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub(super) enum ConnectError {
    /// TCP or TLS failed, or the server closed the connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer does not speak the NATS protocol.
    #[error("{0}")]
    Protocol(#[from] WireError),
    /// The peer's first message is not `INFO`.
    #[error("the peer is not a nats-server")]
    NoInfo,
    /// The configuration requires TLS, and the server does not offer it.
    #[error("nats-server does not offer TLS, and nats.url requires it")]
    NoTls,
    /// `nats.ca_file` cannot be used, or the TLS client cannot be configured.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
    #[error("nats-server did not answer in time")]
    Timeout,
}

/// A connection on which the server has sent its `INFO`.
#[derive(Debug)]
pub(super) struct ServerConnection {
    pub(super) socket: NatsStream,
    pub(super) info: ServerInfo,
    /// Bytes that were read after `INFO`.
    pub(super) unread: BytesMut,
}

/// The socket, plain or TLS.
#[derive(Debug)]
pub(super) enum NatsStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl NatsStream {
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Reads into the free space of `buffer`, and returns the number of bytes; 0 means that the server has closed.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => pin!(stream.read_buf(buffer)).poll(context),
            Self::Tls(stream) => pin!(stream.read_buf(buffer)).poll(context),
        }
    }

    /// Writes as much as the socket accepts, and returns the number of bytes.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => pin!(stream.write(bytes)).poll(context),
            Self::Tls(stream) => pin!(stream.write(bytes)).poll(context),
        }
    }

    /// Flushes what TLS has buffered.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => pin!(stream.flush()).poll(context),
        }
    }
}

/// Starts to connect. The certificates in `ca` replace those of the system.
pub(super) fn connect(
    server: Server,
    ca: Option<PathBuf>,
) -> LocalBoxFuture<'static, Result<ServerConnection, ConnectError>> {
    Box::pin(async move {
        let connection = tokio::time::timeout(TIMEOUT, connect_stream(server, ca));
        connection.await.map_err(|_| ConnectError::Timeout)?
    })
}

async fn connect_stream(server: Server, ca: Option<PathBuf>) -> Result<ServerConnection, ConnectError> {
    let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    let (info, unread) = read_info(&mut stream).await?;
    if !(server.tls || info.tls_required) {
        return Ok(ServerConnection { socket: NatsStream::Plain(stream), info, unread });
    }
    if !(info.tls_required || info.tls_available) {
        return Err(ConnectError::NoTls);
    }
    let connector = TlsConnector::from(Arc::new(load_client_config(ca.as_deref()).await?));
    let name = ServerName::try_from(server.tls_name.clone()).map_err(io::Error::other)?;
    let socket = NatsStream::Tls(Box::new(connector.connect(name, stream).await?));
    // Bytes that arrived unencrypted after `INFO` could be anyone's: drop them.
    Ok(ServerConnection { socket, info, unread: BytesMut::new() })
}

async fn read_info(stream: &mut TcpStream) -> Result<(ServerInfo, BytesMut), ConnectError> {
    let (mut wire, mut buffer) = (WireParser::default(), BytesMut::with_capacity(4096));
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(ConnectError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        match wire.next(&mut buffer)? {
            Some(ServerOp::Info(json)) => {
                return Ok((ServerInfo::parse(&json).ok_or(ConnectError::NoInfo)?, buffer));
            }
            Some(_) => return Err(ConnectError::NoInfo),
            None => {}
        }
    }
}
