//! Incoming: what comes over the subscriptions of a connection, and which of them it came over.

use crate::nats::error::NatsError;
use crate::nats::message::Message;

/// Names one subscription of a connection. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(pub(super) u64);

/// What comes out of the subscriptions, in order for each of them.
#[derive(Debug)]
pub enum Incoming {
    /// The server knows the subscription.
    Opened(SubscriptionKey),
    /// The subscription could not be made: it is to be unsubscribed.
    Failed(SubscriptionKey, NatsError),
    /// A message.
    Message(SubscriptionKey, Message),
    /// At this place a message came whose subject cannot be read.
    Malformed(SubscriptionKey),
    /// At this place the server has taken the subscription back. It is [`Incoming::Opened`] again when it has it again.
    Interrupted(SubscriptionKey),
    /// At this place the link was lost, for all subscriptions. Each is [`Incoming::Opened`] again when the server
    /// knows it again.
    LinkLost,
}
