//! Selects the elements for one message: the newest of each key, of all channels that a client has joined.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Instant;

use crate::elements::CollectionId;
use crate::elements::ElementForm;
use crate::elements::store::ElementStore;
use crate::elements::store::RemovedElement;
use crate::elements::store::StoredElement;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// The most elements of one message, and the most bytes of them. One element is always sent.
pub const MAX_SELECTED: usize = 256;
pub const MAX_SELECTED_BYTES: usize = 64 * 1024;
/// Fewer elements than this are compared one by one.
const FEW: usize = 16;

/// A subscription that is live or held, whose elements are shown.
#[derive(Clone, Copy, Debug)]
pub struct CollectingMember<'m> {
    pub pattern: &'m Pattern,
    /// The elements of its topic.
    pub store: &'m ElementStore,
    /// Elements up to this number are not shown to it.
    pub since: u64,
    /// The number of the last element before it joined. If older ones are lost, it is not told.
    pub joined: u64,
    /// What the vocabulary keeps for it: its filter.
    pub context: Option<&'m SubscriptionContext>,
}

impl CollectingMember<'_> {
    /// Whether its filter lets an element with this note pass.
    fn passes(&self, note: &[u8]) -> bool {
        self.context.is_none_or(|context| context.passes(note))
    }
}

/// The elements for one message.
#[derive(Debug, Default)]
pub struct Selection<'m> {
    /// In the order in which the client joined their channels.
    pub elements: Vec<&'m StoredElement>,
    /// Whether one of them is newer than what the client has been sent.
    pub has_new: bool,
    /// Elements that expired before they were sent.
    pub expired: u64,
    /// Elements that were removed before they were sent.
    pub removed: u64,
    /// Elements that are left out because there are too many; at least one of them if the client has been told before.
    pub left_out: u64,
    /// The greatest number of all stores: what comes later is new.
    pub newest: u64,
}

/// What a client has been sent of a collection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// The number up to which it has been sent elements.
    pub seen: u64,
    /// Whether it has been told that elements are left out.
    pub told_left_out: bool,
}

/// The number of the newest element of any collection that could be shown to these members.
pub fn newest(members: &[CollectingMember<'_>]) -> u64 {
    members.iter().map(|member| member.store.newest()).max().unwrap_or_default()
}

/// Whether a collection has an element that is newer than what the client has been sent, or has lost one. Costs a look at
/// each new element of a topic if they are few, else a look-up of each literal channel.
pub fn has_news(collection: CollectionId, members: &[CollectingMember<'_>], seen: u64) -> bool {
    members.iter().enumerate().filter(|(_, source)| source.store.newest() > seen).any(|(of, source)| {
        let others = members.iter().enumerate().filter(|(at, _)| *at != of && source.store.has_foreign());
        // First the subscription over which they came: it is nearly always the one that shows them.
        let mut shown_by = std::iter::once(source).chain(others.map(|(_, member)| member));
        let is_shown = |stored: &StoredElement, member: &CollectingMember<'_>| {
            is_shown(stored, collection, member, source)
        };
        let has_few = source.store.since(seen).nth(FEW).is_none();
        let has_shown = if has_few {
            shown_by.any(|member| {
                let matching = |stored: &&StoredElement| member.pattern.matches(&stored.element.channel);
                source.store.since(seen).filter(matching).any(|stored| is_shown(stored, member))
            })
        } else {
            shown_by
                .any(|member| source.store.has_since(member.pattern, seen, |stored| is_shown(stored, member)))
        };
        has_shown || count_removed(collection, members, source, seen) > 0
    })
}

/// The members whose topics have elements of other channels.
fn foreign(members: &[CollectingMember<'_>]) -> Vec<usize> {
    let has_foreign = |(of, source): (usize, &CollectingMember<'_>)| source.store.has_foreign().then_some(of);
    members.iter().enumerate().filter_map(has_foreign).collect()
}

/// The members whose topics may have elements for the one at `at`.
fn sources(at: usize, foreign: &[usize]) -> impl Iterator<Item = usize> {
    let own = std::iter::once(at).filter(|at| foreign.binary_search(at).is_err());
    own.chain(foreign.iter().copied())
}

/// Selects the elements of a collection. `members` are the client's subscriptions of one group, in the order in which
/// it joined them.
///
/// An element is shown if one of the members matches its channel, wherever it was published, and the filters of that
/// member and of the one whose topic it came through let it pass. If the client has been told that elements are left
/// out, older ones than fit into a message are not looked at.
pub fn select<'m>(
    collection: CollectionId,
    members: &[CollectingMember<'m>],
    sent: Sent,
    now: Instant,
) -> Selection<'m> {
    let room = members.len().min(MAX_SELECTED);
    let mut selection = Selection { elements: Vec::with_capacity(room), ..Selection::default() };
    let mut found = Vec::new();
    let mut by_key = HashMap::new();
    let mut expired = Vec::new();
    let foreign = foreign(members);
    for (at, member) in members.iter().enumerate() {
        for source in sources(at, &foreign).filter_map(|of| members.get(of)) {
            let due_since = sent.seen.max(member.joined).max(source.joined);
            let shown = source.store.matching(member.pattern);
            let shown = shown.filter(|stored| is_shown(stored, collection, member, source));
            let shown = shown.filter(|stored| {
                let is_expired = stored.expires.is_some_and(|expires| expires <= now);
                expired.extend((is_expired && stored.number > due_since).then_some(stored.number));
                !is_expired
            });
            take_newest(shown, sent.told_left_out, &mut found);
        }
        found.sort_unstable_by_key(|stored| stored.place);
        for stored in found.drain(..) {
            put(stored, &mut selection.elements, &mut by_key);
        }
        selection.removed += count_removed(collection, members, member, sent.seen);
    }
    expired.sort_unstable();
    expired.dedup();
    selection.expired = expired.len() as u64;
    selection.left_out = leave_out_oldest(&mut selection.elements);
    selection.has_new = selection.elements.iter().any(|stored| stored.number > sent.seen);
    selection.newest = newest(members);
    selection
}

/// Takes elements, the newest first. With `is_bounded`, stops after those of one key more than fit into a message: then
/// it is certain that some are left out.
fn take_newest<'m>(
    newest_first: impl Iterator<Item = &'m StoredElement>,
    is_bounded: bool,
    found: &mut Vec<&'m StoredElement>,
) {
    if !is_bounded {
        return found.extend(newest_first);
    }
    let mut keys = HashSet::new();
    for stored in newest_first {
        keys.insert(&*stored.element.key);
        found.push(stored);
        if keys.len() > MAX_SELECTED {
            break;
        }
    }
}

/// How many elements of a member's topic were removed before they were sent.
fn count_removed(
    collection: CollectionId,
    members: &[CollectingMember<'_>],
    source: &CollectingMember<'_>,
    seen: u64,
) -> u64 {
    let removed = source.store.removed_since(seen.max(source.joined));
    let removed = removed.filter(|removed| removed.collection == collection && source.passes(&removed.note));
    let is_shown = |removed: &&RemovedElement| {
        members.iter().any(|member| {
            removed.number > member.joined
                && member.pattern.matches(&removed.channel)
                && member.passes(&removed.note)
        })
    };
    removed.filter(is_shown).count() as u64
}

fn is_shown(
    stored: &StoredElement,
    collection: CollectionId,
    member: &CollectingMember<'_>,
    source: &CollectingMember<'_>,
) -> bool {
    let passes =
        |member: &CollectingMember<'_>| stored.current > member.since && member.passes(stored.element.note());
    stored.element.collection() == Some(collection) && passes(member) && passes(source)
}

/// Adds an element, or replaces an older one of its key at its place.
fn put<'m>(
    stored: &'m StoredElement,
    elements: &mut Vec<&'m StoredElement>,
    by_key: &mut HashMap<&'m str, usize>,
) {
    let key = &*stored.element.key;
    let known = if elements.len() < FEW {
        elements.iter().position(|known| *known.element.key == *key)
    } else {
        if by_key.is_empty() {
            by_key.extend(elements.iter().enumerate().map(|(at, known)| (&*known.element.key, at)));
        }
        by_key.get(key).copied()
    };
    match known.and_then(|at| elements.get_mut(at)) {
        Some(known) if stored.is_newer_than(known) => *known = stored,
        Some(_) => {}
        None => {
            if !by_key.is_empty() {
                by_key.insert(key, elements.len());
            }
            elements.push(stored);
        }
    }
}

/// Removes the oldest elements if there are too many. Returns how many.
fn leave_out_oldest(elements: &mut Vec<&StoredElement>) -> u64 {
    let size = |stored: &StoredElement| match &stored.element.form {
        ElementForm::Message(frame) => frame.len(),
        ElementForm::Json { json, .. } => json.len(),
    };
    let total: usize = elements.iter().map(|stored| size(stored)).sum();
    if elements.len() <= MAX_SELECTED && total <= MAX_SELECTED_BYTES {
        return 0;
    }
    let mut newest: Vec<(Instant, u64, usize)> =
        elements.iter().map(|stored| (stored.arrived, stored.number, size(stored))).collect();
    newest.sort_unstable_by(|one, other| other.cmp(one));
    let (mut kept, mut bytes) = (0, 0);
    for (.., size) in &newest {
        if kept > 0 && (kept == MAX_SELECTED || bytes + size > MAX_SELECTED_BYTES) {
            break;
        }
        (kept, bytes) = (kept + 1, bytes + size);
    }
    let Some((arrived, number, _)) = newest.get(kept - 1).copied() else { return 0 };
    let before = elements.len();
    elements.retain(|stored| (stored.arrived, stored.number) >= (arrived, number));
    (before - elements.len()) as u64
}

#[cfg(test)]
mod tests;
