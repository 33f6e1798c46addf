//! Dial: a TCP connection to a server, what the server says first, and TLS where it is wanted.

use std::future::Future;
use std::io;
use std::path::Path;
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
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::nats::info::Info;
use crate::nats::servers::Server;
use crate::nats::wire::Said;
use crate::nats::wire::Wire;
use crate::nats::wire::WireError;

/// How long a server may take until it has said what it is, and TLS is up.
const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// TCP or TLS did not come about, or ended.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What is there is no nats-server.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// What is there says something else first.
    #[error("what answers there is no nats-server")]
    NoInfo,
    /// The configuration wants TLS.
    #[error("nats-server offers no TLS, and nats.url asks for it")]
    NoTls,
    /// A file with certificates will not do.
    #[error("cannot read the certificates in {file}: {words}")]
    Certificates { file: String, words: String },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Too slow.
    #[error("nats-server does not answer")]
    Timeout,
}

/// A connection whose server has said what it is.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) socket: NatsStream,
    pub(super) info: Info,
    /// What came behind it.
    pub(super) rest: BytesMut,
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub(super) enum NatsStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl NatsStream {
    /// Whether no one on the way can read it.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Reads what there is into the free room of `buffer`, and says how much. 0 is the end.
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

    /// Writes what can be written, and says how much.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => pin!(stream.write(bytes)).poll(context),
            Self::Tls(stream) => pin!(stream.write(bytes)).poll(context),
        }
    }

    /// Sends what was written and is still here.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => pin!(stream.flush()).poll(context),
        }
    }
}

/// Begins to make a connection. `ca` has the certificates to trust, in place of the system's.
pub(super) fn dial(
    server: Server,
    ca: Option<PathBuf>,
) -> LocalBoxFuture<'static, Result<Dialed, DialError>> {
    Box::pin(async move {
        let dialed = tokio::time::timeout(LIMIT, reach(server, ca));
        dialed.await.map_err(|_| DialError::Timeout)?
    })
}

async fn reach(server: Server, ca: Option<PathBuf>) -> Result<Dialed, DialError> {
    let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    let (info, rest) = first_words(&mut stream).await?;
    if !(server.tls || info.tls_required) {
        return Ok(Dialed { socket: NatsStream::Plain(stream), info, rest });
    }
    if !(info.tls_required || info.tls_available) {
        return Err(DialError::NoTls);
    }
    let connector = TlsConnector::from(Arc::new(tls(ca.as_deref())?));
    let name = ServerName::try_from(server.tls_name.clone()).map_err(io::Error::other)?;
    let socket = NatsStream::Tls(Box::new(connector.connect(name, stream).await?));
    // What came unencrypted behind the first words is no one's.
    Ok(Dialed { socket, info, rest: BytesMut::new() })
}

async fn first_words(stream: &mut TcpStream) -> Result<(Info, BytesMut), DialError> {
    let (mut wire, mut buffer) = (Wire::default(), BytesMut::with_capacity(4096));
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(DialError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        match wire.next(&mut buffer)? {
            Some(Said::Info(json)) => return Ok((Info::read(&json).ok_or(DialError::NoInfo)?, buffer)),
            Some(_) => return Err(DialError::NoInfo),
            None => {}
        }
    }
}

/// Read anew for each connection, so that new certificates need no restart.
pub(super) fn tls(ca: Option<&Path>) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let wrong = |words: String| DialError::Certificates { file: file.display().to_string(), words };
            let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
