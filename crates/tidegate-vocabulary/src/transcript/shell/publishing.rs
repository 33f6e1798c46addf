//! The part of a shell that makes publications of NATS messages.

use std::sync::Arc;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::DeliveryHeaders;
use tidegate_protocol::class::Priority;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::transcript::Published;
use crate::transcript::shell::Shell;

impl Shell {
    /// The class of a subscription that receives this subject, or that of the subject.
    pub(super) fn class_of(&self, subject: &Pattern) -> Arc<Class> {
        let mut receiving =
            self.subscriptions.values().filter(|subscription| subscription.pattern.matches(subject.as_str()));
        receiving
            .next()
            .map_or_else(|| self.classes.of(subject), |subscription| Arc::clone(&subscription.class))
    }

    pub(super) fn publication(&self, published: &Published) -> (Publication, Priority) {
        let subject: Arc<str> = published.subject.as_str().into();
        let class = self.class_of(&Pattern::from(published.subject.clone()));
        let has_all = class.headers.iter().any(|shown| shown == "*");
        let shown = |(name, value): &(String, String)| {
            let named = class.headers.iter().find(|shown| shown.eq_ignore_ascii_case(name));
            Some((named.or_else(|| has_all.then_some(name))?.clone(), value.clone()))
        };
        let header = |wanted: &str| {
            let is_wanted = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
            published.headers.iter().rfind(is_wanted).map(|(_, value)| value.as_str())
        };
        let given = DeliveryHeaders { key: header("Tidegate-Key"), priority: header("Tidegate-Priority") };
        let payload = Payload::classify(published.payload.clone());
        let (key, priority) = class.key_and_priority(&subject, &payload, given);
        let headers = published.headers.iter().filter_map(shown).collect();
        (Publication { subject, payload, headers, key, time: self.wall(), seq: 0 }, priority)
    }
}
