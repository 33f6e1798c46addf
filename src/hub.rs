//! Hub: who on this shard listens to what. It appends publications to outboxes; no I/O, no waiting.

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

/// Room in the table of topics that may stay unused when many have gone.
const SPARE: usize = 64;

/// A subscription as its session asks for it.
#[derive(Debug)]
pub struct Subscribe {
    /// Its name within its session.
    pub subscription: SubscriptionId,
    /// What it wants.
    pub pattern: Pattern,
    /// What its publications are encoded for.
    pub format: Format,
    /// How they are delivered.
    pub class: Arc<Class>,
    /// At most one publication of a key in this time.
    pub max_rate: Option<Duration>,
    /// What it has agreed with its vocabulary, if anything.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
}

/// The topics of one shard.
#[derive(Debug, Default)]
pub struct Hub {
    topics: HashMap<Pattern, Topic>,
}

impl Hub {
    /// Lets a subscription wait for its lane. True if the lane has to be asked.
    pub fn join(&mut self, subscriber: &Rc<Subscriber>, subscribe: Subscribe) -> bool {
        let Subscribe { subscription, pattern, format, class, max_rate, subscription_context } = subscribe;
        let apart = max_rate.is_some()
            || subscription_context
                .as_ref()
                .is_some_and(|subscription_context| subscription_context.is_tailored);
        subscriber.enter(subscription, pattern.clone(), Arc::clone(&class), max_rate, subscription_context);
        let topic = self.topics.entry(pattern).or_insert_with(|| Topic::new(class));
        topic.join(TopicMember { subscriber: Rc::clone(subscriber), subscription, format, apart })
    }

    /// The lane has joined a format: those who waited for it are held from now on.
    pub fn joined(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        let Some(topic) = self.topics.get_mut(pattern) else {
            return Vec::new();
        };
        let listeners = topic.answered(format);
        for listener in &listeners {
            topic.hold(listener.clone());
        }
        listeners
    }

    /// The lane could not join: those who waited are out of the topic; their sessions leave.
    pub fn unjoined(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        self.topics.get_mut(pattern).map(|topic| topic.answered(format)).unwrap_or_default()
    }

    /// Moves a subscription from held to live.
    pub fn go_live(&mut self, subscriber: &Subscriber, subscription: SubscriptionId) {
        let found = subscriber.with_member(subscription, |member| (member.pattern.clone(), member.place));
        if let Some((pattern, MemberState::Held(at))) = found
            && let Some(topic) = self.topics.get_mut(&pattern)
        {
            topic.go_live(at);
        }
    }

    /// Takes a subscription out. Gives back the pattern if no one on this shard wants it any more; while an answer of
    /// its lane is on the way, [`Hub::forget`] tells that later.
    pub fn leave(&mut self, subscriber: &Rc<Subscriber>, subscription: SubscriptionId) -> Option<Pattern> {
        let member = subscriber.leave(subscription)?;
        let topic = self.topics.get_mut(&member.pattern)?;
        topic.leave(subscriber, subscription, member.place);
        (topic.is_empty() && self.forget(&member.pattern)).then_some(member.pattern)
    }

    /// Removes a topic that no one wants. True if there is none now, so that its lane should be told.
    pub fn forget(&mut self, pattern: &Pattern) -> bool {
        if self.topics.get(pattern).is_some_and(Topic::is_empty) {
            self.topics.remove(pattern);
            if self.topics.capacity() > SPARE + 4 * self.topics.len() {
                self.topics.shrink_to_fit();
            }
        }
        !self.wants(pattern)
    }

    /// Whether anybody on this shard wants it.
    pub fn wants(&self, pattern: &Pattern) -> bool {
        self.topics.contains_key(pattern)
    }

    /// Whether anybody on this shard waits for a lane's answer for this format.
    pub fn waits(&self, pattern: &Pattern, format: Format) -> bool {
        self.topics.get(pattern).is_some_and(|topic| topic.waits(format))
    }

    /// Everyone who has joined it, and who therefore hears of a loss or a silence.
    pub fn listeners(&self, pattern: &Pattern) -> Vec<TopicMember> {
        self.topics.get(pattern).map(|topic| topic.listeners().cloned().collect()).unwrap_or_default()
    }

    /// The topic of a pattern that somebody wants.
    pub fn topic(&self, pattern: &Pattern) -> Option<&Topic> {
        self.topics.get(pattern)
    }
}

#[cfg(test)]
mod tests;
