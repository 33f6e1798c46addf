//! `BareLfGuard`: sits between a socket and hyper and detects lines of a request that end with a bare LF, which hyper
//! accepts.
//!
//! RFC 9112 §2.2: a recipient may treat a bare LF as the end of a line. Tidegate does not: a proxy in front of it may
//! parse such a request differently, which allows request smuggling (§11.2).

use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;
use tokio::time::sleep;

use crate::net::stream::Stream;

/// For each byte that the peer takes, the write timeout grows by this: 16 KiB per second, as on a slow phone.
const TIME_PER_BYTE: Duration = Duration::from_micros(61);

/// A stream that returns one request head per read, and records whether it has a bare LF.
#[derive(Debug)]
pub struct BareLfGuard {
    stream: Stream,
    lines: HeadLines,
    /// Bytes after the end of the last head, for the next read.
    pending: Vec<u8>,
    bare: BareLf,
    write_timeout: Duration,
    /// When writing times out; set while a write waits for the peer.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

/// Whether the last head has a line that ends with a bare LF. Shared with the service that handles the request.
#[derive(Clone, Debug, Default)]
pub struct BareLf(Arc<AtomicBool>);

impl BareLf {
    /// Returns and clears the flag.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl BareLfGuard {
    /// Wraps a stream from which the bytes `read` were already read. Sets `bare` for each head with a bare LF. A peer
    /// must take each response within `write_timeout`, plus time for its length.
    pub fn new(stream: Stream, read: Vec<u8>, bare: BareLf, write_timeout: Duration) -> Self {
        Self { stream, lines: HeadLines::default(), pending: read, bare, write_timeout, write_deadline: None }
    }

    /// The stream, and the bytes that were read from it but not returned yet.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.pending)
    }

    /// Ready when writing has timed out. The first call starts the timer.
    fn poll_write_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let write_timeout = self.write_timeout;
        self.write_deadline.get_or_insert_with(|| Box::pin(sleep(write_timeout))).as_mut().poll(context)
    }
}

impl AsyncRead for BareLfGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buffer.filled().len();
        if this.pending.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        } else {
            let count = this.pending.len().min(buffer.remaining());
            buffer.put_slice(&this.pending[..count]);
            this.pending.drain(..count);
        }
        let (read, bare) = this.lines.read_head(&buffer.filled()[start..]);
        if bare {
            this.bare.0.store(true, Ordering::Release);
        }
        let behind = &buffer.filled()[start + read..];
        this.pending.splice(..0, behind.iter().copied());
        buffer.set_filled(start + read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BareLfGuard {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// hyper then keeps a long body where it is until it is written; otherwise, it would copy it.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write_vectored(context, pieces) {
            if let (Some(write_deadline), Ok(count)) = (&mut this.write_deadline, &written) {
                let gained = TIME_PER_BYTE * u32::try_from(*count).unwrap_or(u32::MAX);
                let until = write_deadline.deadline() + gained;
                write_deadline.as_mut().reset(until);
            }
            return Poll::Ready(written);
        }
        ready!(this.poll_write_timeout(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    /// hyper flushes after it has written a response. TLS may still hold a part of it.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(flushed) = Pin::new(&mut this.stream).poll_flush(context) {
            this.write_deadline = None;
            return Poll::Ready(flushed);
        }
        ready!(this.poll_write_timeout(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Finds the end of a request head in bytes that arrive in pieces.
#[derive(Debug, Default)]
pub struct HeadLines {
    /// The length of the current line so far, without CR.
    length: usize,
    after_cr: bool,
}

impl HeadLines {
    /// The number of bytes up to and with the empty line that ends the head, or all bytes; and whether a line ended
    /// with a bare LF.
    pub fn read_head(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut bare = false;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' => {
                    bare |= !self.after_cr;
                    let Self { length, .. } = std::mem::take(self);
                    if length == 0 {
                        return (at + 1, bare);
                    }
                }
                b'\r' => self.after_cr = true,
                _ => {
                    self.length += 1;
                    self.after_cr = false;
                }
            }
        }
        (bytes.len(), bare)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::net::tls::tests::pair;

    const LONG_ANSWER: usize = 16 * 1024 * 1024;

    /// Sends a long response to a client that reads `chunk` bytes after each `pause`.
    async fn send_response(chunk: usize, pause: Duration) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream =
            BareLfGuard::new(stream.into(), Vec::new(), BareLf::default(), Duration::from_secs(1));
        let writes = async {
            stream.write_all(&vec![b'x'; LONG_ANSWER]).await?;
            stream.flush().await
        };
        let reads = async {
            let mut buffer = vec![0; chunk];
            while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                sleep(pause).await;
            }
        };
        tokio::select! {
            written = writes => written,
            () = reads => panic!("the connection has ended"),
        }
    }

    #[tokio::test]
    async fn a_response_times_out_if_the_client_reads_too_slowly() {
        let too_slow = send_response(1, Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(too_slow.kind(), ErrorKind::TimedOut);
        send_response(256 * 1024, Duration::from_millis(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_response_inside_tls_times_out_if_the_client_does_not_read() {
        let (stream, _client) = pair().await;
        let mut stream = BareLfGuard::new(stream, Vec::new(), BareLf::default(), Duration::from_millis(200));
        // The TLS session buffers it at once, and it is more than the kernel buffers.
        stream.write_all(&[b'x'; 60 * 1024]).await.unwrap();
        let flushed = timeout(Duration::from_secs(5), stream.flush()).await;
        assert_eq!(flushed.expect("an end").unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// The length of the head in `bytes`, which arrive in two pieces, and whether it has a bare LF.
    fn read(bytes: &str, cut: usize) -> (usize, bool) {
        let mut lines = HeadLines::default();
        let (first, second) = bytes.as_bytes().split_at(cut);
        let (read, bare) = lines.read_head(first);
        if read < first.len() || first.ends_with(b"\r\n\r\n") {
            return (read, bare);
        }
        let (more, also) = lines.read_head(second);
        (read + more, bare || also)
    }

    /// RFC 9112 §2.2: a bare LF ends a line.
    #[test]
    fn hs_06_a_head_ends_at_its_empty_line_and_bare_lfs_are_detected() {
        for (bytes, head, bare) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", 24, false),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nmore\n", 24, false),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 29, true),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", 23, true),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", 23, true),
            ("GET / HTTP/1.1\r\nA: b\r\n", 22, false),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(read(bytes, cut), (head, bare), "{bytes:?} cut at {cut}");
            }
        }
    }
}
