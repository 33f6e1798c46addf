//! Settle: waits until the server has seen all that a connection sent before, for everyone who waits at once.
//!
//! A connection keeps its order, so a message to itself comes back when all before it has been seen. A request that
//! nobody answers would do as well, were there not people who listen to `>`.

use std::time::Duration;

use async_nats::Client;
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::nats::NatsError;

/// Who may wait for the next round; of more, each waits for room.
const WAITING: usize = 1024;

/// The way to a connection's task that sends to itself.
#[derive(Clone, Debug)]
pub(super) struct Settler {
    waiting: mpsc::Sender<oneshot::Sender<()>>,
    limit: Duration,
}

impl Settler {
    /// Starts the task on `tasks`.
    pub(super) fn start(client: Client, limit: Duration, tasks: &TaskTracker) -> Self {
        let (waiting, asked) = mpsc::channel(WAITING);
        tasks.spawn(work(client, limit, asked));
        Self { waiting, limit }
    }

    /// Waits until the server has seen all that was sent before.
    pub(super) async fn settled(&self) -> Result<(), NatsError> {
        let (seen, outcome) = oneshot::channel();
        let wait = async {
            self.waiting.send(seen).await.map_err(|_| NatsError::Away)?;
            outcome.await.map_err(|_| NatsError::Timeout)
        };
        tokio::time::timeout(self.limit, wait).await.unwrap_or(Err(NatsError::Timeout))
    }
}

async fn work(client: Client, limit: Duration, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
    let inbox = client.new_inbox();
    let mut echoes = match client.subscribe(inbox.clone()).await {
        Ok(echoes) => echoes,
        Err(error) => return warn!(%error, "cannot subscribe to an inbox"),
    };
    let mut waiting = Vec::new();
    let mut round = 0_u64;
    while asked.recv_many(&mut waiting, WAITING).await > 0 {
        round += 1;
        let there_and_back = there_and_back(&client, &inbox, &mut echoes, round);
        let seen = tokio::time::timeout(limit, there_and_back).await.unwrap_or(false);
        for waiter in waiting.drain(..) {
            if seen {
                // Who has given up is not there to hear it.
                let _ = waiter.send(());
            }
        }
    }
}

/// Whether this round's message has come back. Those of earlier rounds may come as well, if they were late.
async fn there_and_back(client: &Client, inbox: &str, echoes: &mut Subscriber, round: u64) -> bool {
    let round = Bytes::copy_from_slice(&round.to_be_bytes());
    if client.publish(inbox.to_owned(), round.clone()).await.is_err() {
        return false;
    }
    while let Some(echo) = echoes.next().await {
        if echo.payload == round {
            return true;
        }
    }
    false
}
