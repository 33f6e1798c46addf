//! A crowd: many clients, each a task, and one ledger of what they have heard.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::client::Heard;
use crate::client::Target;

/// Handshakes at a time.
const HANDSHAKES: usize = 64;

/// What one client has heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Publications.
    pub(crate) received: u64,
    /// The number that should come next.
    pub(crate) next: u64,
    /// Gaps, by cause.
    pub(crate) gaps: Vec<String>,
    /// What the gaps say is missing.
    pub(crate) dropped: u64,
    /// Publications that are missing or out of order without a gap before them.
    pub(crate) unannounced: u64,
    /// Whether a gap has come since the last publication.
    gap_open: bool,
    /// Why it has ended.
    pub(crate) ended: Option<String>,
}

impl Account {
    /// Notes what was heard; gives back the number of a publication.
    pub(crate) fn hear(&mut self, heard: Heard) -> Option<u64> {
        match heard {
            Heard::Publication(number) => {
                if number != self.next && !self.gap_open {
                    self.unannounced += number.abs_diff(self.next);
                }
                self.gap_open = false;
                self.next = number.saturating_add(1);
                self.received += 1;
                return Some(number);
            }
            Heard::Gap { cause, dropped } => {
                self.gaps.push(cause);
                self.dropped += dropped.unwrap_or_default();
                self.gap_open = true;
            }
            Heard::Closed(code) => self.ended = Some(format!("closed with {code}")),
            Heard::Other(_) => {}
        }
        None
    }
}

/// What all clients of a crowd have heard.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By client.
    pub(crate) accounts: RefCell<Vec<Account>>,
    /// Publications received by all together.
    pub(crate) deliveries: Cell<u64>,
    /// Publications that everybody has received.
    pub(crate) complete: Cell<u64>,
    /// Clients that have ended.
    ended: Cell<usize>,
    /// Who has yet to receive each publication that is under way, by its number modulo the length.
    pending: RefCell<Vec<usize>>,
    /// Wakes whoever waits for `complete` to change.
    pub(crate) changed: Notify,
}

impl Ledger {
    fn new(clients: usize, window: usize) -> Self {
        Self {
            accounts: RefCell::new(vec![Account::default(); clients]),
            pending: RefCell::new(vec![0; window]),
            ..Self::default()
        }
    }

    /// Notes that a publication is under way. At most as many as the window are.
    pub(crate) fn published(&self, number: u64) {
        let clients = self.accounts.borrow().len();
        let mut pending = self.pending.borrow_mut();
        let place = place(number, pending.len());
        pending[place] = clients;
    }

    fn hear(&self, client: usize, heard: Heard) {
        if let Some(number) = self.accounts.borrow_mut()[client].hear(heard) {
            self.deliveries.set(self.deliveries.get() + 1);
            self.delivered(number);
        }
    }

    fn delivered(&self, number: u64) {
        let mut pending = self.pending.borrow_mut();
        let place = place(number, pending.len());
        pending[place] = pending[place].saturating_sub(1);
        if pending[place] == 0 {
            self.complete.set(self.complete.get() + 1);
            self.changed.notify_one();
        }
    }

    /// How many clients have an account of which this holds.
    pub(crate) fn count(&self, holds: impl Fn(&Account) -> bool) -> usize {
        self.accounts.borrow().iter().filter(|account| holds(account)).count()
    }

    /// Waits until it holds of every client.
    pub(crate) async fn all(&self, what: &str, patience: Duration, holds: impl Fn(&Account) -> bool) -> bool {
        self.some(what, patience, |_| true, holds).await
    }

    /// Waits until it holds of every client that is one of `these`.
    pub(crate) async fn some(
        &self,
        what: &str,
        patience: Duration,
        these: impl Fn(usize) -> bool,
        holds: impl Fn(&Account) -> bool,
    ) -> bool {
        let until = Instant::now() + patience;
        loop {
            let lacks = |(number, account): &(usize, &Account)| these(*number) && !holds(account);
            let lacking = self.accounts.borrow().iter().enumerate().filter(lacks).count();
            if lacking == 0 {
                return true;
            }
            if Instant::now() > until {
                println!("{lacking} clients had not {what} within {patience:?}");
                if let Some((number, account)) = self.accounts.borrow().iter().enumerate().find(lacks) {
                    println!("client {number}, for example: {account:?}");
                }
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What the first client that has ended says of it.
    pub(crate) fn first_end(&self) -> Option<String> {
        self.accounts.borrow().iter().find_map(|account| account.ended.clone())
    }
}

/// Clients that read for as long as this lives.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// What they have heard.
    pub(crate) ledger: Rc<Ledger>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Connects so many clients, each to its own target and channel.
    pub(crate) async fn connect(
        clients: usize,
        window: usize,
        target: impl Fn(usize) -> anyhow::Result<(Target, String)>,
    ) -> anyhow::Result<Self> {
        let ledger = Rc::new(Ledger::new(clients, window));
        let handshakes = Rc::new(Semaphore::new(HANDSHAKES));
        let mut connecting = JoinSet::new();
        for number in 0..clients {
            let (target, channel) = target(number)?;
            let handshakes = Rc::clone(&handshakes);
            connecting.spawn_local(async move {
                let _turn = handshakes.acquire().await;
                Client::subscribe(&target, number, &channel).await.map(|client| (client, number))
            });
        }
        let mut connected = Vec::with_capacity(clients);
        while let Some(client) = connecting.join_next().await {
            connected.push(client.context("a client's task has ended")??);
        }
        let mut tasks = JoinSet::new();
        for (client, number) in connected {
            tasks.spawn_local(listen(client, number, Rc::clone(&ledger)));
        }
        Ok(Self { ledger, _tasks: tasks })
    }

    /// Fails if somebody has ended.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.ledger.ended.get() {
            0 => Ok(()),
            ended => bail!("{ended} clients have ended: {}", self.ledger.first_end().unwrap_or_default()),
        }
    }
}

async fn listen(mut client: Client, number: usize, ledger: Rc<Ledger>) {
    let end = loop {
        match client.read(&mut |heard| ledger.hear(number, heard)).await {
            Ok(true) => {}
            Ok(false) => break "end of stream".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    ledger.accounts.borrow_mut()[number].ended.get_or_insert(end);
    ledger.ended.set(ledger.ended.get() + 1);
    ledger.changed.notify_one();
}

fn place(number: u64, length: usize) -> usize {
    usize::try_from(number).unwrap_or_default() % length.max(1)
}
