//! Many clients on one thread, with one `epoll` instance for all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use fastrand::Rng;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;

use crate::client::Client;
use crate::client::ClientConfig;
use crate::client::frame_parser::ClientEvent;

/// Size of the read buffer that all clients share.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Handshakes in progress at a time, in workloads that do not measure them.
const MAX_HANDSHAKES: usize = 64;
/// Longest time for all clients to connect and subscribe. With several processes, multiplied by their number.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Clients, identified by their index.
#[derive(Debug)]
pub struct ClientPool {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    clients: Vec<Client>,
    paused: Vec<bool>,
    /// Clients that wait to connect.
    queue: VecDeque<usize>,
    /// Clients that wait before they try again, by time.
    retries: BinaryHeap<Reverse<(Instant, usize)>>,
    connecting: usize,
    max_handshakes: usize,
    /// Longest time for all clients to connect and subscribe.
    timeout: Duration,
    /// The number of the first client among those of all processes. It selects the source address.
    first: usize,
    live: usize,
    /// Number of handshakes that were rejected with 503.
    pub rejected: u64,
    /// Number of handshakes that failed, and the error of the last one.
    pub failed: (u64, String),
    rng: Rng,
}

impl ClientPool {
    /// A pool of clients that are not connected.
    pub fn new(configs: Vec<ClientConfig>) -> anyhow::Result<Self> {
        let clients: Vec<_> = configs.into_iter().map(Client::new).collect();
        Ok(Self {
            poll: Poll::new().context("the system has no epoll")?,
            events: Events::with_capacity(1024),
            scratch: vec![0; SCRATCH_BYTES],
            paused: vec![false; clients.len()],
            queue: VecDeque::new(),
            retries: BinaryHeap::new(),
            connecting: 0,
            max_handshakes: MAX_HANDSHAKES,
            timeout: TIMEOUT,
            first: 0,
            live: 0,
            rejected: 0,
            failed: (0, String::new()),
            rng: Rng::with_seed(1),
            clients,
        })
    }

    /// A pool of clients that are connected and subscribed. Fails if one of them cannot subscribe.
    pub fn connected(configs: impl Iterator<Item = anyhow::Result<ClientConfig>>) -> anyhow::Result<Self> {
        let mut pool = Self::new(configs.collect::<anyhow::Result<_>>()?)?;
        pool.connect_all(|_, _| {})?;
        Ok(pool)
    }

    /// Connects all clients, and waits until all are subscribed.
    pub fn connect_all(&mut self, mut on_event: impl FnMut(usize, ClientEvent<'_>)) -> anyhow::Result<()> {
        self.queue.extend(0..self.clients.len());
        let until = Instant::now() + self.timeout;
        while self.live < self.clients.len() {
            self.poll(Duration::from_millis(100), &mut |client, event, _| on_event(client, event))?;
            if Instant::now() > until || self.failed.0 > self.clients.len() as u64 {
                let (missing, reason) = (self.clients.len() - self.live, &self.failed.1);
                bail!("{missing} clients could not subscribe within {:?}: {reason}", self.timeout);
            }
        }
        Ok(())
    }

    /// For a pool that is one of several processes: its first client's number among those of all processes, and the
    /// number of processes.
    pub fn share_machine(&mut self, first: usize, processes: usize) {
        self.first = first;
        self.timeout = TIMEOUT * u32::try_from(processes).unwrap_or(u32::MAX);
    }

    /// Sets how many handshakes may be in progress at a time.
    pub fn set_max_handshakes(&mut self, max_handshakes: usize) {
        self.max_handshakes = max_handshakes;
    }

    /// Closes all connections with a TCP reset.
    pub fn reset_all(&mut self) {
        self.clients.iter_mut().for_each(Client::reset);
        self.queue.clear();
        self.retries.clear();
        (self.connecting, self.live) = (0, 0);
    }

    /// Closes a client's connection and queues it to connect again, with a new configuration if one is given.
    pub fn reconnect(&mut self, client: usize, config: Option<ClientConfig>) {
        self.disconnect(client);
        if let Some(config) = config {
            self.clients[client].set_config(config);
        }
        self.queue.push_back(client);
    }

    /// Closes a client's connection, and updates the counts.
    fn disconnect(&mut self, client: usize) {
        if self.clients[client].is_live() {
            self.live -= 1;
        } else if self.clients[client].is_connecting() {
            self.connecting -= 1;
        }
        self.clients[client].reset();
    }

    pub fn client(&mut self, client: usize) -> &mut Client {
        &mut self.clients[client]
    }

    /// Number of bytes that all clients have read after their upgrades.
    pub fn bytes(&self) -> u64 {
        self.clients.iter().map(|client| client.bytes).sum()
    }

    /// Number of pings that each client has received.
    pub fn pings(&self) -> Vec<u64> {
        self.clients.iter().map(Client::pings).collect()
    }

    /// Number of clients that are subscribed.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Stops reading from a client's socket.
    pub fn pause(&mut self, client: usize) {
        self.paused[client] = true;
    }

    /// Reads from a paused client's socket again.
    pub fn resume(
        &mut self,
        client: usize,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>, Instant),
    ) -> anyhow::Result<()> {
        self.paused[client] = false;
        // Readiness events that arrived during the pause were ignored, so read until the socket is empty.
        loop {
            let before = self.clients[client].bytes;
            self.serve(client, on_event)?;
            if self.clients[client].bytes == before {
                return Ok(());
            }
        }
    }

    /// Waits for socket events until the timeout, and handles them: connects, reads, writes, and calls `on_event`.
    pub fn poll(
        &mut self,
        timeout: Duration,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>, Instant),
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut timeout = timeout;
        while let Some(Reverse((when, client))) = self.retries.peek().copied() {
            if when > now {
                timeout = timeout.min(when - now);
                break;
            }
            self.retries.pop();
            self.queue.push_back(client);
        }
        while self.connecting < self.max_handshakes
            && let Some(client) = self.queue.pop_front()
        {
            self.connect(client)?;
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("cannot poll the clients' sockets"),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.serve(event.token().0, on_event)?;
        }
        self.events = events;
        Ok(())
    }

    fn connect(&mut self, client: usize) -> anyhow::Result<()> {
        let stream = self.clients[client].connect(self.first + client).context("cannot connect")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(client), interest)?;
        self.connecting += 1;
        Ok(())
    }

    fn serve(
        &mut self,
        number: usize,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>, Instant),
    ) -> anyhow::Result<()> {
        if self.paused[number] {
            return Ok(());
        }
        let client = &mut self.clients[number];
        let (was_connecting, was_live) = (client.is_connecting(), client.is_live());
        if !was_connecting && !was_live {
            return Ok(());
        }
        let now = Instant::now();
        let mut rejected = false;
        let mut end = None;
        let read = client.flush().and_then(|()| {
            client.read(&mut self.scratch, &mut |event| match event {
                ClientEvent::Rejected => rejected = true,
                ClientEvent::Ended(reason) => end = Some(reason.to_owned()),
                ClientEvent::Live { .. }
                | ClientEvent::Publication(_)
                | ClientEvent::Compressed(_)
                | ClientEvent::Gap { .. }
                | ClientEvent::Reply => on_event(number, event, now),
            })
        });
        let read = read.and_then(|open| client.flush().map(|()| open));
        match read {
            Ok(true) => {}
            Ok(false) => end = end.or_else(|| Some("the server closed the connection".to_owned())),
            Err(error) => end = end.or_else(|| Some(client.socket_error().unwrap_or(error).to_string())),
        }
        if was_connecting && client.is_live() {
            self.connecting -= 1;
            self.live += 1;
        }
        if rejected || end.is_some() {
            self.on_end(number, was_connecting, end.as_deref(), now, on_event);
        }
        Ok(())
    }

    /// Handles the end of a connection. A client that was not subscribed yet tries again later.
    fn on_end(
        &mut self,
        number: usize,
        was_connecting: bool,
        end: Option<&str>,
        now: Instant,
        on_event: &mut impl FnMut(usize, ClientEvent<'_>, Instant),
    ) {
        if !was_connecting || self.clients[number].is_live() {
            self.live -= 1;
            self.clients[number].reset();
            on_event(number, ClientEvent::Ended(end.unwrap_or_default()), now);
            return;
        }
        self.connecting -= 1;
        self.clients[number].reset();
        let mut wait = Duration::from_millis(500);
        match end {
            Some(reason) => self.failed = (self.failed.0 + 1, reason.to_owned()),
            None => {
                self.rejected += 1;
                on_event(number, ClientEvent::Rejected, now);
                wait = self.clients[number].retry_after;
            }
        }
        // Random, so that the clients do not all come back at once.
        self.retries.push(Reverse((now + wait.mul_f64(1.0 + self.rng.f64()), number)));
    }
}
