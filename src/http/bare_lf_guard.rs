//! Strict: between a socket and hyper, for what hyper's parser lets pass: lines of a request that end with a bare LF.
//!
//! RFC 9112 §2.2 lets a recipient take such a line, and whoever is in front of us may have read it otherwise: that
//! is how requests are smuggled.

use std::io;
use std::io::ErrorKind;
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

/// So much longer an answer may take for each byte of it that was taken: 16 KiB a second are a slow phone.
const BYTE: Duration = Duration::from_micros(61);

/// A stream that hands over one request head at a time, and notes whether a bare LF was in it.
#[derive(Debug)]
pub struct BareLfGuard {
    stream: Stream,
    lines: HeadLines,
    /// What was read behind the end of a head, until somebody asks for it.
    held: Vec<u8>,
    bare: BareLf,
    patience: Duration,
    /// When the patience with a peer ends that does not take an answer; set while one waits for it.
    late: Option<Pin<Box<Sleep>>>,
}

/// Whether the head that was handed over last has a line that ends with a bare LF.
#[derive(Clone, Debug, Default)]
pub struct BareLf(Arc<AtomicBool>);

impl BareLf {
    /// Whether it has; asked once for each head.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl BareLfGuard {
    /// Reads the stream strictly, behind what was `read` from it already, and tells `bare` what it finds.
    /// A peer has the time `patience` to take an answer, and longer for a long one.
    pub fn new(stream: Stream, read: Vec<u8>, bare: BareLf, patience: Duration) -> Self {
        Self { stream, lines: HeadLines::default(), held: read, bare, patience, late: None }
    }

    /// The stream, and what was read from it and handed to no one.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Whether the patience has ended with a peer that takes nothing; it begins with the first that waits.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.late.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context)
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
        if this.held.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        } else {
            let count = this.held.len().min(buffer.remaining());
            buffer.put_slice(&this.held[..count]);
            this.held.drain(..count);
        }
        let (read, bare) = this.lines.read_head(&buffer.filled()[start..]);
        if bare {
            this.bare.0.store(true, Ordering::Release);
        }
        let behind = &buffer.filled()[start + read..];
        this.held.splice(..0, behind.iter().copied());
        buffer.set_filled(start + read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BareLfGuard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write(context, bytes) {
            if let (Some(late), Ok(count)) = (&mut this.late, &written) {
                let gained = BYTE * u32::try_from(*count).unwrap_or(u32::MAX);
                let until = late.deadline() + gained;
                late.as_mut().reset(until);
            }
            return Poll::Ready(written);
        }
        ready!(this.poll_late(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    /// hyper asks for this when it has written all that it had. Inside TLS some of that may still wait for the peer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(flushed) = Pin::new(&mut this.stream).poll_flush(context) {
            this.late = None;
            return Poll::Ready(flushed);
        }
        ready!(this.poll_late(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Where in a line the bytes have ended.
#[derive(Debug, Default)]
pub struct HeadLines {
    /// Bytes of the line so far, its CR not counted.
    length: usize,
    after_cr: bool,
}

impl HeadLines {
    /// How many of `bytes` there are up to the empty line that ends a head, and whether a line ended with a bare LF.
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

    /// What becomes of a long answer to a reader that takes so much at a time, after each of these pauses.
    async fn answer(chunk: usize, pause: Duration) -> io::Result<()> {
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
    async fn an_answer_that_is_taken_by_the_byte_is_given_up_and_one_that_is_taken_is_not() {
        let given_up = answer(1, Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(given_up.kind(), ErrorKind::TimedOut);
        answer(256 * 1024, Duration::from_millis(5)).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_inside_tls_that_nobody_takes_is_given_up() {
        let (stream, _client) = pair().await;
        let mut stream = BareLfGuard::new(stream, Vec::new(), BareLf::default(), Duration::from_millis(200));
        // TLS takes it at once, and more than the kernel does.
        stream.write_all(&[b'x'; 60 * 1024]).await.unwrap();
        let flushed = timeout(Duration::from_secs(5), stream.flush()).await;
        assert_eq!(flushed.expect("an end").unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// What is handed over when `bytes` come in two pieces, whether it had a bare LF, and how much is behind it.
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

    #[test]
    fn hs_06_heads_end_at_their_empty_line_and_bare_lfs_are_noted() {
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
