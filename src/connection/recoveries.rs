//! `WaitingRecoveries`: the subscriptions of a shard that wait for what they have missed. Those of one channel, format and
//! position ask their lane once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tidegate_protocol::frame::Format;
use tidegate_protocol::position::Position;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::subscriber::Subscriber;

/// A subscription that waits.
pub type Waiting = (Rc<Subscriber>, SubscriptionId);

/// Those of one channel, by their format and position.
type OfChannel = HashMap<(Format, Position), Vec<Waiting>>;

/// By channel: who waits for which format, and from which position on.
#[derive(Debug, Default)]
pub struct WaitingRecoveries(RefCell<HashMap<Pattern, OfChannel>>);

impl WaitingRecoveries {
    /// Adds a subscription. Returns whether it is the first to ask for this.
    pub fn add(&self, pattern: &Pattern, format: Format, after: Position, waiting: Waiting) -> bool {
        let mut all = self.0.borrow_mut();
        let of_channel = all.entry(pattern.clone()).or_default();
        let asked = of_channel.entry((format, after)).or_default();
        asked.push(waiting);
        asked.len() == 1
    }

    /// Removes and returns those that wait for an answer that has arrived.
    pub fn take(&self, pattern: &Pattern, format: Format, after: Position) -> Vec<Waiting> {
        let mut all = self.0.borrow_mut();
        let Some(of_channel) = all.get_mut(pattern) else { return Vec::new() };
        let found = of_channel.remove(&(format, after)).unwrap_or_default();
        if of_channel.is_empty() {
            all.remove(pattern);
        }
        found
    }

    /// The shard has left a channel, and gets no more answers about it.
    pub fn forget(&self, pattern: &Pattern) {
        self.0.borrow_mut().remove(pattern);
    }
}
