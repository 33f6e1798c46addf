//! `EndedSubscriptions`: what gaps need to know of subscriptions that have ended while frames of them wait.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subscription_context::SubscriptionContext;

/// Ended subscriptions to remember while frames wait. A client that leaves more channels without reading gets no gaps
/// for the first of them.
const MAX_ENDED: usize = 256;

/// Subscriptions that have ended, the newest last.
#[derive(Debug, Default)]
pub struct EndedSubscriptions(Vec<EndedSubscription>);

#[derive(Debug)]
struct EndedSubscription {
    id: SubscriptionId,
    channel: Arc<str>,
    subscription_context: Option<Rc<SubscriptionContext>>,
}

impl EndedSubscriptions {
    /// Adds a subscription. Forgets the first one if there are too many.
    pub fn push(
        &mut self,
        id: SubscriptionId,
        channel: Arc<str>,
        subscription_context: Option<Rc<SubscriptionContext>>,
    ) {
        if self.0.len() == MAX_ENDED {
            self.0.remove(0);
        }
        self.0.push(EndedSubscription { id, channel, subscription_context });
    }

    /// The channel of a subscription, and what the vocabulary keeps for it.
    pub fn find(&self, id: SubscriptionId) -> Option<(Arc<str>, Option<Rc<SubscriptionContext>>)> {
        let ended = self.0.iter().find(|ended| ended.id == id)?;
        Some((Arc::clone(&ended.channel), ended.subscription_context.clone()))
    }
}
