//! Effects: what publishing leaves to do for whoever has called the hub.

use std::rc::Rc;
use std::time::Duration;

use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::subscriber::Subscriber;

/// What publishing leaves to do, once the hub is free again.
#[derive(Debug, Default)]
pub struct Effects {
    /// Subscribers to flush, each once.
    pub changed: Vec<Rc<Subscriber>>,
    /// Those whose outbox is half full although the socket keeps up: to be flushed before more is published.
    pub urgent: Vec<Rc<Subscriber>>,
    /// Those whose new frames may wait so long for company.
    pub delayed: Vec<(Rc<Subscriber>, Duration)>,
    /// Sessions to show a publication.
    pub held: Vec<(Rc<Subscriber>, SubscriptionId, Rc<Delivery>)>,
}

impl Effects {
    /// Notes that a subscriber has something to flush, now or after a wait.
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
