//! One message received from NATS, before and after it is encoded for those who want it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::frame::Frame;
use crate::payload::Payload;
use crate::subscription_context::SubscriptionContext;

/// One message received from NATS.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The subject that it was published to.
    pub subject: Arc<str>,
    /// Its body, looked at once.
    pub payload: Payload,
    /// The NATS headers that its class lets clients see, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// What it replaces under class `latest`: see `Class::key`.
    pub key: Arc<str>,
    /// When this node received it.
    pub time: SystemTime,
}

/// A publication as encoded for one [`Format`](crate::frame::Format): what outboxes hold.
#[derive(Debug)]
pub struct Delivery {
    /// The encoded message.
    pub frame: Frame,
    /// See [`Publication::key`].
    pub key: Arc<str>,
    /// From then on it is not worth sending (`max_age_ms` of its class).
    pub expires: Option<Instant>,
}

impl Delivery {
    /// What a subscription with these terms is sent of it, if anything.
    pub fn own(self: &Rc<Self>, subscription_context: Option<&SubscriptionContext>) -> Option<Rc<Self>> {
        let Some(subscription_context) = subscription_context else { return Some(Rc::clone(self)) };
        let frame = subscription_context.own(&self.frame)?;
        Some(Rc::new(Self { frame, key: Arc::clone(&self.key), expires: self.expires }))
    }

    /// Whether it is too old to be worth sending.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
