//! `Slots`: limits how many guards each key has at a time, such as the connections of a user.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock to take or release a slot, and none without a limit; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;

use crate::config::limits::UserLimitPolicy;
use crate::node::replacement_flag::ReplacementFlag;

/// The number of locks that the keys are spread over, so that threads seldom contend.
const STRIPES: u64 = 64;

/// The taken slots of each key, the oldest first.
#[derive(Debug)]
pub struct Slots<K> {
    limit: AtomicUsize,
    policy: UserLimitPolicy,
    stripes: Vec<Mutex<Stripe<K>>>,
    hasher: RandomState,
}

/// One slot of a key. It is released when this is dropped, or when another slot replaces it.
#[derive(Debug)]
pub struct Slot<K: Eq + Hash>(Arc<TakenSlot<K>>);

/// The key has no free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoFreeSlot {
    /// The number of slots for each key.
    pub limit: usize,
}

#[derive(Debug)]
struct Stripe<K>(HashMap<K, VecDeque<Arc<TakenSlot<K>>>>);

#[derive(Debug)]
struct TakenSlot<K> {
    slots: Arc<Slots<K>>,
    key: K,
    replaced: ReplacementFlag,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    /// `limit` slots for each key, 0 for no limit. `policy` decides what happens when one more is requested.
    pub fn new(limit: usize, policy: UserLimitPolicy) -> Self {
        let stripes = if limit == 0 { 0 } else { STRIPES };
        let stripes = (0..stripes).map(|_| Mutex::new(Stripe(HashMap::new()))).collect();
        Self { limit: AtomicUsize::new(limit), policy, stripes, hasher: RandomState::new() }
    }

    /// Changes the number of slots. Does nothing if there is no limit, before or after. A key that has more keeps them.
    pub fn change_limit(&self, limit: usize) {
        if limit > 0 && !self.stripes.is_empty() {
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// Takes a slot; `None` if there is no limit. With [`UserLimitPolicy::Replace`] it replaces the oldest slot if all
    /// are taken.
    pub fn acquire(self: &Arc<Self>, key: K) -> Result<Option<Slot<K>>, NoFreeSlot> {
        let Some(mut stripe) = self.stripe(&key) else {
            return Ok(None);
        };
        let taken = stripe.0.entry(key.clone()).or_default();
        let limit = self.limit.load(Ordering::Relaxed);
        let is_full = taken.len() >= limit;
        if is_full && self.policy == UserLimitPolicy::Reject {
            return Err(NoFreeSlot { limit });
        }
        let oldest = if is_full { taken.pop_front() } else { None };
        let replaced = ReplacementFlag::default();
        let slot = Arc::new(TakenSlot { slots: Arc::clone(self), key, replaced });
        taken.push_back(Arc::clone(&slot));
        drop(stripe);
        if let Some(oldest) = oldest {
            oldest.replaced.raise();
        }
        Ok(Some(Slot(slot)))
    }
}

impl<K: Eq + Hash> Slots<K> {
    /// Whether there is a limit. Without one, slots are not counted.
    pub(super) fn is_limited(&self) -> bool {
        !self.stripes.is_empty()
    }

    /// The number of keys with a taken slot.
    pub(super) fn keys(&self) -> usize {
        let lock = |stripe: &Mutex<Stripe<K>>| stripe.lock().unwrap_or_else(PoisonError::into_inner).0.len();
        self.stripes.iter().map(lock).sum()
    }

    fn release(&self, slot: &Arc<TakenSlot<K>>) {
        let Some(mut stripe) = self.stripe(&slot.key) else {
            return;
        };
        if let Some(taken) = stripe.0.get_mut(&slot.key) {
            taken.retain(|other| !Arc::ptr_eq(other, slot));
            if taken.is_empty() {
                stripe.0.remove(&slot.key);
            }
        }
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn stripe(&self, key: &K) -> Option<MutexGuard<'_, Stripe<K>>> {
        let place = usize::try_from(self.hasher.hash_one(key) % STRIPES).unwrap_or_default();
        self.stripes.get(place).map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq + Hash> Slot<K> {
    /// Whether another slot of the key has replaced this one. If not, the task of `context` is woken when one does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> bool {
        self.0.replaced.poll(context)
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        self.0.slots.release(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn each_key_has_its_own_slots() {
        let slots = Arc::new(Slots::new(2, UserLimitPolicy::Reject));
        let addresses = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let held: Vec<_> =
            addresses.iter().flat_map(|address| [(); 2].map(|()| slots.acquire(*address).unwrap())).collect();
        for address in addresses {
            assert_eq!(slots.acquire(address).unwrap_err(), NoFreeSlot { limit: 2 });
        }
        assert_eq!(slots.keys(), 2);
        drop(held);
        assert_eq!(slots.keys(), 0, "keys without a slot are forgotten");
        assert!(slots.acquire(addresses[0]).unwrap().is_some());
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_hold() {
        let slots = Arc::new(Slots::new(0, UserLimitPolicy::Replace));
        assert!((0..3).all(|_| slots.acquire("key").unwrap().is_none()));
        assert_eq!(slots.keys(), 0);
    }
}
