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
use std::sync::atomic::AtomicU64;
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

/// Empty lines that may come before a request. RFC 9112 §2.2: a server should ignore at least one.
const MAX_EMPTY_LINES: usize = 2;

/// A stream that returns one request head per read, and records whether it has a bare LF. Bodies are not searched.
#[derive(Debug)]
pub struct BareLfGuard {
    stream: Stream,
    lines: HeadLines,
    /// Bytes that were read from the stream and not returned yet: those from `returned` on.
    pending: Vec<u8>,
    returned: usize,
    /// The bytes of the body that are still to come before the next head. `UNKNOWN_LENGTH`: no head follows.
    body: u64,
    requests: RequestFraming,
    write_timeout: Duration,
    /// When writing times out; set while a write waits for the peer.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

/// A body whose end the guard cannot find, because it is chunked.
const UNKNOWN_LENGTH: u64 = u64::MAX;

/// What the guard and the service that handles the requests tell each other.
#[derive(Clone, Debug, Default)]
pub struct RequestFraming(Arc<Framing>);

#[derive(Debug, Default)]
struct Framing {
    /// Whether the last head has a line that ends with a bare LF.
    bare_lf: AtomicBool,
    /// The length of the body after the last head, once it is known.
    body: AtomicU64,
}

impl RequestFraming {
    /// Whether the head has a bare LF. Clears the flag.
    pub fn take_bare_lf(&self) -> bool {
        self.0.bare_lf.swap(false, Ordering::AcqRel)
    }

    /// The head has been parsed, and a body of this length follows; `None`: of unknown length. Then the connection must
    /// end after the response, because the next head cannot be found. hyper calls the service before it reads on.
    pub fn expect_body(&self, length: Option<u64>) {
        self.0.body.store(length.unwrap_or(UNKNOWN_LENGTH), Ordering::Release);
    }
}

impl BareLfGuard {
    /// Wraps a stream from which the bytes `read` were already read. A peer must take each response within
    /// `write_timeout`, plus time for its length.
    pub fn new(stream: Stream, read: Vec<u8>, requests: RequestFraming, write_timeout: Duration) -> Self {
        let lines = HeadLines::default();
        Self {
            stream,
            lines,
            pending: read,
            returned: 0,
            body: 0,
            requests,
            write_timeout,
            write_deadline: None,
        }
    }

    /// The stream, and the bytes that were read from it but not returned yet.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        let mut pending = self.pending;
        pending.drain(..self.returned);
        (self.stream, pending)
    }

    /// How many of these bytes to return now: up to the end of the head, or of the body.
    fn next_piece(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body > 0 {
            let count = usize::try_from(self.body).map_or(bytes.len(), |left| left.min(bytes.len()));
            if self.body != UNKNOWN_LENGTH {
                self.body -= count as u64;
            }
            return Ok(count);
        }
        let Head { end, bare_lf, empty_lines } = self.lines.read_head(bytes);
        if empty_lines > MAX_EMPTY_LINES {
            return Err(io::Error::new(ErrorKind::InvalidData, "too many empty lines before a request"));
        }
        if bare_lf {
            self.requests.0.bare_lf.store(true, Ordering::Release);
        }
        Ok(end)
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
        let announced = this.requests.0.body.swap(0, Ordering::AcqRel);
        if announced > 0 {
            this.body = announced;
        }
        if this.returned < this.pending.len() {
            let pending = std::mem::take(&mut this.pending);
            let rest = &pending[this.returned..];
            let count = this.next_piece(&rest[..rest.len().min(buffer.remaining())]);
            let count = count.inspect(|count| buffer.put_slice(&rest[..*count]));
            this.pending = pending;
            this.returned += count?;
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let count = this.next_piece(&buffer.filled()[start..])?;
        this.pending.clear();
        this.pending.extend_from_slice(&buffer.filled()[start + count..]);
        this.returned = 0;
        buffer.set_filled(start + count);
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
#[derive(Debug)]
pub struct HeadLines {
    /// Whether the current line has nothing but CR so far.
    is_empty: bool,
    after_cr: bool,
    /// Whether the head has a line that is not empty.
    has_begun: bool,
    /// The empty lines before the head.
    empty_lines: usize,
}

/// What [`HeadLines::read_head`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The number of bytes up to and with the empty line that ends the head, or all bytes.
    pub end: usize,
    /// Whether a line ended with a bare LF.
    pub bare_lf: bool,
    /// The empty lines before the head.
    pub empty_lines: usize,
}

impl Default for HeadLines {
    fn default() -> Self {
        Self { is_empty: true, after_cr: false, has_begun: false, empty_lines: 0 }
    }
}

impl HeadLines {
    /// Reads on, to the end of the head.
    pub fn read_head(&mut self, bytes: &[u8]) -> Head {
        let (mut bare_lf, mut start) = (false, 0);
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.read_piece(&bytes[start..end]);
            start = end + 1;
            let Self { is_empty, after_cr, .. } = *self;
            bare_lf |= !after_cr;
            (self.is_empty, self.after_cr) = (true, false);
            match (is_empty, self.has_begun) {
                (true, true) => {
                    *self = Self::default();
                    return Head { end: start, bare_lf, empty_lines: 0 };
                }
                (true, false) => self.empty_lines += 1,
                (false, _) => self.has_begun = true,
            }
        }
        self.read_piece(&bytes[start..]);
        Head { end: bytes.len(), bare_lf, empty_lines: self.empty_lines }
    }

    /// Reads a part of a line, without its end.
    fn read_piece(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        self.is_empty = self.is_empty && piece.iter().all(|byte| *byte == b'\r');
        self.after_cr = *last == b'\r';
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
            BareLfGuard::new(stream.into(), Vec::new(), RequestFraming::default(), Duration::from_secs(1));
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
        let mut stream =
            BareLfGuard::new(stream, Vec::new(), RequestFraming::default(), Duration::from_millis(200));
        // The TLS session buffers it at once, and it is more than the kernel buffers.
        stream.write_all(&[b'x'; 60 * 1024]).await.unwrap();
        let flushed = timeout(Duration::from_secs(5), stream.flush()).await;
        assert_eq!(flushed.expect("an end").unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// The length of the head in `bytes`, which arrive in two pieces, and whether it has a bare LF.
    fn read(bytes: &str, cut: usize) -> (usize, bool) {
        let mut lines = HeadLines::default();
        let (first, second) = bytes.as_bytes().split_at(cut);
        let Head { end, bare_lf, .. } = lines.read_head(first);
        let has_text = first[..end].iter().any(|byte| !b"\r\n".contains(byte));
        let has_ended = has_text && lines.is_empty && !lines.has_begun;
        if has_ended {
            return (end, bare_lf);
        }
        assert_eq!(end, cut);
        let more = lines.read_head(second);
        (end + more.end, bare_lf || more.bare_lf)
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

    /// The same byte by byte, from the definition: the end of the head, and whether a line ended with a bare LF.
    fn read_by_byte(bytes: &[u8]) -> (usize, bool) {
        let (mut bare_lf, mut has_begun) = (false, false);
        let mut start = 0;
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            let line = &bytes[start..at];
            bare_lf |= !line.ends_with(b"\r");
            start = at + 1;
            let is_empty = line.iter().all(|byte| *byte == b'\r');
            if is_empty && has_begun {
                return (start, bare_lf);
            }
            has_begun |= !is_empty;
        }
        (bytes.len(), bare_lf)
    }

    #[test]
    fn hs_06_heads_of_all_short_texts_are_found_wherever_they_are_cut() {
        let mut texts = vec![String::new()];
        for _ in 0..8 {
            texts =
                texts.iter().flat_map(|text| ["a", "\r", "\n"].map(|next| format!("{text}{next}"))).collect();
            for text in &texts {
                let expected = read_by_byte(text.as_bytes());
                (0..=text.len())
                    .for_each(|cut| assert_eq!(read(text, cut), expected, "{text:?} cut at {cut}"));
            }
        }
    }

    #[test]
    fn empty_lines_before_a_head_are_counted_in_one_pass() {
        let mut lines = HeadLines::default();
        let flood = "\r\n".repeat(1000);
        assert_eq!(lines.read_head(flood.as_bytes()), Head { end: 2000, bare_lf: false, empty_lines: 1000 });
        assert_eq!(lines.read_head(b"GET / HTTP/1.1\r\n\r\n").empty_lines, 0);
        assert_eq!(lines.read_head(b"\r\n").empty_lines, 1, "they belong to the next head");
        let after = HeadLines::default().read_head(b"\r\n\nGET / HTTP/1.1\r\n\r\nmore");
        assert_eq!(after, Head { end: 21, bare_lf: true, empty_lines: 0 });
    }
}
