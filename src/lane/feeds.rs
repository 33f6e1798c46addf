//! Feeds: the table of a lane: which feeds there are, and which NATS subscription brings the messages of each.

use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::Hash;
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
use tidegate_protocol::message::GapCause;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::subject::Pattern;

use crate::lane::encoder::Encoder;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::inbox::Item;
use crate::lane::shard_index::ShardIndex;
use crate::lane::values::ValueLimits;
use crate::lane::wildcards::Wildcards;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// Room in a table that may stay unused when much has been taken out.
const SPARE: usize = 64;

/// Where a feed is in the table. Used again when the feed is gone.
type FeedId = usize;

/// A shard wants publications of a pattern.
#[derive(Debug)]
pub struct Join {
    /// Which shard.
    pub shard: ShardIndex,
    /// What it wants.
    pub pattern: Pattern,
    /// How it is delivered.
    pub class: Arc<Class>,
    /// In which format.
    pub format: Format,
}

/// One NATS subscription.
#[derive(Debug)]
struct Source {
    pattern: Pattern,
    open: bool,
    /// Whether the channels of a class share it, so that messages are routed by subject.
    shared: bool,
    /// The feed of its own pattern.
    own: Option<FeedId>,
    /// How many feeds it has.
    feeds: usize,
}

#[derive(Debug)]
struct FeedEntry<K> {
    source: K,
    feed: Feed,
}

/// How much the feeds of a lane may take.
#[derive(Clone, Debug)]
pub struct FeedLimits {
    /// What is kept of one feed.
    pub values: ValueLimits,
    /// The largest payload that is delivered.
    pub delivery_max: usize,
    /// How many feeds of different patterns with wildcards may match one subject.
    pub overlapping: usize,
    /// Patterns that may be one more all the same. The configuration names them, so there are only so many.
    pub reserved: Arc<HashSet<Pattern>>,
}

/// The feeds of a lane, and the NATS subscriptions behind them, which are named by `K`.
#[derive(Debug)]
pub struct Feeds<K> {
    entries: Slab<FeedEntry<K>>,
    by_pattern: HashMap<Pattern, FeedId>,
    sources: HashMap<K, Source>,
    /// The shared ones, by their pattern.
    shared: HashMap<Pattern, K>,
    /// Feeds that the clock may have something to do for.
    watched: HashSet<FeedId>,
    limits: FeedLimits,
    /// The patterns with wildcards among the sources.
    wildcards: Wildcards,
    renderers: Renderers,
}

impl<K: Copy + Eq + Hash> Feeds<K> {
    /// None yet; these render their publications.
    pub fn new(limits: FeedLimits, renderers: Renderers) -> Self {
        Self {
            entries: Slab::new(),
            by_pattern: HashMap::new(),
            sources: HashMap::new(),
            shared: HashMap::new(),
            watched: HashSet::new(),
            limits,
            wildcards: Wildcards::default(),
            renderers,
        }
    }

    /// Adds a reader to a feed; `subscribe` is called if that needs one more NATS subscription. Refused is a wildcard that
    /// would make NATS send messages on some subject too often.
    pub fn join(
        &mut self,
        join: Join,
        now: (Instant, SystemTime),
        subscribe: impl FnOnce(&Pattern) -> K,
        outgoing: &mut Vec<ShardItem>,
    ) {
        let Join { shard, pattern, class, format } = join;
        let id = match self.by_pattern.get(&pattern) {
            Some(&id) => id,
            None if self.overlaps_too_many(&pattern, &class) => {
                let words = format!(
                    "clients of this node have {} wildcards that match one subject with this one: use narrower ones",
                    self.limits.overlapping
                );
                let refusal = ClientError::new(ErrorCode::LimitExceeded, words);
                return outgoing.push(ShardItem { shard, item: Item::Unjoined { pattern, format, refusal } });
            }
            None => self.insert(pattern, class, now, subscribe),
        };
        if let Some(entry) = self.entries.get_mut(id) {
            outgoing.extend(entry.feed.join(shard, format, &self.renderers, now.0));
            if entry.feed.needs_clock() {
                self.watched.insert(id);
            }
        }
    }

    /// The last values of a pattern, the oldest first. With a class, a feed that there is not begins now, and so knows them
    /// when it is asked again soon. `None` while its subscription is lost.
    pub fn last(
        &mut self,
        pattern: Pattern,
        begins: Option<Arc<Class>>,
        now: (Instant, SystemTime),
        subscribe: impl FnOnce(&Pattern) -> K,
    ) -> Option<Vec<Publication>> {
        let id = match (self.by_pattern.get(&pattern), begins) {
            (Some(&id), _) => id,
            (None, Some(class)) if self.overlaps_too_many(&pattern, &class) => return Some(Vec::new()),
            (None, Some(class)) => self.insert(pattern, class, now, subscribe),
            (None, None) => return Some(Vec::new()),
        };
        self.watched.insert(id);
        let Some(entry) = self.entries.get_mut(id) else { return Some(Vec::new()) };
        entry.feed.touch(now.0);
        Some(entry.feed.last(now.0)?.cloned().collect())
    }

    /// A shard wants nothing of a pattern any more.
    pub fn leave(&mut self, shard: ShardIndex, pattern: &Pattern, now: Instant) {
        let Some(&id) = self.by_pattern.get(pattern) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(id) {
            entry.feed.leave(shard, now);
            self.watched.insert(id);
        }
    }

    /// A message: it goes to the feed of the subscription's pattern, and to that of its subject if they are shared.
    /// Of a subject that no one wants nothing is kept. One that a feed cannot show is missing there.
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
        // A subject may look like a pattern: NATS takes `user.*` as the subject of a message.
        let of_subject = self.by_pattern.get(message.subject()).filter(|&&id| Some(id) != source.own);
        if let Some(entry) = of_subject.and_then(|&id| self.entries.get_mut(id))
            && entry.source == key
        {
            let of_subject = publish(&mut entry.feed, message, now, encoder, outgoing);
            outcome = outcome.and(of_subject);
        }
        outcome
    }

    /// A message that is not delivered because of its size is missing on each channel that it was for.
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

    /// The server knows the subscription: all who waited for its feeds are answered.
    pub fn opened(&mut self, key: K, now: Instant, outgoing: &mut Vec<ShardItem>) {
        if let Some(source) = self.sources.get_mut(&key) {
            source.open = true;
        }
        let renderers = self.renderers.clone();
        self.each_of(key, |feed| feed.opened(&renderers, now, outgoing));
    }

    /// A message came whose subject cannot be read. No channel that names one subject can have been meant.
    pub fn malformed(&mut self, key: K, outgoing: &mut Vec<ShardItem>) {
        let own = self.sources.get(&key).and_then(|source| source.own);
        if let Some(entry) = own.and_then(|own| self.entries.get_mut(own)) {
            entry.feed.unreadable(outgoing);
        }
    }

    /// The server has taken a subscription back until it is open again. Each of its channels may miss some, and none
    /// knows how many.
    pub fn interrupted(&mut self, key: K, outgoing: &mut Vec<ShardItem>) {
        if let Some(source) = self.sources.get_mut(&key) {
            source.open = false;
        }
        self.each_of(key, |feed| feed.link_lost(outgoing));
    }

    /// The link is lost, and with it all subscriptions until they are open again.
    pub fn link_lost(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.sources.values_mut().for_each(|source| source.open = false);
        self.entries.iter_mut().for_each(|(_, entry)| entry.feed.link_lost(outgoing));
    }

    /// A subscription could not be made: all who wait for its feeds are refused, and the feeds are gone.
    pub fn failed(&mut self, key: K, refusal: &ClientError, now: Instant, outgoing: &mut Vec<ShardItem>) {
        self.each_of(key, |feed| feed.refuse(refusal, now, outgoing));
        let of_key = |(id, entry): (FeedId, &FeedEntry<K>)| (entry.source == key).then_some(id);
        let ids: Vec<_> = self.entries.iter().filter_map(of_key).collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Whether there is such a subscription.
    pub fn has(&self, key: K) -> bool {
        self.sources.contains_key(&key)
    }

    /// Whether the channels of a class share a subscription.
    pub fn is_shared(&self, key: K) -> bool {
        self.sources.get(&key).is_some_and(|source| source.shared)
    }

    /// The pattern of a subscription.
    pub fn pattern_of(&self, key: K) -> Option<&Pattern> {
        self.sources.get(&key).map(|source| &source.pattern)
    }

    /// What the clock asks for: silence is said, and feeds that no one has wanted for `linger` go. Gives back the
    /// subscriptions that have no feed any more.
    pub fn sweep(&mut self, linger: Duration, now: Instant, outgoing: &mut Vec<ShardItem>) -> Vec<K> {
        let (entries, mut idle) = (&mut self.entries, Vec::new());
        self.watched.retain(|&id| {
            let Some(FeedEntry { feed, .. }) = entries.get_mut(id) else {
                return false;
            };
            feed.check_stale(now, outgoing);
            if feed.is_idle(linger, now) {
                idle.push(id);
            }
            feed.needs_clock()
        });
        let ended = idle.into_iter().filter_map(|id| self.remove(id)).collect();
        self.shrink_capacity();
        ended
    }

    /// Whether a feed of this pattern would need one more wildcard on NATS than may match one subject. One that the
    /// configuration names, for a class or a role, is never too many: clients with others cannot use up its place.
    fn overlaps_too_many(&self, pattern: &Pattern, class: &Class) -> bool {
        let source = class.feed_pattern(pattern);
        let is_known = self.shared.contains_key(source) || self.limits.reserved.contains(source);
        !is_known && self.wildcards.reach(source, self.limits.overlapping)
    }

    fn insert(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        now: (Instant, SystemTime),
        subscribe: impl FnOnce(&Pattern) -> K,
    ) -> FeedId {
        let source = class.feed_pattern(&pattern);
        let is_shared = class.feed == FeedBy::Pattern && *source == class.pattern;
        let known = if is_shared { self.shared.get(source).copied() } else { None };
        let key = known.unwrap_or_else(|| subscribe(source));
        let own = *source == pattern;
        let wildcards = &mut self.wildcards;
        let source = self.sources.entry(key).or_insert_with(|| {
            if is_shared {
                self.shared.insert(source.clone(), key);
            }
            wildcards.insert(source);
            Source { pattern: source.clone(), open: false, shared: is_shared, own: None, feeds: 0 }
        });
        let feed = Feed::new(pattern.clone(), class, source.open, self.limits.values, now);
        let id = self.entries.insert(FeedEntry { source: key, feed });
        source.feeds += 1;
        if own {
            source.own = Some(id);
        }
        self.by_pattern.insert(pattern, id);
        id
    }

    /// Takes a feed out. Gives back its subscription if that was its last.
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

    fn each_of(&mut self, key: K, mut change: impl FnMut(&mut Feed)) {
        let Some(source) = self.sources.get(&key) else {
            return;
        };
        if source.shared {
            let entries = self.entries.iter_mut().map(|(_, entry)| entry);
            entries.filter(|entry| entry.source == key).for_each(|entry| change(&mut entry.feed));
        } else if let Some(entry) = source.own.and_then(|own| self.entries.get_mut(own)) {
            change(&mut entry.feed);
        }
    }

    /// Gives memory back after many have come or gone.
    fn shrink_capacity(&mut self) {
        if self.watched.capacity() > SPARE + 4 * self.watched.len() {
            self.watched.shrink_to_fit();
        }
        if self.by_pattern.capacity() > SPARE + 4 * self.by_pattern.len() {
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
