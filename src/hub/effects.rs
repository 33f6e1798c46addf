//! Effects: what publishing leaves to do for whoever has called the hub.

use std::rc::Rc;
use std::time::Duration;

use crate::hub::outbox::Outbox;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

/// What publishing leaves to do, once the hub is free again.
#[derive(Debug, Default)]
pub struct Effects {
    /// Outboxes to flush, each once.
    pub changed: Vec<Rc<Outbox>>,
    /// Outboxes that are half full although their sockets keep up: to be flushed before more is published.
    pub pressed: Vec<Rc<Outbox>>,
    /// Outboxes whose new frames may wait so long for company.
    pub delayed: Vec<(Rc<Outbox>, Duration)>,
    /// Sessions to show a publication.
    pub held: Vec<(Rc<Outbox>, SubscriptionId, Rc<Delivery>)>,
}

impl Effects {
    /// Notes that an outbox has something to flush, now or after a wait.
    pub fn note_changed(&mut self, outbox: &Rc<Outbox>, wait: Duration) {
        if !wait.is_zero() {
            self.delayed.push((Rc::clone(outbox), wait));
        } else if outbox.mark_changed() {
            self.changed.push(Rc::clone(outbox));
        }
        if outbox.is_pressed() {
            self.pressed.push(Rc::clone(outbox));
        }
    }
}
