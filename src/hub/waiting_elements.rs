//! `WaitingElements`: elements that came before their channels were confirmed to the client.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::outbox::limits::OutboxLimits;

/// An element of a channel that still waits for its lane. It came over another channel.
#[derive(Clone, Debug)]
pub struct WaitingElement {
    /// The subscription that waits.
    pub subscription: SubscriptionId,
    /// When the lane received the publication.
    pub arrived: Instant,
    pub delivery: Rc<Delivery>,
}

/// The waiting elements of one subscriber, the oldest first. They may use as much room as the outbox.
#[derive(Debug, Default)]
pub struct WaitingElements {
    elements: VecDeque<WaitingElement>,
    bytes: usize,
    /// How many were dropped for lack of room, by subscription.
    dropped: Vec<(SubscriptionId, u64)>,
}

impl WaitingElements {
    /// Adds an element. If there is no room, the oldest are dropped.
    pub fn push(&mut self, element: WaitingElement, room: OutboxLimits) {
        self.bytes += element.delivery.frame.len();
        self.elements.push_back(element);
        while self.elements.len() > 1 && (self.elements.len() > room.frames || self.bytes > room.bytes) {
            let Some(oldest) = self.elements.pop_front() else { break };
            self.bytes -= oldest.delivery.frame.len();
            match self.dropped.iter_mut().find(|(of, _)| *of == oldest.subscription) {
                Some((_, dropped)) => *dropped += 1,
                None => self.dropped.push((oldest.subscription, 1)),
            }
        }
    }

    /// Removes the elements of a subscription. Returns them, the oldest first, and how many were dropped before.
    pub fn take(&mut self, id: SubscriptionId) -> (Vec<WaitingElement>, u64) {
        let of_subscription = |element: &WaitingElement| element.subscription == id;
        let taken: Vec<_> =
            self.elements.iter().filter(|element| of_subscription(element)).cloned().collect();
        self.elements.retain(|element| !of_subscription(element));
        self.bytes -= taken.iter().map(|element| element.delivery.frame.len()).sum::<usize>();
        let dropped = self.dropped.extract_if(.., |(of, _)| *of == id).map(|(_, dropped)| dropped).sum();
        (taken, dropped)
    }
}
