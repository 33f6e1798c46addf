//! The floor: frames that are ready go from memory to sockets, with one vectored write for each socket and batch. No
//! bus, no encoding, no session, no timer. What a server costs above it is what the server itself costs.
//!
//! It is a process of its own, so that its CPU is counted like that of the others. Each thread has a port, its own
//! sockets, and its own feed of publications; threads share nothing.

#[cfg(test)]
mod tests;

use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::Range;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;
use slab::Slab;

/// What a connection begins with that brings publications.
pub const FEED: &[u8] = b"FEED\r\n\r\n";
/// The subject's number and the frame's length, each a little-endian `u32`.
const RECORD_HEADER: usize = 8;
/// What is read of a feed at once.
const READ: usize = 256 * 1024;
/// As many as the kernel takes in one write (`IOV_MAX`).
const SLICES: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
/// The answer to any request: our clients do not check what they know.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One thread of it.
#[derive(Debug)]
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    sockets: Slab<Socket>,
    /// Who listens to a subject, by the subject's number.
    listeners: Vec<Vec<usize>>,
    /// Read and not yet delivered.
    feed: Vec<u8>,
    /// Sockets that get something of this batch.
    dirty: Vec<usize>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    kind: BaselineKind,
    /// What the socket did not take.
    left: Vec<u8>,
    /// Where in the feed its frames of this batch are.
    batch: Vec<Range<usize>>,
}

#[derive(Debug)]
enum BaselineKind {
    /// With what it has said so far.
    New(Vec<u8>),
    Feed,
    Client(Vec<usize>),
}

impl Floor {
    /// Listens on a port of its own.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let (sockets, listeners, feed, dirty) = (Slab::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poll, listener, address, sockets, listeners, feed, dirty })
    }

    /// Works until the process ends.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(number) => {
                        if self.serve(number).is_err() {
                            self.remove(number);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The peer has gone again.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.sockets.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
            entry.insert(Socket {
                stream,
                kind: BaselineKind::New(Vec::new()),
                left: Vec::new(),
                batch: Vec::new(),
            });
        }
    }

    fn serve(&mut self, number: usize) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(number) else { return Ok(()) };
        socket.send_left()?;
        match &socket.kind {
            BaselineKind::Feed => self.read_feed(number),
            BaselineKind::New(_) => self.greet(number),
            BaselineKind::Client(_) => socket.ignore(),
        }
    }

    /// A request names the subjects in its path: `GET /0,7,12 HTTP/1.1`.
    fn greet(&mut self, number: usize) -> io::Result<()> {
        let mut scratch = [0; 4096];
        let Some(socket) = self.sockets.get_mut(number) else { return Ok(()) };
        let BaselineKind::New(head) = &mut socket.kind else { return Ok(()) };
        loop {
            match socket.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => head.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if let Some(rest) = head.strip_prefix(FEED) {
                self.feed.extend_from_slice(rest);
                socket.kind = BaselineKind::Feed;
                // Publications may have come right behind.
                self.deliver();
                return self.read_feed(number);
            }
            if head.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let subjects = subjects(head);
        socket.stream.write_all(UPGRADED)?;
        for &subject in &subjects {
            if self.listeners.len() <= subject {
                self.listeners.resize_with(subject + 1, Vec::new);
            }
            self.listeners[subject].push(number);
        }
        socket.kind = BaselineKind::Client(subjects);
        Ok(())
    }

    fn read_feed(&mut self, number: usize) -> io::Result<()> {
        loop {
            let Some(socket) = self.sockets.get_mut(number) else { return Ok(()) };
            let start = self.feed.len();
            self.feed.resize(start + READ, 0);
            let read = socket.stream.read(&mut self.feed[start..]);
            self.feed.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.deliver();
                    if count < READ {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives what is whole in the feed to those who listen.
    fn deliver(&mut self) {
        let mut at = 0;
        while let Some((subject, frame)) = record(&self.feed, at) {
            for &listener in self.listeners.get(subject).into_iter().flatten() {
                let batch = &mut self.sockets[listener].batch;
                if batch.is_empty() {
                    self.dirty.push(listener);
                }
                batch.push(frame.clone());
            }
            at = frame.end;
        }
        for number in std::mem::take(&mut self.dirty) {
            if self.sockets[number].send(&self.feed).is_err() {
                self.remove(number);
            }
        }
        self.feed.drain(..at);
    }

    fn remove(&mut self, number: usize) {
        let Some(socket) = self.sockets.try_remove(number) else { return };
        if let BaselineKind::Client(subjects) = socket.kind {
            for subject in subjects {
                self.listeners[subject].retain(|&listener| listener != number);
            }
        }
    }
}

impl Socket {
    /// Sends the frames of this batch, and keeps a copy of what is not taken.
    fn send(&mut self, feed: &[u8]) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        for part in batch.chunks(SLICES) {
            if !self.left.is_empty() {
                part.iter().for_each(|frame| self.left.extend_from_slice(&feed[frame.clone()]));
                continue;
            }
            let slices: Vec<_> = part.iter().map(|frame| IoSlice::new(&feed[frame.clone()])).collect();
            let mut sent = match self.stream.write_vectored(&slices) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            for slice in slices {
                let taken = sent.min(slice.len());
                self.left.extend_from_slice(&slice[taken..]);
                sent -= taken;
            }
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    fn send_left(&mut self) -> io::Result<()> {
        while !self.left.is_empty() {
            match self.stream.write(&self.left) {
                Ok(sent) => drop(self.left.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Clients say nothing that matters; that they have gone does.
    fn ignore(&mut self) -> io::Result<()> {
        let mut scratch = [0; 1024];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The record at this place: its subject, and where its frame is.
fn record(feed: &[u8], at: usize) -> Option<(usize, Range<usize>)> {
    let word = |at: usize| Some(u32::from_le_bytes(*feed.get(at..)?.first_chunk()?));
    let (subject, length) = (word(at)?, word(at + 4)?);
    let start = at + RECORD_HEADER;
    let end = start + usize::try_from(length).ok()?;
    (end <= feed.len()).then_some((usize::try_from(subject).ok()?, start..end))
}

/// The subjects that a request names.
fn subjects(head: &[u8]) -> Vec<usize> {
    let head = String::from_utf8_lossy(head);
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    path.split(',').filter_map(|number| number.parse().ok()).collect()
}
