//! `ElementStore`: the last elements of one topic, shared by all its subscribers on a shard.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::elements::CollectionId;
use crate::elements::Element;
use crate::elements::Elements;
use crate::elements::MAX_ELEMENT_BYTES;
use crate::elements::MAX_ELEMENTS;
use crate::subject::Pattern;

/// The most removed elements that a store remembers, to tell clients that they miss them.
const MAX_REMOVED: usize = 256;

/// An element in a store.
#[derive(Debug)]
pub struct StoredElement {
    pub element: Arc<Element>,
    /// Its number among all elements that the shard has stored, from 1.
    pub number: u64,
    /// Its number, or if later, the last one of the shard when a lane last had it as a last value.
    pub current: u64,
    /// The number of the first element of its key. It gives elements a place that does not change with each update.
    pub place: u64,
    /// When the lane received it.
    pub arrived: Instant,
    /// The same as a time of day.
    pub time: SystemTime,
    /// It is not sent after this time (`max_age_ms` of its class).
    pub expires: Option<Instant>,
}

impl StoredElement {
    /// Whether it is newer than another one, which may be of another topic.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.arrived, self.number) > (other.arrived, other.number)
    }
}

/// An element that was removed for lack of room.
#[derive(Debug)]
pub(super) struct RemovedElement {
    pub(super) number: u64,
    pub(super) channel: Arc<str>,
    pub(super) collection: CollectionId,
    /// By which filters decide whether a client would have got it.
    pub(super) note: Box<[u8]>,
}

/// The channel of an element, its collection, and its key.
type StoreKey = (Arc<str>, CollectionId, Arc<str>);

/// The newest element of each channel and key. If there are too many, the oldest are removed.
#[derive(Debug)]
pub struct ElementStore {
    /// The pattern of the topic.
    pattern: Pattern,
    by_number: BTreeMap<u64, StoredElement>,
    by_key: BTreeMap<StoreKey, u64>,
    by_channel: BTreeSet<(Arc<str>, u64)>,
    bytes: usize,
    /// How many elements belong to another channel than the topic's.
    foreign: usize,
    /// The last elements that were removed for lack of room.
    removed: VecDeque<RemovedElement>,
    /// Elements up to this number may be outdated, because publications were lost after it.
    outdated: u64,
}

impl ElementStore {
    /// An empty store of the topic with this pattern.
    pub fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            by_number: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_channel: BTreeSet::new(),
            bytes: 0,
            foreign: 0,
            removed: VecDeque::new(),
            outdated: 0,
        }
    }

    /// Stores the collected elements of a publication, in place of older ones. `last` is the last number given to any
    /// element of the shard.
    pub fn put(&mut self, elements: &Elements, expires: Option<Instant>, last: &mut u64) {
        for element in &elements.list {
            self.put_one(element, elements, expires, last);
        }
    }

    /// Adds the last values of a channel that was just joined, the oldest first; `expires` says until when they are sent.
    /// Elements that are in the store stay, unless they are older or may be outdated. One that may be outdated and is the
    /// same is current again, and keeps its number: for others it is not new.
    pub fn seed(
        &mut self,
        snapshot: &[Elements],
        expires: impl Fn(&Elements) -> Option<Instant>,
        last: &mut u64,
    ) {
        let before = *last;
        for elements in snapshot {
            let expires = expires(elements);
            for element in &elements.list {
                self.seed_one(element, elements, expires, before, last);
            }
        }
    }

    /// Adds an element of a snapshot. `before` is the last number before the snapshot.
    fn seed_one(
        &mut self,
        element: &Arc<Element>,
        of: &Elements,
        expires: Option<Instant>,
        before: u64,
        last: &mut u64,
    ) {
        let Some(key) = key_of(element) else { return };
        let known = self.by_key.get(&key).and_then(|number| self.by_number.get_mut(number));
        let Some(stored) = known else { return self.put_one(element, of, expires, last) };
        let is_outdated = stored.number <= self.outdated;
        if of.arrived == stored.arrived && is_outdated && element.json() == stored.element.json() {
            // It must be greater than `outdated`.
            *last += 1;
            stored.current = *last;
            stored.expires = stored.expires.max(expires);
            return;
        }
        // Publications that the lane reads at once have the same time: those of one snapshot are in order.
        let is_later = of.arrived == stored.arrived && (is_outdated || stored.number > before);
        if of.arrived > stored.arrived || is_later {
            self.put_one(element, of, expires, last);
        }
    }

    fn put_one(&mut self, element: &Arc<Element>, of: &Elements, expires: Option<Instant>, last: &mut u64) {
        let Some(key) = key_of(element) else { return };
        *last += 1;
        let number = *last;
        self.by_channel.insert((Arc::clone(&key.0), number));
        let older = self.by_key.insert(key, number).and_then(|older| self.remove(older));
        let stored = StoredElement {
            element: Arc::clone(element),
            number,
            current: number,
            place: older.map_or(number, |older| older.place),
            arrived: of.arrived,
            time: of.time,
            expires,
        };
        self.bytes += element.bytes();
        self.foreign += usize::from(self.is_foreign(element));
        self.by_number.insert(number, stored);
        while self.by_number.len() > 1
            && (self.by_number.len() > MAX_ELEMENTS || self.bytes > MAX_ELEMENT_BYTES)
        {
            self.remove_oldest();
        }
    }

    /// Removes an element, but not its key.
    fn remove(&mut self, number: u64) -> Option<StoredElement> {
        let stored = self.by_number.remove(&number)?;
        self.by_channel.remove(&(Arc::clone(&stored.element.channel), number));
        self.bytes -= stored.element.bytes();
        self.foreign -= usize::from(self.is_foreign(&stored.element));
        Some(stored)
    }

    fn remove_oldest(&mut self) {
        let Some((&number, _)) = self.by_number.first_key_value() else { return };
        let Some(stored) = self.remove(number) else { return };
        let Some(key) = key_of(&stored.element) else { return };
        self.by_key.remove(&key);
        if self.removed.len() == MAX_REMOVED {
            self.removed.pop_front();
        }
        let (channel, collection, _) = key;
        let note = stored.element.note().into();
        self.removed.push_back(RemovedElement { number, channel, collection, note });
    }

    fn is_foreign(&self, element: &Element) -> bool {
        *element.channel != *self.pattern.as_str()
    }

    /// Publications were lost: who joins from now on is not shown what is in the store now.
    pub fn note_loss(&mut self, last: u64) {
        self.outdated = last;
    }

    /// The number up to which elements may be outdated.
    pub fn outdated(&self) -> u64 {
        self.outdated
    }

    /// The pattern of the topic.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether it has elements of other channels than the topic's.
    pub fn has_foreign(&self) -> bool {
        self.foreign > 0
    }

    /// The greatest number of its elements.
    pub fn newest(&self) -> u64 {
        self.by_number.last_key_value().map_or(0, |(number, _)| *number)
    }

    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The approximate size in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The collections that have an element, each once.
    pub fn collections(&self) -> Vec<CollectionId> {
        let mut found = Vec::new();
        for (_, collection, _) in self.by_key.keys() {
            if !found.contains(collection) {
                found.push(*collection);
            }
        }
        found
    }

    /// The elements of the channels that a pattern matches, those with the greatest numbers first.
    pub(super) fn matching<'s>(&'s self, pattern: &'s Pattern) -> impl Iterator<Item = &'s StoredElement> {
        let (literal, wildcard) = if pattern.is_literal() {
            let channel = pattern.text();
            let numbers = (Arc::clone(channel), 0)..=(Arc::clone(channel), u64::MAX);
            (Some(self.by_channel.range(numbers).rev()), None)
        } else {
            let matches = |stored: &&StoredElement| pattern.matches(&stored.element.channel);
            (None, Some(self.by_number.values().rev().filter(matches)))
        };
        let literal = literal.into_iter().flatten().filter_map(|(_, number)| self.by_number.get(number));
        literal.chain(wildcard.into_iter().flatten())
    }

    /// Whether a wanted element of the channels that a pattern matches has a greater number than `seen`.
    pub(super) fn has_since(
        &self,
        pattern: &Pattern,
        seen: u64,
        is_wanted: impl Fn(&StoredElement) -> bool,
    ) -> bool {
        if !pattern.is_literal() {
            let matches = |stored: &&StoredElement| pattern.matches(&stored.element.channel);
            return self.since(seen).filter(matches).any(is_wanted);
        }
        let channel = pattern.text();
        let numbers = (Arc::clone(channel), seen + 1)..=(Arc::clone(channel), u64::MAX);
        let mut found = self.by_channel.range(numbers).filter_map(|(_, number)| self.by_number.get(number));
        found.any(is_wanted)
    }

    /// The elements with greater numbers than `seen`.
    pub(super) fn since(&self, seen: u64) -> impl Iterator<Item = &StoredElement> {
        self.by_number.range(seen + 1..).map(|(_, stored)| stored)
    }

    /// The removed elements with greater numbers than `seen`.
    pub(super) fn removed_since(&self, seen: u64) -> impl Iterator<Item = &RemovedElement> {
        self.removed.iter().rev().take_while(move |removed| removed.number > seen)
    }
}

/// The key of a collected element.
fn key_of(element: &Element) -> Option<StoreKey> {
    Some((Arc::clone(&element.channel), element.collection()?, Arc::clone(&element.key)))
}

#[cfg(test)]
mod tests;
