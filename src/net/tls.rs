//! TLS: the server's side of TLS over a socket, without waiting. rustls keeps the state; this moves its bytes.
//!
//! The pump writes to a socket that its connection's task reads, so both sides are reached by `&self`, and nothing is
//! borrowed across a call that could come back here.

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

/// Reads from the socket before others have their turn, if they bring no data: a peer may send records without any.
const READS: usize = 16;

/// Whose certificate the sessions of a listener show, and what else they agree to.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<ServerConfig>);

/// Why a certificate and its key will not do.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One of them is no PEM.
    #[error("cannot read the certificate or its key: {0}")]
    Pem(#[from] pem::Error),
    /// They do not belong together, or are of a kind that is not known.
    #[error("cannot use the certificate: {0}")]
    Certificate(#[from] rustls::Error),
}

impl TlsSettings {
    /// TLS 1.2 and 1.3 with a certificate chain, its own first, and the private key; both in PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = config.with_single_cert(chain, key)?;
        // The upgrade to WebSocket is one of HTTP/1.1 (RFC 6455 §4.1).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// A session over a socket that was accepted. Its handshake is a part of the first reads.
    pub fn accept(&self, tcp: TcpStream) -> Result<TlsStream, rustls::Error> {
        let session = RefCell::new(ServerConnection::new(Arc::clone(&self.0))?);
        Ok(TlsStream { tcp, session, readable: Cell::new(0), is_cut: Cell::new(false) })
    }
}

/// One TLS session of which this is the server. The handshake goes on as a part of reading.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
    /// Bytes that are decrypted and not read yet.
    readable: Cell<usize>,
    /// Whether the socket takes nothing any more: what is unsent stays so, and no one waits for it.
    is_cut: Cell<bool>,
}

impl TlsStream {
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether there may be something to read. What waits to be sent goes meanwhile: without it a handshake would be
    /// still.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.readable.get() > 0 {
            return Poll::Ready(());
        }
        while self.has_unsent() && self.tcp.poll_write_ready(context).is_ready() {
            // What is wrong, if anything is, shows in reading: behind our own end of the socket nothing is.
            let _ = self.send();
        }
        self.tcp.poll_read_ready(context).map(drop)
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS {
            let mut session = self.session.borrow_mut();
            match session.reader().read(buffer) {
                Ok(count) => {
                    self.readable.set(self.readable.get().saturating_sub(count));
                    return Ok(count);
                }
                // WebSocket and HTTP say themselves where a message ends, so an end without a goodbye is an end.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            session.read_tls(&mut RawSocket(&self.tcp))?;
            let processed = session.process_new_packets();
            drop(session);
            // The alert that says why, too.
            let sent = if self.has_unsent() { self.send() } else { Ok(()) };
            let state = processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            sent.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
            self.readable.set(state.plaintext_bytes_to_read());
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Takes data only when what was encrypted before has left, so that what is not sent stays where it can still be
    /// dropped: 0 says that some of that has left and not all. Without data, sends only what waits.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send()?;
        if self.has_unsent() {
            return Ok(0);
        }
        let written = self.session.borrow_mut().writer().write_vectored(pieces)?;
        match self.send() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(written),
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.is_cut.get() && self.session.borrow().wants_write()
    }

    /// The end of what is sent, as TLS says it.
    pub(super) fn say_goodbye(&self) {
        self.session.borrow_mut().send_close_notify();
        // A peer that takes nothing learns it from the end of the socket.
        let _ = self.send();
    }

    /// Sends what was encrypted, as far as there is room; `WouldBlock` if there is none.
    fn send(&self) -> io::Result<()> {
        if self.is_cut.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut session = self.session.borrow_mut();
        let mut moved = false;
        while session.wants_write() {
            match session.write_tls(&mut RawSocket(&self.tcp)) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock && moved => return Ok(()),
                Err(error) => {
                    self.is_cut.set(error.kind() != ErrorKind::WouldBlock);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The socket as rustls reads and writes it.
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

    /// Read when a test runs: the sources embed only what the build has.
    fn certificate(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/support/tls");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    }

    type Client = tokio_rustls::client::TlsStream<TcpStream>;

    /// Both ends of a session whose handshake is done. The kernel keeps as little as it can between them.
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
        // The client's handshake is done earlier than ours.
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
    async fn behind_the_goodbye_nobody_is_woken_for_what_the_peer_has_not_taken() {
        let (server, _client) = pair().await;
        fill(&server);
        server.shutdown();
        let readable = timeout(Duration::from_millis(50), server.readable()).await;
        assert!(readable.is_err(), "nothing has come");
    }
}
