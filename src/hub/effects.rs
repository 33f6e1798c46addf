//! `Effects`: the work that publishing leaves for the caller of the hub.

use std::rc::Rc;
use std::time::Duration;

use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::subscriber::Subscriber;

/// The work that publishing leaves, to be done when the hub is not borrowed any more.
#[derive(Debug, Default)]
pub struct Effects {
    /// Subscribers to flush, each once.
    pub changed: Vec<Rc<Subscriber>>,
    /// Subscribers whose outbox is half full although the client keeps up: to flush before more is published.
    pub urgent: Vec<Rc<Subscriber>>,
    /// Subscribers to flush after a wait (`batch_ms`).
    pub delayed: Vec<(Rc<Subscriber>, Duration)>,
    /// Publications to pass to the sessions of held subscriptions.
    pub held: Vec<(Rc<Subscriber>, SubscriptionId, Rc<Delivery>)>,
    /// Collections of held subscriptions that have changed. They come after what is in `held`.
    pub held_collections: Vec<(Rc<Subscriber>, SubscriptionId, CollectionId)>,
}

impl Effects {
    /// Notes that a subscriber has frames to flush, now or after a wait.
    pub fn note_changed(&mut self, subscriber: &Rc<Subscriber>, wait: Duration) {
        if !wait.is_zero() {
            self.delayed.push((Rc::clone(subscriber), wait));
        } else if subscriber.mark_changed() {
            self.changed.push(Rc::clone(subscriber));
        }
        if subscriber.is_urgent() {
            self.urgent.push(Rc::clone(subscriber));
        }
    }
}
