//! Publications: messages received from NATS, before and after they are encoded for clients.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::class::Class;
use crate::class::Priority;
use crate::frame::Frame;
use crate::headers::PublicationHeaders;
use crate::json::paths::JsonSpans;
use crate::payload::Payload;
use crate::subscription_context::SubscriptionContext;

/// One message received from NATS.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The subject on which it was published.
    pub subject: Arc<str>,
    /// Its body, classified.
    pub payload: Payload,
    /// The NATS headers that its class shows to clients, in order.
    pub headers: PublicationHeaders,
    /// What it replaces under class `latest`: see `Class::key`.
    pub key: Arc<str>,
    /// When this node received it, or when its stream stored it.
    pub time: SystemTime,
    /// Its sequence in its stream, at least 1; 0 if no stream stores it.
    pub seq: u64,
}

impl Publication {
    /// A publication without headers whose key is its subject.
    pub fn without_headers(subject: Arc<str>, payload: Payload, time: SystemTime) -> Self {
        Self {
            key: Arc::clone(&subject),
            subject,
            payload,
            headers: PublicationHeaders::default(),
            time,
            seq: 0,
        }
    }

    /// The publications to keep as last values in place of this one, if its class separates the elements of lists and its
    /// producer gave it no key.
    pub fn separate(&self, class: &Class) -> Option<Vec<Self>> {
        let fields = class.fields.as_ref()?;
        let elements = fields.separate(&self.payload)?;
        let spans = JsonSpans::default();
        let found = fields.read(&self.payload, &spans).key;
        if self.key != class.key(&self.subject, found.as_deref()) {
            return None;
        }
        let of_one = |(key, payload): (Option<String>, Payload)| Self {
            key: class.key(&self.subject, key.as_deref()),
            payload,
            ..self.clone()
        };
        Some(elements.into_iter().map(of_one).collect())
    }
}

/// A publication, encoded for one [`Format`](crate::frame::Format), as outboxes hold it.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub frame: Frame,
    /// See [`Publication::key`].
    pub key: Arc<str>,
    /// When it is sent if other frames wait too.
    pub priority: Priority,
    /// It is not sent after this time (`max_age_ms` of its class).
    pub expires: Option<Instant>,
}

impl Delivery {
    /// The delivery for one subscription: filtered, and with its own texts in the slots. `None` if the filter rejects
    /// it.
    pub fn tailor(self: &Rc<Self>, subscription_context: Option<&SubscriptionContext>) -> Option<Rc<Self>> {
        let Some(subscription_context) = subscription_context else { return Some(Rc::clone(self)) };
        if subscription_context.inserts.is_empty() {
            return subscription_context.passes(self.frame.note()).then(|| Rc::clone(self));
        }
        let frame = subscription_context.tailor(&self.frame)?;
        let (key, priority, expires) = (Arc::clone(&self.key), self.priority, self.expires);
        Some(Rc::new(Self { frame, key, priority, expires }))
    }

    /// Whether it is too old to be sent.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
