//! Opening: which subscriptions the server is not known to know, and when it is known to know them.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::nats::subscription::Incoming;
use crate::nats::subscription::Shared;
use crate::nats::subscription::SubscriptionKey;

/// Between two questions to a server that does not answer.
const PAUSE: Duration = Duration::from_millis(50);

/// Subscriptions that the server may not know yet.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    keys: RefCell<Vec<SubscriptionKey>>,
    filled: Notify,
    /// How often the link was lost.
    losses: Cell<u64>,
}

impl Unsettled {
    /// One more.
    pub(super) fn add(&self, key: SubscriptionKey) {
        self.keys.borrow_mut().push(key);
        self.filled.notify_one();
    }

    /// The link is lost, and with it all that the server knew.
    pub(super) fn all_again(&self, keys: Vec<SubscriptionKey>) {
        self.losses.set(self.losses.get() + 1);
        self.keys.borrow_mut().extend(keys);
        self.filled.notify_one();
    }
}

/// Asks the server, for all subscriptions that were made since it asked last, whether it knows them.
pub(super) async fn open(shared: Rc<Shared>) {
    loop {
        shared.unsettled.filled.notified().await;
        loop {
            let keys = std::mem::take(&mut *shared.unsettled.keys.borrow_mut());
            if keys.is_empty() {
                break;
            }
            while !is_settled(&shared).await {}
            for key in keys {
                shared.queue.push(Incoming::Opened(key));
            }
        }
    }
}

/// Whether the server knows all subscriptions that had been made when this was asked.
async fn is_settled(shared: &Shared) -> bool {
    let Shared { nats, unsettled, .. } = shared;
    let (losses, denied) = (unsettled.losses.get(), nats.denied());
    match nats.settle().await {
        // An answer over a link that is lost by now proves nothing for the next.
        Ok(()) => losses == unsettled.losses.get(),
        Err(_) if denied != nats.denied() => {
            warn!("nats does not let this node ask whether a subscription is known: it is taken to be");
            true
        }
        // The server is away or stands still: what it will know is not known yet.
        Err(_) => {
            tokio::time::sleep(PAUSE).await;
            false
        }
    }
}
