//! A client that is read constantly; everything that it receives is recorded.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::within;

/// One message that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Subscribed {
        channel: String,
        snapshot: Vec<u64>,
    },
    Unsubscribed {
        channel: String,
    },
    Message {
        channel: String,
        subject: String,
        number: u64,
    },
    Gap {
        channel: String,
        cause: String,
        dropped: Option<u64>,
    },
    /// A refused subscription.
    Refused {
        channel: String,
        code: String,
    },
    Other(String),
}

/// What a client has received, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) received: Vec<Received>,
    /// The newest number of each subject on a channel.
    pub(crate) newest: BTreeMap<(String, String), u64>,
    /// The number of gaps on each channel.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// The values of snapshots: channel, subject, number.
    pub(crate) shown: Vec<(String, String, u64)>,
}

impl Log {
    /// The newest number on this channel of this subject; 0 before the first.
    pub(crate) fn newest(&self, channel: &str, subject: &str) -> u64 {
        self.newest.get(&(channel.to_owned(), subject.to_owned())).copied().unwrap_or(0)
    }

    /// The number of gaps on this channel.
    pub(crate) fn gaps(&self, channel: &str) -> u64 {
        self.gaps.get(channel).copied().unwrap_or(0)
    }

    /// The number of replies to subscriptions.
    pub(crate) fn subscribed(&self) -> usize {
        self.received.iter().filter(|received| matches!(received, Received::Subscribed { .. })).count()
    }

    fn note(&mut self, dialect: Dialect, message: &Value) {
        let received = dialect.received(message);
        for item in message["snapshot"].as_array().into_iter().flatten() {
            let channel = message["channel"].as_str().unwrap().to_owned();
            let subject = item["subject"].as_str().unwrap_or(&channel).to_owned();
            self.shown.push((channel, subject, item["data"]["n"].as_u64().unwrap()));
        }
        match &received {
            Received::Message { channel, subject, number } => {
                self.newest.insert((channel.clone(), subject.clone()), *number);
            }
            Received::Gap { channel, .. } => *self.gaps.entry(channel.clone()).or_default() += 1,
            Received::Subscribed { .. }
            | Received::Unsubscribed { .. }
            | Received::Refused { .. }
            | Received::Other(_) => {}
        }
        self.received.push(received);
    }
}

/// A client whose socket a task reads.
pub(crate) struct Recorder {
    dialect: Dialect,
    commands: mpsc::Sender<Value>,
    awake: watch::Sender<bool>,
    log: watch::Receiver<Log>,
    task: JoinSet<Option<u16>>,
}

impl Recorder {
    /// Starts to read the client.
    pub(crate) fn start(client: Client) -> Self {
        Self::with_dialect(Dialect::Native, client)
    }

    /// The same for a client of this dialect.
    pub(crate) fn with_dialect(dialect: Dialect, client: Client) -> Self {
        let (commands, requested) = mpsc::channel(1024);
        let (writer, log) = watch::channel(Log::default());
        let (awake, reads) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(record(dialect, client, requested, reads, writer));
        Self { dialect, commands, awake, log, task }
    }

    /// One recorder on each of two shards. Both have joined these channels.
    pub(crate) async fn on_each_shard(edge: &TestEdge, channels: &[String]) -> Vec<Self> {
        let mut recorders = Vec::new();
        for shard in 0..2 {
            let mut recorder = Self::start(edge.client_on(shard).await);
            for channel in channels {
                recorder.join(channel).await;
            }
            recorders.push(recorder);
        }
        recorders
    }

    /// Sends a message.
    pub(crate) async fn send(&self, message: Value) {
        self.commands.send(message).await.unwrap();
    }

    /// Starts or stops reading.
    pub(crate) fn reads(&self, awake: bool) {
        self.awake.send_replace(awake);
    }

    /// Subscribes to a channel.
    pub(crate) async fn subscribe(&self, channel: &str) {
        self.send(self.dialect.subscribe(channel)).await;
    }

    /// Unsubscribes from a channel.
    pub(crate) async fn unsubscribe(&self, channel: &str) {
        self.send(self.dialect.unsubscribe(channel)).await;
    }

    /// Waits until the record fits.
    pub(crate) async fn until(&mut self, what: &str, holds: impl FnMut(&Log) -> bool) {
        within(what, self.log.wait_for(holds)).await.expect("the client is read");
    }

    /// Subscribes to a channel and waits for the reply.
    pub(crate) async fn join(&mut self, channel: &str) {
        self.subscribe(channel).await;
        let subscribed = |received: &Received| matches!(received, Received::Subscribed { channel: of, .. } if of == channel);
        self.until("subscribed", |log| log.received.iter().rev().any(subscribed)).await;
    }

    /// The record so far.
    pub(crate) fn so_far(&self) -> Log {
        self.log.borrow().clone()
    }

    /// Stops after everything that arrives before the answer to a ping.
    pub(crate) async fn stop(mut self) -> Log {
        drop(self.commands);
        within("the client's end", self.task.join_next()).await.unwrap().unwrap();
        self.log.borrow().clone()
    }

    /// Everything until the server closes, and the close code.
    pub(crate) async fn until_closed(mut self) -> (Log, Option<u16>) {
        let code = within("a close", self.task.join_next()).await.unwrap().unwrap();
        (self.log.borrow().clone(), code)
    }
}

async fn record(
    dialect: Dialect,
    mut client: Client,
    mut requested: mpsc::Receiver<Value>,
    mut reads: watch::Receiver<bool>,
    log: watch::Sender<Log>,
) -> Option<u16> {
    loop {
        let awake = *reads.borrow_and_update();
        tokio::select! {
            Ok(()) = reads.changed() => {}
            command = requested.recv() => match command {
                Some(command) => client.send(&command).await,
                None => break,
            },
            message = client.next(), if awake => match message {
                Some(message) => log.send_modify(|log| log.note(dialect, &message)),
                None => return client.closed,
            },
        }
    }
    client.send(&dialect.ping()).await;
    let mut rest = client.until("pong").await;
    rest.pop();
    log.send_modify(|log| rest.iter().for_each(|message| log.note(dialect, message)));
    None
}
