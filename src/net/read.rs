//! Reads from a socket with as few system calls as possible.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::os::fd::AsFd;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

/// Reads available bytes: `WouldBlock` if there are none, 0 at the end of the stream. After a read that does not fill
/// the buffer, it makes no further system call until more bytes arrive.
pub(super) fn read_some(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = tcp.try_io(Interest::READABLE, || read_once(tcp, buffer, &mut last));
    last.map_or(read, Ok)
}

/// The same for a Unix socket.
pub(super) fn read_some_unix(unix: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = unix.try_io(Interest::READABLE, || read_once(unix, buffer, &mut last));
    last.map_or(read, Ok)
}

/// Reads once. If that was all, `last` has the number of bytes, and the error tells tokio that the socket has no more.
/// tokio's `AsyncRead` does the same, its `try_read` does not.
#[inline]
fn read_once(socket: &impl AsFd, buffer: &mut [u8], last: &mut Option<usize>) -> io::Result<usize> {
    let count = (&*SockRef::from(socket)).read(buffer)?;
    if (1..buffer.len()).contains(&count) {
        *last = Some(count);
        return Err(ErrorKind::WouldBlock.into());
    }
    Ok(count)
}
