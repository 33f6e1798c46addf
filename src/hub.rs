//! `Hub`: the subscribers of each channel on one shard. It appends publications to their outboxes, without I/O and
//! without waiting.

pub mod conflation;
pub mod delivery_batch;
pub mod effects;
pub mod outbox;
pub mod subscriber;
pub mod topic;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::class::Class;
use tidegate_protocol::frame::Format;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;
use crate::hub::topic::Topic;
use crate::hub::topic::TopicMember;

/// Unused capacity that the table of topics may keep.
const SPARE: usize = 64;

/// A subscription that a session requests.
#[derive(Debug)]
pub struct Subscribe {
    pub subscription: SubscriptionId,
    pub pattern: Pattern,
    pub format: Format,
    /// How publications are delivered.
    pub class: Arc<Class>,
    /// The shortest time between two publications of a key.
    pub max_rate: Option<Duration>,
    /// What the vocabulary keeps for this subscription.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
}

/// The topics of one shard.
#[derive(Debug, Default)]
pub struct Hub {
    topics: HashMap<Pattern, Topic>,
}

impl Hub {
    /// Adds a subscription that waits for its lane. Returns true if the caller has to send the lane a join.
    pub fn join(&mut self, subscriber: &Rc<Subscriber>, subscribe: Subscribe) -> bool {
        let Subscribe { subscription, pattern, format, class, max_rate, subscription_context } = subscribe;
        let per_message = max_rate.is_some()
            || subscription_context
                .as_ref()
                .is_some_and(|subscription_context| subscription_context.is_tailored);
        subscriber.add_member(
            subscription,
            pattern.clone(),
            Arc::clone(&class),
            max_rate,
            subscription_context,
        );
        let topic = self.topics.entry(pattern).or_insert_with(|| Topic::new(class));
        topic.join(TopicMember { subscriber: Rc::clone(subscriber), subscription, format, per_message })
    }

    /// Handles a successful join: the subscriptions that waited for this format become held.
    pub fn joined(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        let Some(topic) = self.topics.get_mut(pattern) else {
            return Vec::new();
        };
        let members = topic.take_joining(format);
        for member in &members {
            topic.hold(member.clone());
        }
        members
    }

    /// Handles a failed join: removes the subscriptions that waited for this format. Their sessions leave.
    pub fn join_failed(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        self.topics.get_mut(pattern).map(|topic| topic.take_joining(format)).unwrap_or_default()
    }

    /// Moves a subscription from held to live.
    pub fn go_live(&mut self, subscriber: &Subscriber, subscription: SubscriptionId) {
        let found = subscriber.with_member(subscription, |member| (member.pattern.clone(), member.state));
        if let Some((pattern, MemberState::Held(at))) = found
            && let Some(topic) = self.topics.get_mut(&pattern)
        {
            topic.go_live(at);
        }
    }

    /// Removes a subscription. Returns the pattern if it has no subscribers on this shard any more. If the lane still
    /// has to answer a join, [`Hub::remove_if_unused`] reports that later.
    pub fn leave(&mut self, subscriber: &Rc<Subscriber>, subscription: SubscriptionId) -> Option<Pattern> {
        let member = subscriber.leave(subscription)?;
        let topic = self.topics.get_mut(&member.pattern)?;
        topic.leave(subscriber, subscription, member.state);
        (topic.is_empty() && self.remove_if_unused(&member.pattern)).then_some(member.pattern)
    }

    /// Removes a topic without subscribers. Returns true if the pattern has no topic now, so that its lane should be
    /// told.
    pub fn remove_if_unused(&mut self, pattern: &Pattern) -> bool {
        if self.topics.get(pattern).is_some_and(Topic::is_empty) {
            self.topics.remove(pattern);
            if self.topics.capacity() > SPARE + 4 * self.topics.len() {
                self.topics.shrink_to_fit();
            }
        }
        !self.has_topic(pattern)
    }

    /// Whether a subscription on this shard uses the pattern.
    pub fn has_topic(&self, pattern: &Pattern) -> bool {
        self.topics.contains_key(pattern)
    }

    /// Whether a subscription waits for the lane to join this format.
    pub fn is_joining(&self, pattern: &Pattern, format: Format) -> bool {
        self.topics.get(pattern).is_some_and(|topic| topic.is_joining(format))
    }

    /// All held and live subscriptions of a pattern: those that get gaps and stale notices.
    pub fn members(&self, pattern: &Pattern) -> Vec<TopicMember> {
        self.topics.get(pattern).map(|topic| topic.members().cloned().collect()).unwrap_or_default()
    }

    pub fn topic(&self, pattern: &Pattern) -> Option<&Topic> {
        self.topics.get(pattern)
    }
}

#[cfg(test)]
mod tests;
