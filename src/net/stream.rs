//! `Stream`: the connected socket of one client. Reads and writes never wait: poll for readiness first.

use std::future::poll_fn;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

#[cfg(feature = "test-hooks")]
use crate::net::memory::MemoryStream;
use crate::net::read::read_some;
use crate::net::read::read_some_unix;
use crate::net::socket::RegisteredSocket;
use crate::net::tls::TlsStream;

/// The byte stream of one client.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// A TLS session.
    Tls(Box<TlsStream>),
    /// A Unix socket, from a proxy on this machine.
    Unix(UnixStream),
    /// No socket: a test has the other end.
    #[cfg(feature = "test-hooks")]
    Memory(MemoryStream),
}

impl Stream {
    /// `None` if there is no socket.
    fn socket(&self) -> Option<SockRef<'_>> {
        match self {
            Self::Plain(tcp) => Some(SockRef::from(tcp)),
            Self::Tls(tls) => Some(SockRef::from(tls.tcp())),
            Self::Unix(unix) => Some(SockRef::from(unix)),
            #[cfg(feature = "test-hooks")]
            Self::Memory(_) => None,
        }
    }

    /// Ready if there may be bytes to read. If not, the task is woken when there are.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(context).map(drop),
            Self::Tls(tls) => tls.poll_readable(context),
            Self::Unix(unix) => unix.poll_read_ready(context).map(drop),
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => ready_if(memory.is_readable()),
        }
    }

    /// Ready if the socket may accept bytes. If not, the task is woken when it does.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.poll_write_ready(context).map(drop),
            Self::Tls(tls) => tls.tcp().poll_write_ready(context).map(drop),
            Self::Unix(unix) => unix.poll_write_ready(context).map(drop),
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => ready_if(memory.is_writable()),
        }
    }

    /// Waits until there may be bytes to read.
    pub async fn readable(&self) {
        poll_fn(|context| self.poll_readable(context)).await;
    }

    /// Reads available bytes: `WouldBlock` if there are none, 0 at the end of the stream. This also drives the TLS
    /// handshake.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => read_some(tcp, buffer),
            Self::Tls(tls) => tls.try_read(buffer),
            Self::Unix(unix) => read_some_unix(unix, buffer),
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => memory.try_read(buffer),
        }
    }

    /// Writes as much as the socket accepts: `WouldBlock` if it accepts nothing. 0 if it accepted only a part of the bytes
    /// that TLS had buffered before.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.try_write(&[IoSlice::new(bytes)]),
            Self::Unix(unix) => unix.try_write(bytes),
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => memory.try_write(bytes),
        }
    }

    /// [`Stream::try_write`] for several pieces.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(pieces),
            Self::Tls(tls) => tls.try_write(pieces),
            Self::Unix(unix) => unix.try_write_vectored(pieces),
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => {
                memory.try_write(&pieces.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<_>>())
            }
        }
    }

    /// Whether written bytes are still buffered here. The next write sends them, even an empty one.
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
            #[cfg(feature = "test-hooks")]
            Self::Memory(_) => false,
        }
    }

    /// Whether this is the check of a certificate authority, which sends no request.
    pub fn is_challenge(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.is_challenge(),
            Self::Plain(_) | Self::Unix(_) => false,
            #[cfg(feature = "test-hooks")]
            Self::Memory(_) => false,
        }
    }

    /// Ends the sending side. You can still read from the peer.
    pub fn shutdown(&self) {
        match self {
            Self::Tls(tls) => tls.send_close_notify(),
            Self::Plain(_) | Self::Unix(_) => {}
            #[cfg(feature = "test-hooks")]
            Self::Memory(memory) => memory.shutdown(),
        }
        // It fails if the peer has already closed the connection, which needs no handling.
        let _ = self.socket().map(|socket| socket.shutdown(Shutdown::Write));
    }

    /// Makes the connection end with a reset, so that closing it does not wait for unsent bytes.
    pub fn abort(&self) {
        #[cfg(feature = "test-hooks")]
        if let Self::Memory(memory) = self {
            memory.abort();
        }
        let _ = self.socket().map(|socket| socket.set_linger(Some(Duration::ZERO)));
    }
}

#[cfg(feature = "test-hooks")]
fn ready_if(is_ready: bool) -> Poll<()> {
    if is_ready { Poll::Ready(()) } else { Poll::Pending }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl From<UnixStream> for Stream {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

/// Without TLS.
impl From<RegisteredSocket> for Stream {
    fn from(socket: RegisteredSocket) -> Self {
        match socket {
            RegisteredSocket::Tcp(tcp) => tcp.into(),
            RegisteredSocket::Unix(unix) => unix.into(),
        }
    }
}

/// For hyper.
impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this {
            Self::Plain(tcp) => return Pin::new(tcp).poll_read(context, buffer),
            Self::Unix(unix) => return Pin::new(unix).poll_read(context, buffer),
            Self::Tls(_) => {}
            #[cfg(feature = "test-hooks")]
            Self::Memory(_) => {}
        }
        loop {
            ready!(this.poll_readable(context));
            match this.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this {
            Self::Plain(tcp) => return Pin::new(tcp).poll_write_vectored(context, pieces),
            Self::Unix(unix) => return Pin::new(unix).poll_write_vectored(context, pieces),
            Self::Tls(_) => {}
            #[cfg(feature = "test-hooks")]
            Self::Memory(_) => {}
        }
        loop {
            ready!(this.poll_writable(context));
            match this.try_write_vectored(pieces) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Only older bytes were sent; try again with these.
                Ok(0) if pieces.iter().any(|piece| !piece.is_empty()) => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.has_unsent() {
            ready!(self.poll_writable(context));
            match self.try_write(&[]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn after_a_short_read_the_stream_is_readable_again_for_more_bytes_and_for_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::from(listener.accept().await.unwrap().0);
        let mut buffer = [0; 8];
        for bytes in [&b"some"[..], b"exactly8", b"more"] {
            client.write_all(bytes).unwrap();
            stream.readable().await;
            assert_eq!(stream.try_read(&mut buffer).unwrap(), bytes.len());
            assert_eq!(&buffer[..bytes.len()], bytes);
            let again = stream.try_read(&mut buffer).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::WouldBlock);
            let readable = timeout(Duration::from_millis(1), stream.readable()).await;
            assert!(readable.is_err(), "nothing has arrived");
        }
        client.write_all(b"last").unwrap();
        drop(client);
        stream.readable().await;
        assert_eq!(stream.try_read(&mut buffer).unwrap(), 4);
        stream.readable().await;
        assert_eq!(stream.try_read(&mut buffer).unwrap(), 0);
    }
}
