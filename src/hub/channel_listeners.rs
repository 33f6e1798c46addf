//! `ChannelListeners`: counts the subscriptions of each channel whose class has `max_listeners`, on all shards of the node
//! together. Only joins and leaves of such channels touch it, never a publication.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for each join and leave of a limited channel; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tidegate_protocol::subject::Pattern;

/// Independent parts, so that shards rarely wait for each other.
const PARTS: u64 = 64;
/// Unused capacity that a part may keep.
const SPARE: usize = 64;

/// The number of subscriptions of each limited channel that has any.
#[derive(Debug)]
pub struct ChannelListeners {
    parts: Box<[Mutex<HashMap<Pattern, u32>>]>,
    hasher: RandomState,
}

impl Default for ChannelListeners {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, hasher: RandomState::new() }
    }
}

impl ChannelListeners {
    /// Counts one more subscription of a channel, if it has fewer than `max`.
    pub fn try_join(&self, channel: &Pattern, max: u32) -> bool {
        let mut part = self.part(channel);
        match part.get_mut(channel) {
            Some(count) if *count >= max => return false,
            Some(count) => *count += 1,
            None => drop(part.insert(channel.clone(), 1)),
        }
        true
    }

    /// Counts one more subscription of a channel, even if it has as many as it may have.
    pub fn join(&self, channel: &Pattern) {
        self.try_join(channel, u32::MAX);
    }

    /// Counts one subscription less.
    pub fn leave(&self, channel: &Pattern) {
        let mut part = self.part(channel);
        let Some(count) = part.get_mut(channel) else { return };
        *count -= 1;
        if *count == 0 {
            part.remove(channel);
            if part.capacity() > SPARE + 4 * part.len() {
                part.shrink_to_fit();
            }
        }
    }

    /// The number of channels with a subscription that is counted.
    pub fn channels(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn part(&self, channel: &Pattern) -> MutexGuard<'_, HashMap<Pattern, u32>> {
        let at = usize::try_from(self.hasher.hash_one(channel.as_str()) % PARTS).unwrap_or_default();
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn ex_02_a_channel_has_the_limit_and_not_one_more_and_others_their_own() {
        let listeners = ChannelListeners::default();
        let (one, other) = (channel("room.1"), channel("room.2"));
        assert!((0..3).all(|_| listeners.try_join(&one, 3)));
        assert!(!listeners.try_join(&one, 3));
        assert!(listeners.try_join(&other, 3));
        listeners.leave(&one);
        assert!(listeners.try_join(&one, 3) && !listeners.try_join(&one, 3));
        listeners.join(&one);
        listeners.leave(&one);
        assert!(!listeners.try_join(&one, 3), "one above the limit has left");
        (0..3).for_each(|_| listeners.leave(&one));
        listeners.leave(&other);
        listeners.leave(&other);
        assert_eq!(listeners.channels(), 0, "a channel without listeners is forgotten");
    }

    #[test]
    fn ex_02_threads_together_get_no_more_than_the_limit() {
        let (listeners, room) = (&ChannelListeners::default(), &channel("room.1"));
        let joined: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(move || (0..400).filter(|_| listeners.try_join(room, 100)).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(joined, 100);
    }
}
