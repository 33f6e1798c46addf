//! The server's side of TLS over a non-blocking socket. rustls keeps the state; this moves its bytes.
//!
//! The pump writes to a stream that the connection's task reads, so both work on `&self`. No `RefCell` stays borrowed
//! across a call that could re-enter this module.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::net::read::read_some;

/// The most reads from the socket in one call. A peer may send records without data, and must not block the thread.
const MAX_READS: usize = 16;

/// The certificate and the other TLS settings of a listener.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<ServerConfig>);

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One of them is not valid PEM.
    #[error("cannot read the certificate or its key: {0}")]
    Pem(#[from] pem::Error),
    /// They do not belong together, or their type is not supported.
    #[error("cannot use the certificate: {0}")]
    Certificate(#[from] rustls::Error),
}

impl TlsSettings {
    /// TLS 1.2 and 1.3 with this certificate chain, the server's own first, and its private key, both in PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = config.with_single_cert(chain, key)?;
        // RFC 6455 §4.2.1: the handshake is an HTTP/1.1 request, so do not negotiate HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Starts a session on an accepted socket. The TLS handshake takes place during the first reads.
    pub fn accept(&self, tcp: TcpStream) -> Result<TlsStream, rustls::Error> {
        let session = RefCell::new(ServerConnection::new(Arc::clone(&self.0))?);
        Ok(TlsStream { tcp, session, decrypted: Cell::new(0), is_write_closed: Cell::new(false) })
    }
}

/// One TLS session, seen from the server. Reading also drives the handshake.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
    /// The number of decrypted bytes that are not read yet.
    decrypted: Cell<usize>,
    /// Whether writing to the socket has failed. Then unsent bytes are lost, and no write waits for them.
    is_write_closed: Cell<bool>,
}

impl TlsStream {
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Ready if there may be bytes to read. Also sends buffered bytes: without that a handshake would stall.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.decrypted.get() > 0 {
            return Poll::Ready(());
        }
        while self.has_unsent() && self.tcp.poll_write_ready(context).is_ready() {
            // Ignore the error: the next read reports it, too.
            let _ = self.flush_encrypted();
        }
        self.tcp.poll_read_ready(context).map(drop)
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MAX_READS {
            let mut session = self.session.borrow_mut();
            match session.reader().read(buffer) {
                Ok(count) => {
                    self.decrypted.set(self.decrypted.get().saturating_sub(count));
                    return Ok(count);
                }
                // A missing `close_notify` is no error: WebSocket and HTTP mark the end of each message themselves.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            session.read_tls(&mut RawSocket(&self.tcp))?;
            let processed = session.process_new_packets();
            drop(session);
            // If processing failed, this sends the alert.
            let sent = if self.has_unsent() { self.flush_encrypted() } else { Ok(()) };
            let state = processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            sent.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
            self.decrypted.set(state.plaintext_bytes_to_read());
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Encrypts data only after all earlier bytes are sent, so that unsent data stays in the outbox, which can still drop
    /// it. 0 means that earlier bytes were sent, but not all. Without data, only sends earlier bytes.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush_encrypted()?;
        if self.has_unsent() {
            return Ok(0);
        }
        let written = self.session.borrow_mut().writer().write_vectored(pieces)?;
        match self.flush_encrypted() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(written),
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.is_write_closed.get() && self.session.borrow().wants_write()
    }

    /// Ends the sending side of the session with the alert `close_notify`.
    pub(super) fn send_close_notify(&self) {
        self.session.borrow_mut().send_close_notify();
        // If it cannot be sent, the end of the TCP stream tells the peer.
        let _ = self.flush_encrypted();
    }

    /// Sends encrypted bytes as far as the socket accepts them; `WouldBlock` if it accepts none.
    fn flush_encrypted(&self) -> io::Result<()> {
        if self.is_write_closed.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut session = self.session.borrow_mut();
        let mut moved = false;
        while session.wants_write() {
            match session.write_tls(&mut RawSocket(&self.tcp)) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock && moved => return Ok(()),
                Err(error) => {
                    self.is_write_closed.set(error.kind() != ErrorKind::WouldBlock);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The socket, as `Read` and `Write` for rustls.
struct RawSocket<'s>(&'s TcpStream);

impl Read for RawSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(self.0, buffer)
    }
}

impl Write for RawSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpSocket;
    use tokio::time::timeout;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::RootCertStore;

    use super::*;
    use crate::net::stream::Stream;

    /// Read at run time: `include_bytes` would make the tests' files part of the build.
    fn certificate(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/support/tls");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    }

    type Client = tokio_rustls::client::TlsStream<TcpStream>;

    /// Both ends of a session after its handshake. The kernel's buffers between them are as small as possible.
    pub(crate) async fn pair() -> (Stream, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(4 * 1024).unwrap();
        let chain = certificate("server.pem");
        let key = certificate("server.key");
        let server = TlsSettings::from_pem(&chain, &key).unwrap().accept(server).unwrap();
        let server = Stream::Tls(Box::new(server));
        let mut roots = RootCertStore::empty();
        let root = certificate("ca.pem");
        roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let connecting = connector.connect("localhost".try_into().unwrap(), client);
        let serving = async {
            loop {
                server.readable().await;
                match server.try_read(&mut [0]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        };
        // The client's handshake completes before the server's.
        let greeting = async {
            let mut client = connecting.await?;
            client.write_all(b"x").await.map(|()| client)
        };
        let (client, read) = tokio::join!(greeting, serving);
        assert_eq!(read.unwrap(), 1);
        (server, client.unwrap())
    }

    /// Writes until neither the session nor the kernel takes more.
    fn fill(stream: &Stream) {
        while stream.try_write(&[b'x'; 4096]).is_ok() {}
        assert!(stream.has_unsent());
    }

    #[tokio::test]
    async fn after_shutdown_unsent_bytes_wake_no_task() {
        let (server, _client) = pair().await;
        fill(&server);
        server.shutdown();
        let readable = timeout(Duration::from_millis(50), server.readable()).await;
        assert!(readable.is_err(), "nothing has arrived");
    }
}
