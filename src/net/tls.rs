//! The server's side of TLS over a non-blocking socket. rustls keeps the state; this moves its bytes.
//!
//! The pump writes to a stream that the connection's task reads, so both work on `&self`. No `RefCell` stays borrowed
//! across a call that could re-enter this module.

pub mod certificate;
pub(super) mod challenges;
mod expiry;
pub mod files;
pub mod loaded;
pub mod reloader;
mod resolver;
pub mod settings;
pub(super) mod validity;

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Read;
use std::io::Write;
use std::task::Context;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;

use crate::net::read::read_some;
use crate::net::tls::challenges::ACME_PROTOCOL;

/// The most reads from the socket in one call. A peer may send records without data, and must not block the thread.
const MAX_READS: usize = 16;

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

    /// Whether this is the check of a certificate authority, which ends with the TLS handshake.
    pub(super) fn is_challenge(&self) -> bool {
        self.session.borrow().alpn_protocol() == Some(ACME_PROTOCOL)
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
    use std::sync::Arc;
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpSocket;
    use tokio::time::timeout;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::config::tls::CertificateFiles;
    use crate::config::tls::TlsConfig;
    use crate::net::stream::Stream;
    use crate::net::tls::reloader::TlsReloader;

    type Client = tokio_rustls::client::TlsStream<TcpStream>;

    /// Both ends of a session after its handshake. The kernel's buffers between them are as small as possible.
    pub(crate) async fn pair() -> (Stream, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(4 * 1024).unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/support/tls");
        let files = CertificateFiles {
            section: "tls".to_owned(),
            cert_file: format!("{folder}/server.pem").into(),
            key_file: format!("{folder}/server.key").into(),
        };
        let config = TlsConfig { certificates: vec![files], ..TlsConfig::default() };
        let server = TlsReloader::new(&config).unwrap().settings().accept(server).unwrap();
        let server = Stream::Tls(Box::new(server));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(format!("{folder}/ca.pem")).unwrap()).unwrap();
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
