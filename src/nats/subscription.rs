//! The subscriptions of one connection, read in batches. Whoever reads them can be exchanged behind this interface.

mod opening;
mod overrun;
mod queue;
mod read;
mod readers;

use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::message::Message;
use crate::nats::subscription::opening::Unsettled;
use crate::nats::subscription::queue::Bounds;
use crate::nats::subscription::queue::Queue;
use crate::nats::subscription::readers::Readers;
use crate::protocol::subject::Pattern;

/// What may wait for the lane; of more, the newest messages are dropped and counted at their place.
const BOUNDS: Bounds = Bounds { messages: 65_536, bytes: 32 * 1024 * 1024 };

/// Names one subscription of a connection. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(u64);

/// What comes out of the subscriptions, in order for each of them.
#[derive(Debug)]
pub enum Incoming {
    /// The server knows the subscription.
    Opened(SubscriptionKey),
    /// The subscription could not be made: it is to be unsubscribed.
    Failed(SubscriptionKey, NatsError),
    /// A message.
    Message(SubscriptionKey, Message),
    /// At this place so many messages had no room.
    Dropped(SubscriptionKey, u64),
    /// At this place messages are missing that the client of NATS had no room for.
    Overrun(SubscriptionKey),
    /// At this place the link was lost, for all subscriptions. Each is [`Incoming::Opened`] again when the server
    /// knows it again.
    LinkLost,
    /// Nobody reads the subscription any more. If nobody has unsubscribed, that is a fault.
    Ended(SubscriptionKey),
}

/// What all tasks of a connection share.
#[derive(Debug)]
struct Shared {
    nats: Nats,
    queue: Queue,
    readers: Rc<Readers>,
    unsettled: Unsettled,
}

/// The subscriptions of one connection.
#[derive(Debug)]
pub struct Subscriptions {
    shared: Rc<Shared>,
    tasks: TaskTracker,
    open: HashMap<SubscriptionKey, CancellationToken>,
    made: u64,
}

impl Subscriptions {
    /// None yet. Its tasks run on `tasks`, on the current thread.
    pub fn new(nats: Nats, tasks: TaskTracker) -> Self {
        let connecting = nats.before_connecting();
        let (queue, readers, unsettled) = (Queue::new(BOUNDS), Rc::default(), Unsettled::default());
        let shared = Rc::new(Shared { nats, queue, readers, unsettled });
        tasks.spawn_local(opening::open(Rc::clone(&shared)));
        tasks.spawn_local(part(Rc::clone(&shared), connecting));
        Self { shared, tasks, open: HashMap::new(), made: 0 }
    }

    /// Subscribes. [`Incoming::Opened`] tells when the server knows; messages may come before.
    pub fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        let key = SubscriptionKey(self.made);
        self.made += 1;
        let cancelled = CancellationToken::new();
        // In a box, because the wrappers around it would each have room for it, in every subscription's task.
        let read = Box::pin(read::read(Rc::clone(&self.shared), pattern.clone(), key));
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
        self.shared.queue.ready().await;
    }

    /// Moves up to `max` of what is there to `batch`.
    pub fn take(&self, max: usize, batch: &mut Vec<Incoming>) {
        self.shared.queue.take(max, batch);
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for cancelled in self.open.values() {
            cancelled.cancel();
        }
    }
}

/// Keeps what came before a loss of the link apart from what comes after it: the client, which has lost the link, may
/// not make a new one before everything that came over the old one is in the queue.
async fn part(shared: Rc<Shared>, mut connecting: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut lost = 0;
    while let Some(go_on) = connecting.recv().await {
        let connects = shared.nats.reading().connects;
        // Later attempts to make the same link lose nothing more.
        if connects != lost {
            lost = connects;
            shared.readers.catch_up().await;
            shared.queue.push(Incoming::LinkLost);
            shared.unsettled.all_again(shared.readers.keys());
        }
        // The client does not wait any more only when it ends.
        let _ = go_on.send(());
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::nats::NatsConfig;

    #[tokio::test]
    async fn a_subscription_that_failed_is_not_read_any_more() {
        let read = async {
            let tasks = TaskTracker::new();
            let nats = Nats::connect(&NatsConfig::default(), "tidegate/test", &tasks).await.unwrap();
            let mut subscriptions = Subscriptions::new(nats, tasks.clone());
            let before = tasks.len();
            let key = subscriptions.subscribe(&Pattern::parse("chat.a").unwrap());
            tokio::task::yield_now().await;
            assert_eq!(tasks.len(), before + 1);
            subscriptions.shared.queue.push(Incoming::Failed(key, NatsError::Denied));
            subscriptions.take(9, &mut Vec::new());
            subscriptions.unsubscribe(key);
            tokio::task::yield_now().await;
            assert_eq!(tasks.len(), before, "as when nobody wants it");
        };
        LocalSet::new().run_until(read).await;
    }
}
