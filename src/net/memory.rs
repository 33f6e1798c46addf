//! `MemoryStream`: the stream of a client without a socket. A test has the other end, and decides when bytes move.
#![expect(
    clippy::disallowed_types,
    reason = "streams may move between threads; only one thread of a test uses this one"
)]

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The node's end. No task is woken: the test polls.
#[derive(Debug)]
pub struct MemoryStream(Shared);

/// The client's end.
#[derive(Debug)]
pub struct MemoryClient(Shared);

type Shared = Arc<Mutex<Pipes>>;

#[derive(Debug)]
struct Pipes {
    to_node: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The most bytes in `to_client`, like the buffer of a socket.
    capacity: usize,
    /// The client sends nothing more, and reads nothing more.
    is_client_gone: bool,
    /// The node sends nothing more.
    is_shut_down: bool,
    /// The node discards what is unsent.
    is_aborted: bool,
}

/// A stream and its client. The stream takes up to `capacity` bytes that the client has not received.
pub fn pair(capacity: usize) -> (MemoryStream, MemoryClient) {
    let pipes = Pipes {
        to_node: VecDeque::new(),
        to_client: VecDeque::new(),
        capacity,
        is_client_gone: false,
        is_shut_down: false,
        is_aborted: false,
    };
    let shared = Arc::new(Mutex::new(pipes));
    (MemoryStream(Arc::clone(&shared)), MemoryClient(shared))
}

fn lock(shared: &Shared) -> MutexGuard<'_, Pipes> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(queue: &mut VecDeque<u8>, buffer: &mut [u8]) -> usize {
    let count = buffer.len().min(queue.len());
    for (slot, byte) in buffer.iter_mut().zip(queue.drain(..count)) {
        *slot = byte;
    }
    count
}

impl MemoryStream {
    /// Whether there are bytes to read, or the client has gone.
    pub(super) fn is_readable(&self) -> bool {
        let pipes = lock(&self.0);
        pipes.is_client_gone || !pipes.to_node.is_empty()
    }

    /// Whether it takes bytes, or the client has gone.
    pub(super) fn is_writable(&self) -> bool {
        let pipes = lock(&self.0);
        pipes.is_client_gone || pipes.to_client.len() < pipes.capacity
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipes = lock(&self.0);
        match take(&mut pipes.to_node, buffer) {
            0 if !pipes.is_client_gone => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipes = lock(&self.0);
        if pipes.is_client_gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(pipes.capacity.saturating_sub(pipes.to_client.len()));
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipes.to_client.extend(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn shutdown(&self) {
        lock(&self.0).is_shut_down = true;
    }

    pub(super) fn abort(&self) {
        lock(&self.0).is_aborted = true;
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut pipes = lock(&self.0);
        pipes.is_shut_down = true;
        if pipes.is_aborted {
            pipes.to_client.clear();
        }
    }
}

impl MemoryClient {
    /// Sends bytes. They are lost if the client has gone.
    pub fn send(&self, bytes: &[u8]) {
        let mut pipes = lock(&self.0);
        if !pipes.is_client_gone {
            pipes.to_node.extend(bytes);
        }
    }

    /// Appends up to `max` bytes that have arrived to `received`. Returns their number.
    pub fn receive(&self, max: usize, received: &mut Vec<u8>) -> usize {
        let mut pipes = lock(&self.0);
        let count = max.min(pipes.to_client.len());
        received.extend(pipes.to_client.drain(..count));
        count
    }

    /// The number of bytes that have arrived.
    pub fn arrived(&self) -> usize {
        lock(&self.0).to_client.len()
    }

    /// The number of bytes that the node has not read.
    pub fn unread(&self) -> usize {
        lock(&self.0).to_node.len()
    }

    /// Whether the node sends nothing more.
    pub fn is_ended(&self) -> bool {
        lock(&self.0).is_shut_down
    }

    /// Closes the connection.
    pub fn close(&self) {
        lock(&self.0).is_client_gone = true;
    }
}
