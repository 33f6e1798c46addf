//! The baseline server: writes prepared frames from memory to sockets, with one vectored write per socket and batch. It
//! has no message bus, encoding, sessions or timers, so the difference between it and a server is the server's own
//! cost.
//!
//! It runs as a separate process, so that its CPU is measured like that of the other servers. Each thread has its own
//! port, sockets and feed of publications; threads share nothing.

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
use socket2::SockRef;

/// The first bytes of a producer's connection. Records follow: a [`RECORD_HEADER`] and a frame each.
pub const FEED: &[u8] = b"FEED\r\n\r\n";
/// Bytes of a record's header: the number of the subject and the length of the frame, each a little-endian `u32`.
const RECORD_HEADER: usize = 8;
/// Bytes per read from a feed.
const READ: usize = 256 * 1024;
/// The most slices that the kernel accepts in one vectored write (`IOV_MAX`).
const SLICES: usize = 1024;
/// The length of the listener's queue, the same as Tidegate's.
const BACKLOG: i32 = 4096;
const LISTENER: Token = Token(usize::MAX);
/// The response to every handshake. Its key is constant, because the bench's clients do not check it.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One thread of the baseline server.
#[derive(Debug)]
pub struct Baseline {
    poll: Poll,
    listener: TcpListener,
    pub address: SocketAddr,
    sockets: Slab<Socket>,
    /// The sockets that subscribe to each subject, by the number of the subject.
    subscribers: Vec<Vec<usize>>,
    /// Bytes that were read from the feed and not yet delivered.
    feed: Vec<u8>,
    /// Sockets with frames in the current batch.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    role: SocketRole,
    /// Bytes that the kernel did not accept yet.
    unsent: Vec<u8>,
    /// The places in the feed of this socket's frames in the current batch.
    batch: Vec<Range<usize>>,
}

#[derive(Debug)]
enum SocketRole {
    /// The handshake is incomplete. Holds the bytes received so far.
    Handshake(Vec<u8>),
    Producer,
    /// A client, with the numbers of its subjects.
    Client(Vec<usize>),
}

impl Baseline {
    /// Listens on a free loopback port.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        // It listens already; this makes its queue longer.
        SockRef::from(&listener).listen(BACKLOG)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let (sockets, subscribers, feed, changed) = (Slab::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poll, listener, address, sockets, subscribers, feed, changed })
    }

    /// Serves sockets until the process is killed. Returns only errors.
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
                // The peer closed the connection before we accepted it.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.sockets.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
            entry.insert(Socket {
                stream,
                role: SocketRole::Handshake(Vec::new()),
                unsent: Vec::new(),
                batch: Vec::new(),
            });
        }
    }

    fn serve(&mut self, number: usize) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(number) else { return Ok(()) };
        socket.flush_unsent()?;
        match &socket.role {
            SocketRole::Producer => self.read_feed(number),
            SocketRole::Handshake(_) => self.read_handshake(number),
            SocketRole::Client(_) => socket.discard_input(),
        }
    }

    /// Reads a request. Its path has the numbers of the client's subjects: `GET /0,7,12 HTTP/1.1`.
    fn read_handshake(&mut self, number: usize) -> io::Result<()> {
        let mut scratch = [0; 4096];
        let Some(socket) = self.sockets.get_mut(number) else { return Ok(()) };
        let SocketRole::Handshake(head) = &mut socket.role else { return Ok(()) };
        loop {
            match socket.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => head.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if let Some(rest) = head.strip_prefix(FEED) {
                self.feed.extend_from_slice(rest);
                socket.role = SocketRole::Producer;
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
            if self.subscribers.len() <= subject {
                self.subscribers.resize_with(subject + 1, Vec::new);
            }
            self.subscribers[subject].push(number);
        }
        socket.role = SocketRole::Client(subjects);
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

    /// Sends all complete records of the feed to the subscribers of their subjects.
    fn deliver(&mut self) {
        let mut at = 0;
        while let Some((subject, frame)) = next_record(&self.feed, at) {
            for &subscriber in self.subscribers.get(subject).into_iter().flatten() {
                let batch = &mut self.sockets[subscriber].batch;
                if batch.is_empty() {
                    self.changed.push(subscriber);
                }
                batch.push(frame.clone());
            }
            at = frame.end;
        }
        for number in std::mem::take(&mut self.changed) {
            if self.sockets[number].send(&self.feed).is_err() {
                self.remove(number);
            }
        }
        self.feed.drain(..at);
    }

    fn remove(&mut self, number: usize) {
        let Some(socket) = self.sockets.try_remove(number) else { return };
        if let SocketRole::Client(subjects) = socket.role {
            for subject in subjects {
                self.subscribers[subject].retain(|&subscriber| subscriber != number);
            }
        }
    }
}

impl Socket {
    /// Sends the frames of the current batch, and copies what the kernel does not accept to `unsent`.
    fn send(&mut self, feed: &[u8]) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        for part in batch.chunks(SLICES) {
            if !self.unsent.is_empty() {
                part.iter().for_each(|frame| self.unsent.extend_from_slice(&feed[frame.clone()]));
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
                self.unsent.extend_from_slice(&slice[taken..]);
                sent -= taken;
            }
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    fn flush_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads and discards what a client sends, to notice when it disconnects.
    fn discard_input(&mut self) -> io::Result<()> {
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

/// The record at this offset: the number of its subject, and the place of its frame. `None` if it is incomplete.
fn next_record(feed: &[u8], at: usize) -> Option<(usize, Range<usize>)> {
    let word = |at: usize| Some(u32::from_le_bytes(*feed.get(at..)?.first_chunk()?));
    let (subject, length) = (word(at)?, word(at + 4)?);
    let start = at + RECORD_HEADER;
    let end = start + usize::try_from(length).ok()?;
    (end <= feed.len()).then_some((usize::try_from(subject).ok()?, start..end))
}

/// The numbers of the subjects in the path of a request.
fn subjects(head: &[u8]) -> Vec<usize> {
    let head = String::from_utf8_lossy(head);
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    path.split(',').filter_map(|number| number.parse().ok()).collect()
}
