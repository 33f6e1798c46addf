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

use tokio::net::TcpStream;
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::ServerConnection;

use crate::net::read::read_some;

/// Reads from the socket before others have their turn, if they bring no data: a peer may send records without any.
const READS: usize = 16;

/// One TLS session of which this is the server. The handshake goes on as a part of reading.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
    /// Bytes that are decrypted and not read yet.
    readable: Cell<usize>,
}

impl TlsStream {
    /// A session that has not begun. `config` has the certificate.
    pub fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, Error> {
        let session = RefCell::new(ServerConnection::new(config)?);
        Ok(Self { tcp, session, readable: Cell::new(0) })
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether there may be something to read. What waits to be sent goes meanwhile: without it a handshake would stand
    /// still.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.readable.get() > 0 {
            return Poll::Ready(());
        }
        while self.has_unsent() && self.tcp.poll_write_ready(context).is_ready() {
            if self.send().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                // Reading says what is wrong.
                return Poll::Ready(());
            }
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
            session.read_tls(&mut Socket(&self.tcp))?;
            let processed = session.process_new_packets();
            drop(session);
            // The alert that says why, too.
            let sent = self.send();
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
        self.session.borrow().wants_write()
    }

    /// The end of what is sent, as TLS says it.
    pub(super) fn say_goodbye(&self) {
        self.session.borrow_mut().send_close_notify();
        // A peer that takes nothing learns it from the end of the socket.
        let _ = self.send();
    }

    /// Sends what was encrypted, as far as there is room; `WouldBlock` if there is none.
    fn send(&self) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        let mut moved = false;
        while session.wants_write() {
            match session.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock && moved => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The socket as rustls reads and writes it.
struct Socket<'s>(&'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(self.0, buffer)
    }
}

impl Write for Socket<'_> {
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
