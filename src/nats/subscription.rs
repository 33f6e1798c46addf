//! The subscriptions of one connection, read in batches. Whoever reads them can be exchanged behind this interface.

mod readers;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::FutureExt;
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use tracing::warn;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::message::Message;
use crate::nats::subscription::readers::Readers;
use crate::protocol::subject::Pattern;

/// Messages that may wait for the lane; of more, the newest are dropped and counted at their place.
const QUEUE_MESSAGES: usize = 65_536;
/// Bytes that may wait for the lane.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Messages that one subscription may hand over before others have their turn.
const TURN: usize = 64;

/// Names one subscription of a connection. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(u64);

/// What comes out of the subscriptions, in order for each of them.
#[derive(Debug)]
pub enum Incoming {
    /// The server knows the subscription.
    Opened(SubscriptionKey),
    /// The subscription could not be made, and is gone.
    Failed(SubscriptionKey, NatsError),
    /// A message.
    Message(SubscriptionKey, Message),
    /// At this place so many messages had no room.
    Dropped(SubscriptionKey, u64),
    /// At this place the link was lost, for all subscriptions. Each is [`Incoming::Opened`] again when the server
    /// knows it again.
    LinkLost,
}

#[derive(Debug, Default)]
struct Queue {
    incoming: RefCell<VecDeque<Incoming>>,
    bytes: Cell<usize>,
    filled: Notify,
    unsettled: RefCell<Vec<SubscriptionKey>>,
    unsettled_filled: Notify,
    /// How often the link was lost.
    losses: Cell<u64>,
}

impl Queue {
    fn push(&self, incoming: Incoming) {
        if let Incoming::Message(_, message) = &incoming {
            self.bytes.set(self.bytes.get() + message.size());
        }
        self.incoming.borrow_mut().push_back(incoming);
        self.filled.notify_one();
    }

    fn is_full(&self) -> bool {
        self.incoming.borrow().len() >= QUEUE_MESSAGES || self.bytes.get() >= QUEUE_BYTES
    }

    /// The server does not know these subscriptions, or may not.
    fn unsettle(&self, keys: impl IntoIterator<Item = SubscriptionKey>) {
        self.unsettled.borrow_mut().extend(keys);
        self.unsettled_filled.notify_one();
    }
}

/// The subscriptions of one connection.
#[derive(Debug)]
pub struct Subscriptions {
    nats: Nats,
    tasks: TaskTracker,
    queue: Rc<Queue>,
    readers: Rc<Readers>,
    open: HashMap<SubscriptionKey, CancellationToken>,
    made: u64,
}

impl Subscriptions {
    /// None yet. Its tasks run on `tasks`, on the current thread.
    pub fn new(nats: Nats, tasks: TaskTracker) -> Self {
        let (queue, readers) = (Rc::new(Queue::default()), Rc::new(Readers::default()));
        tasks.spawn_local(settle(nats.clone(), Rc::clone(&queue)));
        let asked = nats.before_connecting();
        tasks.spawn_local(part(nats.clone(), Rc::clone(&queue), Rc::clone(&readers), asked));
        Self { nats, tasks, queue, readers, open: HashMap::new(), made: 0 }
    }

    /// Subscribes. [`Incoming::Opened`] tells when the server knows; messages may come before.
    pub fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        let key = SubscriptionKey(self.made);
        self.made += 1;
        let cancelled = CancellationToken::new();
        let (queue, readers) = (Rc::clone(&self.queue), Rc::clone(&self.readers));
        let read = read(self.nats.clone(), pattern.clone(), key, queue, readers);
        let until = cancelled.clone();
        self.tasks.spawn_local(async move { until.run_until_cancelled_owned(read).await });
        self.open.insert(key, cancelled);
        key
    }

    /// Unsubscribes. Messages that are on their way may still come.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        if let Some(cancelled) = self.open.remove(&key) {
            cancelled.cancel();
        }
    }

    /// Waits until there is something.
    pub async fn ready(&self) {
        while self.queue.incoming.borrow().is_empty() {
            self.queue.filled.notified().await;
        }
    }

    /// Moves up to `max` of what is there to `batch`.
    pub fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        let mut incoming = self.queue.incoming.borrow_mut();
        let count = incoming.len().min(max);
        for incoming in incoming.drain(..count) {
            match &incoming {
                Incoming::Message(_, message) => {
                    self.queue.bytes.set(self.queue.bytes.get() - message.size())
                }
                Incoming::Failed(key, _) => drop(self.open.remove(key)),
                Incoming::Opened(_) | Incoming::Dropped(..) | Incoming::LinkLost => {}
            }
            batch.push(incoming);
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for cancelled in self.open.values() {
            cancelled.cancel();
        }
    }
}

/// Reads one subscription for as long as it lives, and waits for nobody: what does not fit is dropped, and said so
/// before the next message that does.
async fn read(nats: Nats, pattern: Pattern, key: SubscriptionKey, queue: Rc<Queue>, readers: Rc<Readers>) {
    let mut subscriber = match nats.client.subscribe(pattern.as_str().to_owned()).await {
        Ok(subscriber) => subscriber,
        Err(error) => return queue.push(Incoming::Failed(key, NatsError::Refused(error.to_string()))),
    };
    queue.unsettle([key]);
    let place = readers.enter(key).await;
    let mut dropped = 0;
    let next = |context: &mut Context<'_>, subscriber: &mut Subscriber| {
        let next = subscriber.poll_next_unpin(context);
        if next.is_pending() {
            place.caught_up();
        }
        next
    };
    while let Some(first) = poll_fn(|context| next(context, &mut subscriber)).await {
        #[cfg(feature = "test-hooks")]
        nats.hooks.reader.pass(nats.lane).await;
        let mut next = Some(first);
        for _ in 0..TURN {
            let Some(message) = next else { break };
            if queue.is_full() {
                dropped += 1;
            } else {
                if dropped > 0 {
                    queue.push(Incoming::Dropped(key, std::mem::take(&mut dropped)));
                }
                queue.push(Incoming::Message(key, message.into()));
            }
            next = subscriber.next().now_or_never().flatten();
        }
        if let Some(message) = next {
            queue.push(Incoming::Message(key, message.into()));
            tokio::task::yield_now().await;
        }
        if dropped > 0 && !queue.is_full() {
            queue.push(Incoming::Dropped(key, std::mem::take(&mut dropped)));
        }
    }
    debug!(subject = %pattern, "subscription ended");
}

/// Keeps what came before a loss of the link apart from what comes after it: the client, which has lost the link, may
/// not make a new one before everything that came over the old one is in the queue.
async fn part(
    nats: Nats,
    queue: Rc<Queue>,
    readers: Rc<Readers>,
    mut connecting: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut lost = 0;
    while let Some(go_on) = connecting.recv().await {
        let connects = nats.reading().connects;
        // Later attempts to make the same link lose nothing more.
        if connects != lost {
            lost = connects;
            readers.catch_up().await;
            queue.losses.set(queue.losses.get() + 1);
            queue.push(Incoming::LinkLost);
            queue.unsettle(readers.keys());
        }
        // The client does not wait any more only when it ends.
        let _ = go_on.send(());
    }
}

/// Asks the server, for all subscriptions that were made since it asked last, whether it knows them.
async fn settle(nats: Nats, queue: Rc<Queue>) {
    loop {
        queue.unsettled_filled.notified().await;
        loop {
            let unsettled = std::mem::take(&mut *queue.unsettled.borrow_mut());
            if unsettled.is_empty() {
                break;
            }
            while !is_settled(&nats, &queue).await {}
            for key in unsettled {
                queue.push(Incoming::Opened(key));
            }
        }
    }
}

/// Whether the server knows all subscriptions that had been made when this was asked.
async fn is_settled(nats: &Nats, queue: &Queue) -> bool {
    let losses = queue.losses.get();
    match nats.settle().await {
        // An answer over a link that is lost by now proves nothing for the next.
        Ok(()) => losses == queue.losses.get(),
        Err(error) if nats.is_connected() => {
            warn!(%error, "cannot ask nats whether a subscription is known: may this user publish to its own inbox prefix?");
            true
        }
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            false
        }
    }
}

#[cfg(test)]
impl SubscriptionKey {
    /// The key of a subscription that is not there.
    pub(crate) fn of_nothing() -> Self {
        Self(0)
    }
}
