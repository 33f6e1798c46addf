//! Opening: which subscriptions the server is not known to know, and when it is known to know them.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::nats::NatsError;
use crate::nats::denials::Denied;
use crate::nats::subscription::Incoming;
use crate::nats::subscription::Shared;
use crate::nats::subscription::SubscriptionKey;
use crate::protocol::subject::Pattern;

/// Between two questions to a server that does not answer.
const PAUSE: Duration = Duration::from_millis(50);

/// Subscriptions that the server may not know yet.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    keys: RefCell<Vec<Unknown>>,
    filled: Notify,
    /// How often the link was lost.
    losses: Cell<u64>,
}

/// A subscription that the server may not know.
#[derive(Debug)]
struct Unknown {
    key: SubscriptionKey,
    /// What it is for if it is new, and how many denials there had been.
    new: Option<(Pattern, u64)>,
}

impl Unsettled {
    /// A new one, made when there had been so many denials.
    pub(super) fn add(&self, key: SubscriptionKey, pattern: Pattern, denials: u64) {
        self.keys.borrow_mut().push(Unknown { key, new: Some((pattern, denials)) });
        self.filled.notify_one();
    }

    /// The link is lost, and with it all that the server knew.
    pub(super) fn all_again(&self, keys: Vec<SubscriptionKey>) {
        self.losses.set(self.losses.get() + 1);
        self.keys.borrow_mut().extend(keys.into_iter().map(|key| Unknown { key, new: None }));
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
            for Unknown { key, new } in keys {
                let denials = &shared.nats.signals.denials;
                let denied = new.is_some_and(|(pattern, count)| {
                    denials.since(count, Denied::Subscription, pattern.as_str())
                });
                shared.queue.push(match denied {
                    true => Incoming::Failed(key, NatsError::Denied),
                    false => Incoming::Opened(key),
                });
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
