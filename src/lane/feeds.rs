//! The table of a lane's feeds, and the NATS subscription of each.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use slab::Slab;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Format;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::topic_id::TopicId;

use crate::lane::counts::FeedActivity;
use crate::lane::encoder::Encoder;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::feed::ShardTopic;
use crate::lane::feed::from_stream::Handling;
use crate::lane::inbox::Item;
use crate::lane::number_hasher::NumberHasher;
use crate::lane::shard_index::ShardIndex;
use crate::lane::source_stream::Ask;
use crate::lane::source_stream::SourceStream;
use crate::lane::values::ValueLimits;
use crate::lane::wildcards::Wildcards;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// How much unused capacity a table keeps when it shrinks.
const MAX_SPARE: usize = 64;

/// The index of a feed in the table. It is reused when the feed is gone.
pub type FeedId = usize;

/// A shard wants publications of a pattern.
#[derive(Debug)]
pub struct Join {
    pub shard: ShardIndex,
    /// The shard's number for the pattern.
    pub topic: TopicId,
    pub pattern: Pattern,
    pub class: Arc<Class>,
    pub format: Format,
}

/// One NATS subscription.
#[derive(Debug)]
struct Source {
    pattern: Pattern,
    open: bool,
    /// Whether the channels of a class share it: then messages are routed by subject.
    shared: bool,
    /// The feed of the subscription's own pattern.
    own: Option<FeedId>,
    /// The number of feeds that use it.
    feeds: usize,
}

#[derive(Debug)]
struct FeedEntry<K> {
    source: K,
    feed: Feed,
}

/// The limits of a lane's feeds.
#[derive(Clone, Debug)]
pub struct FeedLimits {
    /// How many last values to keep for each feed.
    pub values: ValueLimits,
    /// The largest payload to deliver, in bytes.
    pub delivery_max: usize,
    /// How many wildcard patterns may match one subject: NATS sends a message once for each.
    pub overlapping: usize,
    /// Patterns that are exempt from `overlapping`. The configuration names them, so their number is bounded.
    pub reserved: Arc<HashSet<Pattern>>,
}

/// The feeds of a lane, and their NATS subscriptions, which have keys of type `K`.
#[derive(Debug)]
pub struct Feeds<K> {
    entries: Slab<FeedEntry<K>>,
    by_pattern: HashMap<Pattern, FeedId>,
    sources: HashMap<K, Source, NumberHasher>,
    /// The shared subscriptions, by pattern.
    shared: HashMap<Pattern, K>,
    /// The feeds that [`Feeds::sweep`] must check.
    watched: BTreeSet<FeedId>,
    limits: FeedLimits,
    /// The wildcard patterns of all subscriptions.
    wildcards: Wildcards,
    renderers: Renderers,
    /// The streams of its feeds, by name. The configuration names them, so their number is bounded.
    streams: HashMap<Arc<str>, Rc<SourceStream>>,
    /// Stored feeds whose subscription the server has confirmed, for [`Feeds::take_opened`].
    opened: Vec<FeedId>,
    /// What stored feeds ask for, for [`Feeds::take_asks`].
    asks: Vec<(FeedId, Ask)>,
}

impl<K: Copy + Eq + Hash> Feeds<K> {
    /// An empty table. `renderers` render its publications.
    pub fn new(limits: FeedLimits, renderers: Renderers) -> Self {
        Self {
            entries: Slab::new(),
            by_pattern: HashMap::new(),
            sources: HashMap::default(),
            shared: HashMap::new(),
            watched: BTreeSet::new(),
            limits,
            wildcards: Wildcards::default(),
            renderers,
            streams: HashMap::new(),
            opened: Vec::new(),
            asks: Vec::new(),
        }
    }

    /// Renders snapshots with these from now on.
    pub fn change_renderers(&mut self, renderers: Renderers) {
        self.renderers = renderers;
    }

    /// Adds a reader to a feed, and calls `subscribe` if that needs a new NATS subscription. Refuses a wildcard if too
    /// many others match the same subjects.
    pub fn join(
        &mut self,
        join: Join,
        now: (Instant, SystemTime),
        mut subscribe: impl FnMut(&Pattern) -> K,
        outgoing: &mut Vec<ShardItem>,
    ) {
        let Join { shard, topic, pattern, class, format } = join;
        self.keep(&class, now, &mut subscribe);
        let id = match self.by_pattern.get(&pattern) {
            Some(&id) => id,
            None if self.overlaps_too_many(&pattern, &class) => {
                let message = format!(
                    "{} wildcards of this node already match a subject of this one: use a narrower pattern",
                    self.limits.overlapping
                );
                let error = ClientError::new(ErrorCode::LimitExceeded, message);
                return outgoing.push(ShardItem { shard, item: Item::JoinFailed { pattern, format, error } });
            }
            None => self.insert(pattern, class, now, subscribe),
        };
        if let Some(entry) = self.entries.get_mut(id) {
            outgoing.extend(entry.feed.join(ShardTopic { shard, topic }, format, &self.renderers, now.0));
            if entry.feed.needs_sweep() {
                self.watched.insert(id);
            }
        }
    }

    /// Subscribes to the pattern of a class with `snapshot = "always"`, and keeps its last values from now on. Does
    /// nothing if it has been done, or for another class.
    pub fn keep(
        &mut self,
        class: &Arc<Class>,
        now: (Instant, SystemTime),
        subscribe: impl FnOnce(&Pattern) -> K,
    ) {
        if class.feed == FeedBy::Always && !self.by_pattern.contains_key(&class.pattern) {
            self.insert(class.pattern.clone(), Arc::clone(class), now, subscribe);
        }
    }

    /// The last values of a pattern of this class, the oldest first. If there is no feed, one starts now, if
    /// `start_feed` is set, and has values when it is asked again. `None` while the subscription is lost.
    pub fn last(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        start_feed: bool,
        now: (Instant, SystemTime),
        mut subscribe: impl FnMut(&Pattern) -> K,
    ) -> Option<Vec<Publication>> {
        self.keep(&class, now, &mut subscribe);
        let known = self.by_pattern.get(&pattern).copied();
        let is_open = known.and_then(|id| self.entries.get(id)).is_some_and(|entry| entry.feed.is_open());
        if !is_open && let Some(kept) = self.kept(&class) {
            return kept.last_of(&pattern, now.0);
        }
        let id = match known {
            Some(id) => id,
            None if !start_feed || self.overlaps_too_many(&pattern, &class) => return Some(Vec::new()),
            None => self.insert(pattern, class, now, subscribe),
        };
        self.watched.insert(id);
        let Some(entry) = self.entries.get_mut(id) else { return Some(Vec::new()) };
        entry.feed.touch(now.0);
        Some(entry.feed.last(now.0)?.cloned().collect())
    }

    /// The feed with the last values of a class with `snapshot = "always"`.
    fn kept(&mut self, class: &Class) -> Option<&mut Feed> {
        let id = self.by_pattern.get(&class.pattern).filter(|_| class.feed == FeedBy::Always)?;
        self.entries.get_mut(*id).map(|entry| &mut entry.feed)
    }

    /// A shard wants no more publications of a pattern. Returns false if there is no feed of it.
    pub fn leave(&mut self, shard: ShardIndex, pattern: &Pattern, now: Instant) -> bool {
        let Some(&id) = self.by_pattern.get(pattern) else {
            return false;
        };
        if let Some(entry) = self.entries.get_mut(id) {
            entry.feed.leave(shard, now);
            self.watched.insert(id);
        }
        true
    }

    /// Delivers a message to the feed of the subscription's pattern and, if the subscription is shared, to that of the
    /// message's subject. Nothing is kept for a subject without a feed. A feed that cannot deliver the message reports
    /// a gap.
    pub fn publish(
        &mut self,
        key: K,
        message: &Message,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
    ) -> Result<(), Malformed> {
        let Some(source) = self.sources.get(&key) else {
            return Ok(());
        };
        let is_stored = |own: &FeedId| self.entries.get(*own).is_some_and(|entry| entry.feed.is_stored());
        if let Some(own) = source.own.filter(is_stored) {
            let publish = |feed: &mut Feed, handling: &mut Handling<'_>| feed.publish_copy(message, handling);
            return self.handle(own, now, encoder, outgoing, publish).unwrap_or(Ok(()));
        }
        if message.payload_size() > self.limits.delivery_max {
            self.too_large(key, message.subject(), outgoing);
            return Ok(());
        }
        let mut outcome = Ok(());
        if let Some(entry) = source.own.and_then(|own| self.entries.get_mut(own)) {
            outcome = publish(&mut entry.feed, message, now, encoder, outgoing);
        }
        if !source.shared {
            return outcome;
        }
        // A subject may look like a pattern: NATS accepts `user.*` as the subject of a message.
        let of_subject = self.by_pattern.get(message.subject()).filter(|&&id| Some(id) != source.own);
        if let Some(entry) = of_subject.and_then(|&id| self.entries.get_mut(id))
            && entry.source == key
        {
            let of_subject = publish(&mut entry.feed, message, now, encoder, outgoing);
            outcome = outcome.and(of_subject);
        }
        outcome
    }

    /// The number of subscriptions on NATS.
    pub fn subscriptions(&self) -> usize {
        self.sources.len()
    }

    /// Reports a gap on each channel that a message is too large for.
    fn too_large(&mut self, key: K, subject: &str, outgoing: &mut Vec<ShardItem>) {
        let Some(source) = self.sources.get(&key) else { return };
        let of_subject = self.by_pattern.get(subject).copied();
        let of_subject = of_subject.filter(|id| source.shared && Some(*id) != source.own);
        for id in source.own.into_iter().chain(of_subject) {
            if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.source == key) {
                entry.feed.undelivered(GapCause::TooLarge, subject, outgoing);
            }
        }
    }

    /// The server has confirmed the subscription: answers all shards that wait for its feeds.
    pub fn opened(&mut self, key: K, now: Instant, outgoing: &mut Vec<ShardItem>) {
        if let Some(source) = self.sources.get_mut(&key) {
            source.open = true;
        }
        if let Some(own) = self.sources.get(&key).and_then(|source| source.own) {
            self.inherit(own);
        }
        let renderers = self.renderers.clone();
        for id in self.feeds_of(key) {
            match self.entries.get_mut(id).map(|entry| &mut entry.feed) {
                Some(feed) if feed.is_stored() => self.opened.push(id),
                Some(feed) => feed.opened(&renderers, now, outgoing),
                None => {}
            }
        }
    }

    /// Whether [`Feeds::take_opened`] or [`Feeds::take_asks`] has something.
    #[inline]
    pub fn wants_streams(&self) -> bool {
        !self.opened.is_empty() || !self.asks.is_empty()
    }

    /// The stored feeds whose subscription the server has confirmed since the last call: their streams are read next.
    pub fn take_opened(&mut self) -> Vec<FeedId> {
        std::mem::take(&mut self.opened)
    }

    /// What stored feeds have asked for since the last call.
    pub fn take_asks(&mut self) -> Vec<(FeedId, Ask)> {
        std::mem::take(&mut self.asks)
    }

    /// The stream of a stored feed.
    pub fn stream_of(&self, id: FeedId) -> Option<&Rc<SourceStream>> {
        self.entries.get(id)?.feed.stream()
    }

    /// The feed of a pattern.
    pub fn id_of(&self, pattern: &Pattern) -> Option<FeedId> {
        self.by_pattern.get(pattern).copied()
    }

    /// The pattern of a feed.
    pub fn pattern_of_feed(&self, id: FeedId) -> Option<&Pattern> {
        self.entries.get(id).map(|entry| entry.feed.pattern())
    }

    /// The streams of its feeds.
    pub fn streams(&self) -> impl Iterator<Item = &Rc<SourceStream>> {
        self.streams.values()
    }

    /// The feeds of a stream.
    pub fn feeds_of_stream(&self, name: &str) -> Vec<FeedId> {
        let is_of = |entry: &FeedEntry<K>| entry.feed.stream().is_some_and(|stream| *stream.name == *name);
        self.entries.iter().filter(|(_, entry)| is_of(entry)).map(|(id, _)| id).collect()
    }

    /// Passes an event to a stored feed. `None` if the feed has ended.
    pub fn handle<T>(
        &mut self,
        id: FeedId,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
        event: impl FnOnce(&mut Feed, &mut Handling<'_>) -> T,
    ) -> Option<T> {
        let FeedEntry { feed, .. } = self.entries.get_mut(id)?;
        let mut asks = Vec::new();
        let (renderers, delivery_max) = (&self.renderers, self.limits.delivery_max);
        let mut handling = Handling { now, encoder, renderers, delivery_max, outgoing, asks: &mut asks };
        let outcome = event(feed, &mut handling);
        self.asks.extend(asks.into_iter().map(|ask| (id, ask)));
        Some(outcome)
    }

    /// A message was skipped because its subject is not UTF-8: it cannot be meant for a channel that is a single
    /// subject.
    pub fn malformed(&mut self, key: K, outgoing: &mut Vec<ShardItem>) {
        let own = self.sources.get(&key).and_then(|source| source.own);
        if let Some(entry) = own.and_then(|own| self.entries.get_mut(own)) {
            entry.feed.unreadable(outgoing);
        }
    }

    /// The server has revoked a subscription. Its channels report a gap of unknown size, and wait until it is open
    /// again.
    pub fn interrupted(&mut self, key: K, outgoing: &mut Vec<ShardItem>) {
        if let Some(source) = self.sources.get_mut(&key) {
            source.open = false;
        }
        self.for_each_feed(key, |feed| {
            feed.link_lost(outgoing);
            // It may stay away for long, and nothing else tells clients.
            feed.interrupted(GapCause::Nats, outgoing);
        });
    }

    /// The connection is lost, and with it all subscriptions until they are open again.
    pub fn link_lost(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.sources.values_mut().for_each(|source| source.open = false);
        self.entries.iter_mut().for_each(|(_, entry)| entry.feed.link_lost(outgoing));
    }

    /// The server rejected a subscription: refuses all shards that wait for its feeds, and removes the feeds. Calls `ended`
    /// with each.
    pub fn failed(
        &mut self,
        key: K,
        error: &ClientError,
        now: Instant,
        mut ended: impl FnMut(&Feed),
        outgoing: &mut Vec<ShardItem>,
    ) {
        self.for_each_feed(key, |feed| {
            feed.refuse(error, now, outgoing);
            ended(feed);
        });
        for id in self.feeds_of(key) {
            self.remove(id);
        }
        self.shrink_capacity();
    }

    pub fn has(&self, key: K) -> bool {
        self.sources.contains_key(&key)
    }

    /// Whether the channels of a class share this subscription.
    pub fn is_shared(&self, key: K) -> bool {
        self.sources.get(&key).is_some_and(|source| source.shared)
    }

    /// How busy the feed of a channel is. `None` if there is no such feed.
    pub fn activity(&self, channel: &Pattern) -> Option<FeedActivity> {
        let entry = self.entries.get(*self.by_pattern.get(channel)?)?;
        Some(entry.feed.activity())
    }

    /// The shards that want a channel, or wait for it.
    #[cfg(feature = "test-hooks")]
    pub fn shards_of(&self, channel: &Pattern) -> BTreeSet<ShardIndex> {
        let entry = self.by_pattern.get(channel).and_then(|id| self.entries.get(*id));
        entry.map(|entry| entry.feed.shards()).unwrap_or_default()
    }

    pub fn pattern_of(&self, key: K) -> Option<&Pattern> {
        self.sources.get(&key).map(|source| &source.pattern)
    }

    /// The pattern of the class of a subscription's channels.
    pub fn class_pattern_of(&self, key: K) -> Option<&Pattern> {
        let source = self.sources.get(&key)?;
        let own = source.own.and_then(|own| self.entries.get(own));
        // A subscription without a feed of its own is one on the pattern of its class.
        Some(own.map_or(&source.pattern, |own| own.feed.class_pattern()))
    }

    /// Whether [`Feeds::sweep`] has anything to check.
    pub fn needs_sweep(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Reports stale feeds, and removes those that no shard has wanted for `linger`, if `may_end` returns true. Returns
    /// the subscriptions that have no feed left.
    pub fn sweep(
        &mut self,
        linger: Duration,
        now: Instant,
        may_end: impl Fn(&Feed) -> bool,
        outgoing: &mut Vec<ShardItem>,
    ) -> Vec<K> {
        let (entries, mut idle) = (&mut self.entries, Vec::new());
        self.watched.retain(|&id| {
            let Some(FeedEntry { feed, .. }) = entries.get_mut(id) else {
                return false;
            };
            feed.check_stale(now, outgoing);
            if feed.is_idle(linger, now) && may_end(feed) {
                idle.push(id);
            }
            feed.needs_sweep()
        });
        let ended = idle.into_iter().filter_map(|id| self.remove(id)).collect();
        self.shrink_capacity();
        ended
    }

    /// Whether a feed of this pattern needs a new wildcard subscription and too many others match the same subjects.
    /// Patterns that the configuration names are exempt, so clients cannot use up their places.
    fn overlaps_too_many(&self, pattern: &Pattern, class: &Class) -> bool {
        let source = class.feed_pattern(pattern);
        let is_known = self.shared.contains_key(source) || self.limits.reserved.contains(source);
        !is_known && self.wildcards.reaches(source, self.limits.overlapping)
    }

    /// Gives a feed of a class with `snapshot = "always"` the values of the class. From now on the feed must receive
    /// everything itself.
    fn inherit(&mut self, id: FeedId) {
        let Some(FeedEntry { feed, .. }) = self.entries.get(id) else { return };
        let (class, channel) = (feed.class(), feed.pattern().clone());
        let Some(kept) = self.kept(&class).filter(|kept| *kept.pattern() != channel) else { return };
        let values = kept.values_of(&channel);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.feed.inherit(values);
        }
    }

    fn insert(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        now: (Instant, SystemTime),
        subscribe: impl FnOnce(&Pattern) -> K,
    ) -> FeedId {
        let source = class.feed_pattern(&pattern);
        let is_shared = class.feed != FeedBy::Subject && *source == class.pattern;
        let known = if is_shared { self.shared.get(source).copied() } else { None };
        let key = known.unwrap_or_else(|| subscribe(&class.nats_pattern(source)));
        let own = *source == pattern;
        let wildcards = &mut self.wildcards;
        let source = self.sources.entry(key).or_insert_with(|| {
            if is_shared {
                self.shared.insert(source.clone(), key);
            }
            wildcards.insert(source);
            Source { pattern: source.clone(), open: false, shared: is_shared, own: None, feeds: 0 }
        });
        let stream = class.stream.clone();
        let mut feed = Feed::new(pattern.clone(), class, source.open, self.limits.values, now);
        if let Some(name) = stream {
            let new = || Rc::new(SourceStream::new(Arc::clone(&name)));
            feed = feed.of_stream(Rc::clone(self.streams.entry(Arc::clone(&name)).or_insert_with(new)));
        }
        let id = self.entries.insert(FeedEntry { source: key, feed });
        source.feeds += 1;
        if own {
            source.own = Some(id);
        }
        self.by_pattern.insert(pattern, id);
        // What the class receives before the subscription of another is confirmed reaches only the class: `opened`.
        if is_shared {
            self.inherit(id);
        }
        id
    }

    /// Removes a feed. Returns its subscription if that was its last feed.
    fn remove(&mut self, id: FeedId) -> Option<K> {
        let FeedEntry { source: key, feed } = self.entries.try_remove(id)?;
        self.by_pattern.remove(feed.pattern());
        self.watched.remove(&id);
        let source = self.sources.get_mut(&key)?;
        source.feeds -= 1;
        if source.own == Some(id) {
            source.own = None;
        }
        if source.feeds > 0 {
            return None;
        }
        let source = self.sources.remove(&key)?;
        self.wildcards.remove(&source.pattern);
        if source.shared {
            self.shared.remove(&source.pattern);
        }
        Some(key)
    }

    fn for_each_feed(&mut self, key: K, mut change: impl FnMut(&mut Feed)) {
        for id in self.feeds_of(key) {
            if let Some(entry) = self.entries.get_mut(id) {
                change(&mut entry.feed);
            }
        }
    }

    /// The feeds of a subscription. Only a shared one has several: finding them takes a look at all feeds.
    fn feeds_of(&self, key: K) -> Vec<FeedId> {
        match self.sources.get(&key) {
            None => Vec::new(),
            Some(source) if source.shared => {
                let of_key = |(id, entry): (FeedId, &FeedEntry<K>)| (entry.source == key).then_some(id);
                self.entries.iter().filter_map(of_key).collect()
            }
            Some(source) => source.own.into_iter().collect(),
        }
    }

    /// Frees memory after many feeds have come and gone.
    fn shrink_capacity(&mut self) {
        if self.by_pattern.capacity() > MAX_SPARE + 4 * self.by_pattern.len() {
            self.by_pattern.shrink_to_fit();
            self.sources.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
    }
}

fn publish(
    feed: &mut Feed,
    message: &Message,
    now: (Instant, SystemTime),
    encoder: &mut Encoder,
    outgoing: &mut Vec<ShardItem>,
) -> Result<(), Malformed> {
    let outcome = feed.publish(message, now, encoder, outgoing);
    if outcome.is_err() {
        feed.undelivered(GapCause::Malformed, message.subject(), outgoing);
    }
    outcome
}

#[cfg(test)]
mod tests;
