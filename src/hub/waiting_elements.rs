//! `WaitingElements`: elements that came before their channels were confirmed to the client.

use std::collections::HashSet;
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

    /// Removes the elements of a subscription that has joined, also where they wait for another subscription. Returns them,
    /// the oldest first, and how many were dropped before.
    pub fn take(&mut self, id: SubscriptionId) -> (Vec<WaitingElement>, u64) {
        let taken: Vec<_> =
            self.elements.iter().filter(|element| element.subscription == id).cloned().collect();
        let shown: HashSet<_> = taken.iter().map(|element| Rc::as_ptr(&element.delivery)).collect();
        self.remove(|element| shown.contains(&Rc::as_ptr(&element.delivery)));
        let dropped = self.dropped.extract_if(.., |(of, _)| *of == id).map(|(_, dropped)| dropped).sum();
        (taken, dropped)
    }

    /// Removes the elements of a subscription that has ended.
    pub fn forget(&mut self, id: SubscriptionId) {
        self.remove(|element| element.subscription == id);
        self.dropped.retain(|(of, _)| *of != id);
    }

    fn remove(&mut self, is_gone: impl Fn(&WaitingElement) -> bool) {
        let bytes = &mut self.bytes;
        self.elements.retain(|element| {
            let is_gone = is_gone(element);
            *bytes -= if is_gone { element.delivery.frame.len() } else { 0 };
            !is_gone
        });
    }
}
