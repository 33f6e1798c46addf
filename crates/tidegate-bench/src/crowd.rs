//! A crowd: many clients in one thread, and one place where the kernel says which of them can go on.

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
use crate::client::Wish;
use crate::client::ear::Heard;

/// What one read takes at most. All clients share the buffer.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Handshakes at a time, where they are not what is measured.
const HANDSHAKES: usize = 64;
/// How long all of them may take to connect.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients, by number.
#[derive(Debug)]
pub struct Crowd {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    clients: Vec<Client>,
    paused: Vec<bool>,
    /// Who has yet to begin to connect.
    queue: VecDeque<usize>,
    /// Who is to come later.
    later: BinaryHeap<Reverse<(Instant, usize)>>,
    connecting: usize,
    /// Handshakes at a time.
    at_once: usize,
    live: usize,
    /// Handshakes that were refused with 503.
    pub refused: u64,
    /// Handshakes that went wrong, and what the last of them says.
    pub failed: (u64, String),
    rng: Rng,
}

impl Crowd {
    /// Clients that have yet to connect.
    pub fn new(wishes: Vec<Wish>) -> anyhow::Result<Self> {
        let clients: Vec<_> = wishes.into_iter().map(Client::new).collect();
        Ok(Self {
            poll: Poll::new().context("the system has no epoll")?,
            events: Events::with_capacity(1024),
            scratch: vec![0; SCRATCH_BYTES],
            paused: vec![false; clients.len()],
            queue: VecDeque::new(),
            later: BinaryHeap::new(),
            connecting: 0,
            at_once: HANDSHAKES,
            live: 0,
            refused: 0,
            failed: (0, String::new()),
            rng: Rng::with_seed(1),
            clients,
        })
    }

    /// Clients that have connected and got what they wanted. Fails if any of them did not.
    pub fn connected(wishes: impl Iterator<Item = anyhow::Result<Wish>>) -> anyhow::Result<Self> {
        let mut crowd = Self::new(wishes.collect::<anyhow::Result<_>>()?)?;
        crowd.connect_all(|_, _| {})?;
        Ok(crowd)
    }

    /// Connects all, and waits until all have what they want.
    pub fn connect_all(&mut self, mut hear: impl FnMut(usize, Heard<'_>)) -> anyhow::Result<()> {
        self.queue.extend(0..self.clients.len());
        let until = Instant::now() + PATIENCE;
        while self.live < self.clients.len() {
            self.turn(Duration::from_millis(100), &mut |client, heard, _| hear(client, heard))?;
            if Instant::now() > until || self.failed.0 > self.clients.len() as u64 {
                let (missing, reason) = (self.clients.len() - self.live, &self.failed.1);
                bail!("{missing} clients got no subscription within {PATIENCE:?}: {reason}");
            }
        }
        Ok(())
    }

    /// How many handshakes may be under way at once from now on.
    pub fn set_at_once(&mut self, at_once: usize) {
        self.at_once = at_once;
    }

    /// Everybody goes, with a reset.
    pub fn end_all(&mut self) {
        self.clients.iter_mut().for_each(Client::end);
        self.queue.clear();
        self.later.clear();
        (self.connecting, self.live) = (0, 0);
    }

    /// One goes and comes again, maybe with another wish.
    pub fn again(&mut self, client: usize, wish: Option<Wish>) {
        self.settle(client);
        if let Some(wish) = wish {
            self.clients[client].wish(wish);
        }
        self.queue.push_back(client);
    }

    /// Takes it out of the counts, and ends it.
    fn settle(&mut self, client: usize) {
        if self.clients[client].is_live() {
            self.live -= 1;
        } else if self.clients[client].is_connecting() {
            self.connecting -= 1;
        }
        self.clients[client].end();
    }

    /// Goes on with one client.
    pub fn client(&mut self, client: usize) -> &mut Client {
        &mut self.clients[client]
    }

    /// Bytes that all have read since their upgrades.
    pub fn bytes(&self) -> u64 {
        self.clients.iter().map(|client| client.bytes).sum()
    }

    /// Clients that have what they want.
    pub fn live(&self) -> usize {
        self.live
    }

    /// One stops reading.
    pub fn pause(&mut self, client: usize) {
        self.paused[client] = true;
    }

    /// It reads again.
    pub fn resume(
        &mut self,
        client: usize,
        hear: &mut impl FnMut(usize, Heard<'_>, Instant),
    ) -> anyhow::Result<()> {
        self.paused[client] = false;
        // What happened meanwhile, an end too, has been told and not listened to: so it looks until there is nothing.
        loop {
            let before = self.clients[client].bytes;
            self.serve(client, hear)?;
            if self.clients[client].bytes == before {
                return Ok(());
            }
        }
    }

    /// Waits for something to happen, at most so long, and does what is to be done.
    pub fn turn(
        &mut self,
        timeout: Duration,
        hear: &mut impl FnMut(usize, Heard<'_>, Instant),
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut timeout = timeout;
        while let Some(Reverse((when, client))) = self.later.peek().copied() {
            if when > now {
                timeout = timeout.min(when - now);
                break;
            }
            self.later.pop();
            self.queue.push_back(client);
        }
        while self.connecting < self.at_once
            && let Some(client) = self.queue.pop_front()
        {
            self.begin(client)?;
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.serve(event.token().0, hear)?;
        }
        self.events = events;
        Ok(())
    }

    fn begin(&mut self, client: usize) -> anyhow::Result<()> {
        let stream = self.clients[client].connect(client).context("cannot connect")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(client), interest)?;
        self.connecting += 1;
        Ok(())
    }

    fn serve(
        &mut self,
        number: usize,
        hear: &mut impl FnMut(usize, Heard<'_>, Instant),
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
        let mut refused = false;
        let mut end = None;
        let read = client.flush().and_then(|()| {
            client.read(&mut self.scratch, &mut |heard| match heard {
                Heard::Refused => refused = true,
                Heard::Ended(reason) => end = Some(reason.to_owned()),
                Heard::Live { .. }
                | Heard::Publication(_)
                | Heard::Compressed(_)
                | Heard::Gap { .. }
                | Heard::Answered => hear(number, heard, now),
            })
        });
        let read = read.and_then(|open| client.flush().map(|()| open));
        match read {
            Ok(true) => {}
            Ok(false) => end = end.or_else(|| Some("end of the stream".to_owned())),
            Err(error) => end = end.or_else(|| Some(client.fault().unwrap_or(error).to_string())),
        }
        if was_connecting && client.is_live() {
            self.connecting -= 1;
            self.live += 1;
        }
        if refused || end.is_some() {
            self.left(number, was_connecting, end.as_deref(), now, hear);
        }
        Ok(())
    }

    /// Somebody has ended. Whoever was on its way tries again, later.
    fn left(
        &mut self,
        number: usize,
        was_connecting: bool,
        end: Option<&str>,
        now: Instant,
        hear: &mut impl FnMut(usize, Heard<'_>, Instant),
    ) {
        if !was_connecting || self.clients[number].is_live() {
            self.live -= 1;
            self.clients[number].end();
            hear(number, Heard::Ended(end.unwrap_or_default()), now);
            return;
        }
        self.connecting -= 1;
        self.clients[number].end();
        let mut wait = Duration::from_millis(500);
        match end {
            Some(reason) => self.failed = (self.failed.0 + 1, reason.to_owned()),
            None => {
                self.refused += 1;
                hear(number, Heard::Refused, now);
                wait = self.clients[number].retry_after;
            }
        }
        // Not all at once again.
        self.later.push(Reverse((now + wait.mul_f64(1.0 + self.rng.f64()), number)));
    }
}
