//! Events of the subscriptions of one connection.

use crate::nats::error::NatsError;
use crate::nats::message::Message;

/// Identifies a subscription of a connection. Keys are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(pub(super) u64);

/// An event. Those of one subscription are in order.
#[derive(Debug)]
pub enum Incoming {
    /// The server has the subscription.
    Opened(SubscriptionKey),
    /// The server rejected the subscription: unsubscribe.
    Failed(SubscriptionKey, NatsError),
    Message(SubscriptionKey, Message),
    /// A message was skipped here because its subject is not UTF-8.
    Malformed(SubscriptionKey),
    /// The server revoked the subscription here. [`Incoming::Opened`] follows if it grants it again.
    Interrupted(SubscriptionKey),
    /// The connection was lost here, and with it all subscriptions. [`Incoming::Opened`] follows for each after a
    /// reconnect.
    LinkLost,
}
