//! Socket: the raw stream under a WebSocket. It reads into a buffer that is lent to it and writes many frames at once.

use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Read as _;
use std::net::Shutdown;
use std::task::Context;
use std::task::Poll;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What one write takes at most.
pub const MAX_FRAMES: usize = 65;
/// So many bytes are copied and written with the plain call, which is cheaper than the vectored one by more than the copy
/// costs (ADR 13).
const MAX_JOINED: usize = 8 * 1024;

/// A connected stream that nobody else reads or writes. Nothing here waits.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Takes the stream over.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// Whether there may be something to read; else the task is woken when there is.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(context).map(drop)
    }

    /// Whether there may be room to write; else the task is woken when there is.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_write_ready(context).map(drop)
    }

    /// [`read_some`] of its stream.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(&self.stream, buffer)
    }

    /// Writes as much of the frames, at most [`MAX_FRAMES`], as there is room for; `WouldBlock` if there is none. What is
    /// put together on the way is put together in `joined`.
    pub fn write<'f>(
        &self,
        mut frames: impl ExactSizeIterator<Item = &'f [u8]> + Clone,
        joined: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if frames.len() == 1 {
            return frames.next().map_or(Ok(0), |frame| self.stream.try_write(frame));
        }
        if frames.clone().map(<[u8]>::len).sum::<usize>() <= MAX_JOINED {
            joined.clear();
            frames.for_each(|frame| joined.extend_from_slice(frame));
            return self.stream.try_write(joined);
        }
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
        let count = frames.len().min(MAX_FRAMES);
        for (slice, frame) in slices.iter_mut().zip(frames) {
            *slice = IoSlice::new(frame);
        }
        self.stream.try_write_vectored(&slices[..count])
    }

    /// Tells the peer that nothing more will come. What it still sends can be read.
    pub fn end_writing(&self) {
        // The peer may have gone already; then there is nobody to tell.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    /// Lets the connection end with a reset: what is unsent is not worth waiting for.
    pub fn abort(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// Reads what is there; `WouldBlock` if nothing is, 0 at the end. After less than there was room for, the kernel is not asked
/// again until there is more.
pub fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = stream.try_io(Interest::READABLE, || {
        let count = (&*SockRef::from(stream)).read(buffer)?;
        if (1..buffer.len()).contains(&count) {
            last = Some(count);
            // Told so, tokio takes nothing to be left; it does the same in `AsyncRead`, but not in `try_read`.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    last.map_or(read, Ok)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn after_less_than_there_was_room_for_it_is_readable_when_more_comes_and_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 8];
        for bytes in [&b"some"[..], b"exactly8", b"more"] {
            client.write_all(bytes).unwrap();
            stream.readable().await.unwrap();
            assert_eq!(read_some(&stream, &mut buffer).unwrap(), bytes.len());
            assert_eq!(&buffer[..bytes.len()], bytes);
            let again = read_some(&stream, &mut buffer).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::WouldBlock);
            let readable = timeout(Duration::from_millis(1), stream.readable()).await;
            assert!(readable.is_err(), "nothing has come");
        }
        client.write_all(b"last").unwrap();
        drop(client);
        stream.readable().await.unwrap();
        assert_eq!(read_some(&stream, &mut buffer).unwrap(), 4);
        stream.readable().await.unwrap();
        assert_eq!(read_some(&stream, &mut buffer).unwrap(), 0);
    }
}
