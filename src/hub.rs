//! `Hub`: the subscribers of each channel on one shard. It appends publications to their outboxes, without I/O and
//! without waiting.

pub mod channel_listeners;
pub mod class_counts;
pub mod collections;
pub mod conflation;
pub mod delays;
pub mod delivery_batch;
pub mod effects;
pub mod element_index;
pub mod ended_subscriptions;
pub mod member_list;
pub mod outbox;
pub mod subscriber;
pub mod topic;
pub mod topic_member;
pub mod waiting_elements;

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use slab::Slab;
use tidegate_protocol::class::Class;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::frame::Format;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;
use tidegate_protocol::topic_id::TopicId;

use crate::hub::channel_listeners::ChannelListeners;
use crate::hub::effects::Effects;
use crate::hub::subscriber::Collecting;
use crate::hub::subscriber::Member;
use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;
use crate::hub::topic::Topic;
use crate::hub::topic_member::TopicMember;

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
    /// Where each topic is in the table.
    places: HashMap<Pattern, u32>,
    topics: Slab<NumberedTopic>,
    /// The number of the newest topic: see [`TopicId`].
    last_topic: u32,
    /// The number of the last element that any topic has stored.
    last_element: Cell<u64>,
    /// The subscriptions of all subscribers.
    subscriptions: u64,
    /// The listeners of channels that may have only some, of the whole node.
    listeners: Arc<ChannelListeners>,
}

/// A topic in the table.
#[derive(Debug)]
struct NumberedTopic {
    /// See [`TopicId::number`].
    number: u32,
    topic: Topic,
}

impl Hub {
    /// A hub without subscribers. `listeners` are those of all shards.
    pub fn new(listeners: Arc<ChannelListeners>) -> Self {
        Self { listeners, ..Self::default() }
    }

    /// The subscriptions of all subscribers.
    pub fn subscriptions(&self) -> u64 {
        self.subscriptions
    }

    /// Counts a subscription that is about to join, if its class limits the listeners of a channel. Returns false if the
    /// channel has as many as it may have. A client that listens already is not refused: it may ask for the channel in
    /// another group, or for the same one again.
    pub fn has_room(&self, subscriber: &Subscriber, subscribe: &Subscribe) -> bool {
        let (channel, max) = (&subscribe.pattern, subscribe.class.max_listeners);
        if max == 0 || self.listeners.try_join(channel, max) {
            return true;
        }
        let listens = subscriber.has_channel(channel);
        if listens {
            self.listeners.join(channel);
        }
        listens
    }

    /// Adds a subscription that waits for its lane, after [`Hub::has_room`]. Returns true if the caller has to send the lane a join.
    pub fn join(&mut self, subscriber: &Rc<Subscriber>, subscribe: Subscribe) -> bool {
        let Subscribe { subscription, pattern, format, class, max_rate, subscription_context } = subscribe;
        let per_message = max_rate.is_some()
            || subscription_context
                .as_ref()
                .is_some_and(|subscription_context| subscription_context.is_tailored);
        let takes_elements = subscription_context.as_ref().is_some_and(|context| context.takes_elements);
        self.subscriptions += 1;
        let pattern = self.shared(pattern);
        let topic = self.topic_or_new(&pattern, &class);
        let store = takes_elements.then(|| topic.store_for(&pattern, format));
        subscriber.add_member(subscription, pattern, class, max_rate, subscription_context);
        if let Some(store) = store {
            subscriber.set_collecting(subscription, Collecting { store, since: 0, joined: 0 });
        }
        topic.join(TopicMember { subscriber: Rc::clone(subscriber), subscription, format, per_message })
    }

    /// The subscribers for whom the lane has read the last values of a format: those that wait, and the one that caused
    /// the request, even if it has left. Each once for each of its subscriptions that wait.
    pub fn readers(&self, pattern: &Pattern, format: Format) -> Vec<Rc<Subscriber>> {
        self.topic(pattern).map(|topic| topic.readers(format)).unwrap_or_default()
    }

    /// Handles a successful join: the subscriptions that waited for this format become held.
    pub fn joined(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        let last_element = self.last_element.get();
        let Some(topic) = self.topic_mut(pattern) else {
            return Vec::new();
        };
        let members = topic.take_joining(format);
        for member in &members {
            topic.hold(member.clone());
            topic.show_elements(member, last_element);
        }
        members
    }

    /// Stores the elements of a channel's last values, before the subscriptions that wait for this format join.
    pub fn seed(&self, pattern: &Pattern, format: Format, snapshot: &[Elements], now: Instant) {
        if let Some(topic) = self.topic(pattern) {
            let mut last = self.last_element.get();
            topic.seed(format, snapshot, now, &mut last);
            self.last_element.set(last);
        }
    }

    /// Delivers the elements of a publication. Returns false if the pattern has no topic.
    pub fn publish_elements(
        &self,
        pattern: &Pattern,
        format: Format,
        elements: &Elements,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let Some(topic) = self.topic(pattern) else { return false };
        let mut last = self.last_element.get();
        topic.publish_elements(format, elements, now, &mut last, effects);
        self.last_element.set(last);
        true
    }

    /// Publications of a pattern were lost, or could not be rendered in a format: who joins later is not shown the
    /// elements that are stored now.
    pub fn note_loss(&self, pattern: &Pattern, format: Option<Format>) {
        if let Some(topic) = self.topic(pattern) {
            topic.note_loss(format, self.last_element.get());
        }
    }

    /// Handles a failed join: removes the subscriptions that waited for this format. Their sessions leave.
    pub fn join_failed(&mut self, pattern: &Pattern, format: Format) -> Vec<TopicMember> {
        self.topic_mut(pattern).map(|topic| topic.take_joining(format)).unwrap_or_default()
    }

    /// Moves a subscription from held to live.
    pub fn go_live(&mut self, subscriber: &Subscriber, subscription: SubscriptionId) {
        let found = subscriber.with_member(subscription, |member| (member.pattern.clone(), member.state));
        if let Some((pattern, MemberState::Held(at))) = found
            && let Some(topic) = self.topic_mut(&pattern)
        {
            topic.go_live(at);
        }
    }

    /// Removes a subscription. Returns the pattern if it has no subscribers on this shard any more. If the lane still
    /// has to answer a join, [`Hub::remove_if_unused`] reports that later.
    pub fn leave(&mut self, subscriber: &Rc<Subscriber>, subscription: SubscriptionId) -> Option<Pattern> {
        let Member { pattern, state, class, .. } = subscriber.leave(subscription)?;
        self.subscriptions -= 1;
        if class.max_listeners > 0 {
            self.listeners.leave(&pattern);
        }
        let topic = self.topic_mut(&pattern)?;
        topic.leave(subscriber, subscription, state);
        (topic.is_empty() && self.remove_if_unused(&pattern)).then_some(pattern)
    }

    /// Removes a topic without subscribers. Returns true if the pattern has no topic now, so that its lane should be
    /// told.
    pub fn remove_if_unused(&mut self, pattern: &Pattern) -> bool {
        if self.topic(pattern).is_some_and(Topic::is_empty)
            && let Some(place) = self.places.remove(pattern)
        {
            self.topics.try_remove(place as usize);
            if self.places.capacity() > SPARE + 4 * self.places.len() {
                self.places.shrink_to_fit();
                self.topics.shrink_to_fit();
            }
        }
        !self.has_topic(pattern)
    }

    /// The channels at these places of the table, each with its subscriptions.
    pub fn channels(&self, places: Range<usize>) -> Vec<(Pattern, usize)> {
        let topics = places.filter_map(|place| self.topics.get(place)).map(|numbered| &numbered.topic);
        topics.filter_map(|topic| Some((topic.channel()?, topic.subscriptions()))).collect()
    }

    /// The number of places in the table.
    pub fn table_size(&self) -> usize {
        self.topics.capacity()
    }

    /// The subscriptions to a channel.
    pub fn subscriptions_to(&self, channel: &Pattern) -> usize {
        self.topic(channel).map_or(0, Topic::subscriptions)
    }

    /// Whether a subscription on this shard uses the pattern.
    pub fn has_topic(&self, pattern: &Pattern) -> bool {
        self.places.contains_key(pattern)
    }

    /// Whether a subscription waits for the lane to join this format.
    pub fn is_joining(&self, pattern: &Pattern, format: Format) -> bool {
        self.topic(pattern).is_some_and(|topic| topic.is_joining(format))
    }

    /// All held and live subscriptions of a pattern: those that get gaps and stale notices.
    pub fn members(&self, pattern: &Pattern) -> Vec<TopicMember> {
        self.topic(pattern).map(|topic| topic.members().cloned().collect()).unwrap_or_default()
    }

    pub fn topic(&self, pattern: &Pattern) -> Option<&Topic> {
        let place = *self.places.get(pattern)?;
        self.topics.get(place as usize).map(|numbered| &numbered.topic)
    }

    /// The number with which lanes send publications of a pattern.
    pub fn topic_id(&self, pattern: &Pattern) -> Option<TopicId> {
        let place = *self.places.get(pattern)?;
        self.topics.get(place as usize).map(|numbered| TopicId { place, number: numbered.number })
    }

    /// The topic with this number, if it has not ended.
    pub fn numbered(&self, id: TopicId) -> Option<&Topic> {
        let numbered = self.topics.get(id.place as usize)?;
        (numbered.number == id.number).then_some(&numbered.topic)
    }

    fn topic_mut(&mut self, pattern: &Pattern) -> Option<&mut Topic> {
        let place = *self.places.get(pattern)?;
        self.topics.get_mut(place as usize).map(|numbered| &mut numbered.topic)
    }

    /// The pattern with the text of its topic, so that all subscriptions of a topic share it.
    fn shared(&self, pattern: Pattern) -> Pattern {
        match self.places.get_key_value(&pattern) {
            Some((known, _)) => known.clone(),
            None => pattern,
        }
    }

    fn topic_or_new(&mut self, pattern: &Pattern, class: &Arc<Class>) -> &mut Topic {
        let place = match self.places.get(pattern) {
            Some(place) => *place as usize,
            None => {
                self.last_topic = self.last_topic.wrapping_add(1);
                let topic = Topic::new(Arc::clone(class));
                let place = self.topics.insert(NumberedTopic { number: self.last_topic, topic });
                // A shard has no more topics than subscriptions, which need more than a byte each.
                self.places.insert(pattern.clone(), u32::try_from(place).unwrap_or(u32::MAX));
                place
            }
        };
        &mut self.topics[place].topic
    }
}

#[cfg(test)]
mod tests;
