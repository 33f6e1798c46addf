//! `EventStream`: Server-Sent Events in the body of an HTTP response. The client cannot send messages on it, so its
//! subscriptions come from the request.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;

use bytes::Bytes;
use futures_util::Stream;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::frame::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::sync::PollSender;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::hub::outbox::InFlight;

/// Writes that may wait for the HTTP connection. All others wait in the outbox, where newer ones can replace them.
const WRITES: usize = 1;

/// An HTTP response whose body is written event by event.
pub struct EventStream {
    body: RefCell<PollSender<Bytes>>,
    /// Cancelled to end the body like a broken connection, so that the client notices that it is incomplete.
    cut: CancellationToken,
    /// Completes when the client or the HTTP connection drops the body.
    gone: RefCell<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Messages that the client would send first on a WebSocket.
    first: Cell<Vec<ClientMessage>>,
}

/// The body of the response.
pub struct EventBody {
    writes: mpsc::Receiver<Bytes>,
    cut: CancellationToken,
    _gone: DropGuard,
}

impl EventStream {
    /// Creates a stream and the body of its response. The session processes `first` as messages from the client.
    pub fn new(first: Vec<ClientMessage>) -> (Self, EventBody) {
        let (sender, writes) = mpsc::channel(WRITES);
        let gone = CancellationToken::new();
        let cut = CancellationToken::new();
        let body = EventBody { writes, cut: cut.clone(), _gone: gone.clone().drop_guard() };
        let stream = Self {
            body: RefCell::new(PollSender::new(sender)),
            cut,
            gone: RefCell::new(Box::pin(gone.cancelled_owned())),
            first: Cell::new(first),
        };
        (stream, body)
    }

    pub(super) fn take_initial_input(&self) -> Vec<ClientMessage> {
        self.first.take()
    }

    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        self.gone.borrow_mut().as_mut().poll(context)
    }

    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.body.borrow_mut().poll_reserve(context).map(drop)
    }

    /// Writes all of the frames, or none: `WouldBlock` if the HTTP connection has not taken the previous write.
    pub(super) fn write(&self, taken: &[InFlight]) -> io::Result<usize> {
        let mut body = self.body.borrow_mut();
        // No waker: a task that waits for room calls `poll_writable`.
        match body.poll_reserve(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
            Poll::Ready(Err(_)) => return Err(ErrorKind::BrokenPipe.into()),
            Poll::Ready(Ok(())) => {}
        }
        let length = taken.iter().map(|taken| taken.bytes().len()).sum();
        let mut events = Vec::with_capacity(length + length / 8);
        taken.iter().flat_map(InFlight::frames).for_each(|frame| put_event(&mut events, frame));
        if events.is_empty() {
            body.abort_send();
            return Ok(length);
        }
        body.send_item(events.into()).map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
        Ok(length)
    }

    /// Ends the body at once, as an incomplete one.
    pub(super) fn abort(&self) {
        self.cut.cancel();
        self.end();
    }

    /// Ends the body after what was written.
    pub(super) fn end(&self) {
        self.body.borrow_mut().close();
    }
}

impl Stream for EventBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let write = ready!(self.writes.poll_recv(context));
        Poll::Ready(match write {
            Some(write) => Some(Ok(write)),
            None => self.cut.is_cancelled().then(|| Err(ErrorKind::ConnectionAborted.into())),
        })
    }
}

/// Writes a frame as an event. A ping becomes a comment, so that proxies do not close the stream as idle. A close frame
/// is left out: a message has announced the end already, and the body ends after it.
fn put_event(out: &mut Vec<u8>, frame: &Frame) {
    if frame.is_ping() {
        out.extend_from_slice(b":\n\n");
    } else if frame.is_message() {
        // Server-Sent Events end a line at either of these, and JSON may have several lines.
        for line in frame.message().split(|byte| matches!(byte, b'\n' | b'\r')) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_body_ends_as_complete_unless_the_stream_is_aborted() {
        for (is_aborted, ends) in [(false, None), (true, Some(ErrorKind::ConnectionAborted))] {
            let (stream, mut body) = EventStream::new(Vec::new());
            if is_aborted {
                stream.abort()
            } else {
                stream.end()
            }
            let last = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await;
            assert_eq!(last.map(|last| last.unwrap_err().kind()), ends);
        }
    }

    #[test]
    fn a_message_is_an_event_a_ping_a_comment_and_a_close_nothing() {
        let text = |text: &str| Frame::text(0, |out| out.extend_from_slice(text.as_bytes()));
        for (frame, event) in [
            (text(r#"{"type":"pong"}"#), "data: {\"type\":\"pong\"}\n\n"),
            (text("{\n\"a\":\r1}"), "data: {\ndata: \"a\":\ndata: 1}\n\n"),
            (Frame::ping(), ":\n\n"),
            (Frame::close(4001, "unauthorized"), ""),
        ] {
            let mut out = Vec::new();
            put_event(&mut out, &frame);
            assert_eq!(String::from_utf8_lossy(&out), event);
        }
    }
}
