//! Read: from a socket, with as few system calls as possible.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what is there: `WouldBlock` if nothing is, 0 at the end. After less than there was room for, the kernel is not asked
/// again until there is more.
pub(super) fn read_some(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = tcp.try_io(Interest::READABLE, || {
        let count = (&*SockRef::from(tcp)).read(buffer)?;
        if (1..buffer.len()).contains(&count) {
            last = Some(count);
            // Told so, tokio takes nothing to be left; it does the same in `AsyncRead`, but not in `try_read`.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    last.map_or(read, Ok)
}
