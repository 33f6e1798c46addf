//! Reads from a socket with as few system calls as possible.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads available bytes: `WouldBlock` if there are none, 0 at the end of the stream. After a read that does not fill
/// the buffer, it makes no further system call until more bytes arrive.
pub(super) fn read_some(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = tcp.try_io(Interest::READABLE, || {
        let count = (&*SockRef::from(tcp)).read(buffer)?;
        if (1..buffer.len()).contains(&count) {
            last = Some(count);
            // This tells tokio that the socket has no more bytes. tokio's `AsyncRead` does the same, its `try_read` does not.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    last.map_or(read, Ok)
}
