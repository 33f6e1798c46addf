//! The bytes of a client's connection, plain or over TLS.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::ClientConnection;

use crate::tls;

/// The most bytes of an incomplete TLS record (RFC 8446 §5.2).
const MAX_RECORD_BYTES: usize = 16 * 1024 + 256 + 5;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// What one read from the socket gave.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The bytes for the client, at the start of the buffer. Over TLS there may be none.
    pub length: usize,
    /// The bytes from the socket.
    pub received: u64,
    pub is_socket_empty: bool,
}

impl Stream {
    /// A stream over a socket that may still be connecting.
    pub(super) fn new(tcp: TcpStream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(tcp)) };
        let session = tls::session(config).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(TlsStream { tcp, session })))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }

    /// Sends and removes bytes from `out` until the socket would block. Over TLS, also sends what the session has to send.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => {
                while !out.is_empty() {
                    let sent = tcp.write(out)?;
                    out.drain(..sent);
                }
                Ok(())
            }
            Self::Tls(tls) => tls.send(out),
        }
    }

    /// Reads from the socket once. `None` at the end of the stream.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<Option<Chunk>> {
        match self {
            Self::Plain(tcp) => {
                let length = tcp.read(scratch)?;
                Ok(Chunk::of(length, length, scratch.len()))
            }
            Self::Tls(tls) => tls.read(scratch),
        }
    }
}

impl Chunk {
    /// `room` is the size of the buffer for `received`: if it was not filled, the socket is empty.
    fn of(length: usize, received: usize, room: usize) -> Option<Self> {
        (received > 0).then_some(Self { length, received: received as u64, is_socket_empty: received < room })
    }
}

/// A TLS session and its socket.
#[derive(Debug)]
pub(super) struct TlsStream {
    tcp: TcpStream,
    session: ClientConnection,
}

impl TlsStream {
    fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        loop {
            while self.session.wants_write() {
                self.session.write_tls(&mut self.tcp)?;
            }
            // During the handshake the session keeps the bytes, and takes no more when it has 64 KiB.
            let taken = self.session.writer().write(out)?;
            if taken == 0 {
                return Ok(());
            }
            out.drain(..taken);
        }
    }

    /// Reads encrypted bytes into the end of the buffer, with a single call, and decrypts them into its start.
    fn read(&mut self, scratch: &mut [u8]) -> io::Result<Option<Chunk>> {
        let room = scratch.len().saturating_sub(MAX_RECORD_BYTES) / 2;
        let (decrypted, encrypted) = scratch.split_at_mut(scratch.len() - room);
        let received = self.tcp.read(encrypted)?;
        let (mut rest, mut length) = (&encrypted[..received], 0);
        while !rest.is_empty() {
            // After the alert `close_notify` the session takes no more.
            if self.session.read_tls(&mut rest)? == 0 {
                break;
            }
            self.session
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            loop {
                match self.session.reader().read(&mut decrypted[length..]) {
                    Ok(0) => break,
                    Ok(count) => length += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Chunk::of(length, received, room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::Ipv4Addr;
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread::JoinHandle;
    use std::time::Duration;

    use mio::Events;
    use mio::Interest;
    use mio::Poll;
    use mio::Token;
    use rustls::HandshakeKind;
    use rustls::ServerConfig;
    use rustls::ServerConnection;
    use rustls::StreamOwned;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;

    use crate::tls::Tls;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    /// More than the client's buffer.
    const ANSWER_BYTES: usize = 1_000_000;

    fn new_tls(name: &str) -> Tls {
        let folder: PathBuf =
            std::env::temp_dir().join(format!("tidegate-bench-stream-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Tls::create(&folder).unwrap()
    }

    fn server_config(tls: &Tls) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(&tls.cert_file).unwrap();
        let key = PrivateKeyDer::from_pem_file(&tls.key_file).unwrap();
        std::fs::remove_dir_all(tls.cert_file.parent().unwrap()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
    }

    /// Answers one request on one connection.
    fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) -> JoinHandle<io::Result<HandshakeKind>> {
        let (listener, config) = (listener.try_clone().unwrap(), Arc::clone(config));
        let answer = move || {
            let session = ServerConnection::new(config).unwrap();
            let mut stream = StreamOwned::new(session, listener.accept()?.0);
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request)?;
            assert_eq!(request, REQUEST);
            stream.write_all(&[b'x'; ANSWER_BYTES])?;
            stream.conn.send_close_notify();
            stream.flush()?;
            Ok(stream.conn.handshake_kind().unwrap())
        };
        std::thread::Builder::new().spawn(answer).unwrap()
    }

    /// Sends the request, and reads until the end. Returns the number of bytes of the answer, and of those on the wire.
    fn exchange(listener: &TcpListener, tls: &Tls) -> io::Result<(usize, u64)> {
        let tcp = TcpStream::connect(listener.local_addr()?)?;
        let mut stream = Stream::new(tcp, Some(&tls.client))?;
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
        poll.registry().register(stream.tcp_mut(), Token(0), Interest::READABLE | Interest::WRITABLE)?;
        let (mut out, mut scratch) = (REQUEST.to_vec(), vec![0; 64 * 1024]);
        let (mut length, mut received) = (0, 0);
        let is_wait =
            |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected);
        loop {
            poll.poll(&mut events, Some(Duration::from_secs(10)))?;
            assert!(!events.is_empty(), "nothing happened for 10 s");
            loop {
                match stream.send(&mut out) {
                    Err(error) if !is_wait(&error) => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                match stream.read(&mut scratch) {
                    Ok(None) => return Ok((length, received)),
                    Ok(Some(chunk)) => {
                        assert!(scratch[..chunk.length].iter().all(|byte| *byte == b'x'));
                        (length, received) = (length + chunk.length, received + chunk.received);
                    }
                    Err(error) if is_wait(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    #[test]
    fn bytes_arrive_over_tls_and_every_handshake_is_a_full_one() {
        let tls = new_tls("full");
        let config = server_config(&tls);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..2 {
            let server = serve(&listener, &config);
            let (length, received) = exchange(&listener, &tls).unwrap();
            assert_eq!(length, ANSWER_BYTES);
            assert!(received > ANSWER_BYTES as u64 + 1000, "{received}");
            assert_eq!(server.join().unwrap().unwrap(), HandshakeKind::Full);
        }
    }

    #[test]
    fn a_server_with_another_certificate_is_an_error() {
        let (tls, other) = (new_tls("known"), new_tls("other"));
        let (_, config) = (server_config(&tls), server_config(&other));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = serve(&listener, &config);
        let error = exchange(&listener, &tls).unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate"), "{error}");
        assert!(server.join().unwrap().is_err());
    }
}
