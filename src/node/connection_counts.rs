//! `ConnectionCounts`: limits how many connections each key has at a time, such as a client address or the origin of a
//! page, for all shards and listeners of the node together.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock when a connection starts or ends; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// The number of locks that the keys are spread over, so that threads seldom contend.
const STRIPES: u64 = 64;
/// Unused capacity that a stripe may keep.
const SPARE: usize = 64;

/// The number of connections of each key that has any, by keyed hash. So the memory is bounded by the number of
/// connections.
#[derive(Debug)]
pub struct ConnectionCounts {
    hasher: RandomState,
    /// 0: connections are not counted.
    limit: AtomicU32,
    stripes: Box<[Mutex<KeyCounts>]>,
}

#[derive(Debug, Default)]
struct KeyCounts(HashMap<u64, u32>);

/// Counts as one connection of a key until it is dropped. Small, because each connection may have several.
#[derive(Debug)]
pub struct CountedConnection {
    counts: Arc<ConnectionCounts>,
    key: u64,
}

/// The key has as many connections as this limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitReached(pub u32);

impl ConnectionCounts {
    /// At most `limit` connections for each key; 0 for no limit.
    pub fn new(limit: u32) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), limit: AtomicU32::new(limit), stripes }
    }

    /// Changes the limit. Does nothing if there is none, before or after. Connections above it stay.
    pub fn change_limit(&self, limit: u32) {
        if self.limit.load(Ordering::Relaxed) > 0 && limit > 0 {
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// Counts one more connection of a key; `None` if there is no limit.
    pub fn acquire(self: &Arc<Self>, key: impl Hash) -> Result<Option<CountedConnection>, LimitReached> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Ok(None);
        }
        let key = self.hasher.hash_one(key);
        let mut stripe = self.stripe(key);
        let count = stripe.0.entry(key).or_default();
        // An entry that was just made is below the limit, which is at least 1, so none without a connection remains.
        if *count >= limit {
            return Err(LimitReached(limit));
        }
        *count += 1;
        Ok(Some(CountedConnection { counts: Arc::clone(self), key }))
    }

    /// The number of keys with a connection.
    pub fn keys(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).0.len()).sum()
    }

    fn stripe(&self, key: u64) -> MutexGuard<'_, KeyCounts> {
        let place = usize::try_from(key % STRIPES).unwrap_or_default();
        lock(&self.stripes[place])
    }
}

/// A poisoned lock is used as it is: no code under it can panic halfway through a change.
fn lock(stripe: &Mutex<KeyCounts>) -> MutexGuard<'_, KeyCounts> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let KeyCounts(counts) = &mut *self.counts.stripe(self.key);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
                if counts.capacity() > SPARE + 4 * counts.len() {
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ex_01_each_key_has_the_limit_and_not_one_more() {
        let counts = Arc::new(ConnectionCounts::new(2));
        let mut held: Vec<_> =
            ["a", "a", "b", "b"].into_iter().map(|key| counts.acquire(key).unwrap().unwrap()).collect();
        assert_eq!(counts.acquire("a").unwrap_err(), LimitReached(2));
        held.remove(0);
        held.push(counts.acquire("a").unwrap().unwrap());
        assert_eq!(counts.acquire("a").unwrap_err(), LimitReached(2));
        assert_eq!(counts.keys(), 2);
        drop(held);
        assert_eq!(counts.keys(), 0, "keys without a connection are forgotten");
    }

    #[test]
    fn memory_shrinks_when_a_flood_of_keys_is_over() {
        let counts = Arc::new(ConnectionCounts::new(1));
        let held: Vec<_> = (0..100_000).map(|key| counts.acquire(key).unwrap()).collect();
        assert_eq!(counts.keys(), 100_000);
        drop(held);
        let kept: usize = counts.stripes.iter().map(|stripe| lock(stripe).0.capacity()).sum();
        assert!(kept <= 64 * 2 * SPARE, "{kept}");
    }

    #[test]
    fn a_counted_connection_is_two_words() {
        assert_eq!(size_of::<Option<CountedConnection>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn the_limit_can_change_but_not_begin_or_end() {
        let (counts, unlimited) = (Arc::new(ConnectionCounts::new(1)), Arc::new(ConnectionCounts::new(0)));
        let first = counts.acquire("a").unwrap();
        counts.change_limit(2);
        let second = counts.acquire("a").unwrap();
        counts.change_limit(1);
        counts.change_limit(0);
        assert_eq!(counts.acquire("a").unwrap_err(), LimitReached(1));
        drop((first, second));
        unlimited.change_limit(1);
        assert!((0..3).all(|_| unlimited.acquire("a").unwrap().is_none()));
    }
}
