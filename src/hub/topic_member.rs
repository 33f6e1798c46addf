//! `TopicMember`: one subscription, as its topic knows it.

use std::rc::Rc;

use tidegate_protocol::frame::Format;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::subscriber::Subscriber;

/// One subscription in a topic.
#[derive(Clone, Debug)]
pub struct TopicMember {
    pub subscriber: Rc<Subscriber>,
    pub subscription: SubscriptionId,
    pub format: Format,
    /// Whether publications are offered to it one by one, because it has a `max_rate_ms`, or its messages differ from
    /// those of other subscribers.
    pub per_message: bool,
}
