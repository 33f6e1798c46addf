//! `AddressLimiter`: limits the connections of each client address and the rate at which it opens them, for all shards
//! and listeners of the node together.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock when a connection starts or ends; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::session::limits::Rate;

use crate::node::address_key::AddressKey;
use crate::node::rate_buckets::RateBuckets;

/// The number of locks that the addresses are spread over, so that threads seldom contend.
const STRIPES: u64 = 64;
/// Unused capacity that a stripe may keep.
const SPARE: usize = 64;

/// The limits of one address.
#[derive(Clone, Copy, Debug)]
pub struct AddressLimits {
    /// The most connections; 0 for no limit.
    pub connections: u32,
    /// The rate of new connections; 0 per second for no limit.
    pub handshakes: Rate,
}

/// Why an address may not open a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressRefusal {
    /// It has this many connections, which is the limit.
    Connections(u32),
    /// It opens connections too fast. It may open the next one after this time.
    Handshakes(Duration),
}

/// The connections of all addresses.
#[derive(Debug)]
pub struct AddressLimiter {
    started: Instant,
    hasher: RandomState,
    handshakes: RateBuckets,
    connections: Arc<AddressConnections>,
}

/// Counts as one connection of an address until it is dropped. Small, because each connection may have one.
#[derive(Debug)]
pub struct AddressPermit {
    connections: Arc<AddressConnections>,
    address: u64,
}

/// The number of connections of each address that has any, by keyed hash. So the memory is bounded by the number of
/// connections.
#[derive(Debug)]
struct AddressConnections {
    /// 0: connections are not counted.
    limit: AtomicU32,
    stripes: Box<[Mutex<AddressStripe>]>,
}

#[derive(Debug, Default)]
struct AddressStripe(HashMap<u64, u32>);

impl AddressLimiter {
    pub fn new(limits: AddressLimits, now: Instant) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            started: now,
            hasher: RandomState::new(),
            handshakes: RateBuckets::new(limits.handshakes),
            connections: Arc::new(AddressConnections { limit: AtomicU32::new(limits.connections), stripes }),
        }
    }

    /// Changes the limits. Does nothing where there is no limit, before or after.
    pub fn change_limits(&self, limits: AddressLimits) {
        self.handshakes.change_rate(limits.handshakes);
        let limit = &self.connections.limit;
        if limit.load(Ordering::Relaxed) > 0 && limits.connections > 0 {
            limit.store(limits.connections, Ordering::Relaxed);
        }
    }

    /// Charges an address for opening a connection.
    pub fn charge_handshake(&self, address: IpAddr, now: Instant) -> Result<(), AddressRefusal> {
        let now = now.saturating_duration_since(self.started).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.handshakes.take(self.id(address), 1, now).map_err(AddressRefusal::Handshakes)
    }

    /// Counts one more connection of an address; `None` if there is no limit.
    pub fn acquire_connection(&self, address: IpAddr) -> Result<Option<AddressPermit>, AddressRefusal> {
        let connections = &self.connections;
        let limit = connections.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Ok(None);
        }
        let address = self.id(address);
        let mut stripe = connections.stripe(address);
        let count = stripe.0.entry(address).or_default();
        // An entry that was just made is below the limit, which is at least 1, so none without a connection remains.
        if *count >= limit {
            return Err(AddressRefusal::Connections(limit));
        }
        *count += 1;
        Ok(Some(AddressPermit { connections: Arc::clone(connections), address }))
    }

    /// The number of addresses with a connection.
    pub fn addresses(&self) -> usize {
        self.connections.stripes.iter().map(|stripe| lock(stripe).0.len()).sum()
    }

    fn id(&self, address: IpAddr) -> u64 {
        self.hasher.hash_one(AddressKey::of(address))
    }
}

impl AddressConnections {
    fn stripe(&self, address: u64) -> MutexGuard<'_, AddressStripe> {
        let place = usize::try_from(address % STRIPES).unwrap_or_default();
        lock(&self.stripes[place])
    }
}

/// A poisoned lock is used as it is: no code under it can panic halfway through a change.
fn lock(stripe: &Mutex<AddressStripe>) -> MutexGuard<'_, AddressStripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let AddressStripe(counts) = &mut *self.connections.stripe(self.address);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
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

    fn limiter(connections: u32, per_second: u32, burst: u32) -> (AddressLimiter, Instant) {
        let start = Instant::now();
        let limits = AddressLimits { connections, handshakes: Rate { per_second, burst } };
        (AddressLimiter::new(limits, start), start)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ex_01_an_address_has_the_limit_and_not_one_more_and_others_are_unaffected() {
        let (limiter, _) = limiter(3, 0, 1);
        let mut held: Vec<_> =
            (0..3).map(|_| limiter.acquire_connection(ip("192.0.2.1")).unwrap().unwrap()).collect();
        let refused = limiter.acquire_connection(ip("192.0.2.1")).unwrap_err();
        assert_eq!(refused, AddressRefusal::Connections(3));
        let mapped = limiter.acquire_connection(ip("::ffff:192.0.2.1"));
        assert!(mapped.is_err(), "an IPv4-mapped address is the same one");
        assert!(limiter.acquire_connection(ip("192.0.2.2")).is_ok());
        for host in 1..=3 {
            held.push(limiter.acquire_connection(ip(&format!("2001:db8::{host}"))).unwrap().unwrap());
        }
        assert!(limiter.acquire_connection(ip("2001:db8::4")).is_err(), "the /64 has the limit");
        assert!(limiter.acquire_connection(ip("2001:db8:0:1::4")).is_ok());
        assert_eq!(limiter.addresses(), 2);
        held.remove(0);
        held.push(limiter.acquire_connection(ip("192.0.2.1")).unwrap().unwrap());
        assert!(limiter.acquire_connection(ip("192.0.2.1")).is_err());
        drop(held);
        assert_eq!(limiter.addresses(), 0, "addresses without a connection are forgotten");
    }

    #[test]
    fn ex_01_threads_together_get_no_more_than_the_limit_and_release_all() {
        let (limiter, _) = limiter(100, 0, 1);
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(|| {
                    let permits = (0..400_u32).filter_map(|number| {
                        limiter.acquire_connection(std::net::Ipv4Addr::from(number % 2).into()).ok()?
                    });
                    permits.collect::<Vec<_>>()
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(held.len(), 200);
        drop(held);
        assert_eq!(limiter.addresses(), 0);
    }

    #[test]
    fn ex_05_an_address_has_its_burst_and_rate_and_others_their_own() {
        let (limiter, start) = limiter(0, 10, 30);
        let taken = |address: &str, now| {
            (0..100).filter(|_| limiter.charge_handshake(ip(address), now).is_ok()).count()
        };
        assert_eq!((taken("192.0.2.1", start), taken("2001:db8::1", start)), (30, 30));
        assert_eq!(taken("2001:db8::2", start), 0, "the same /64");
        assert_eq!(taken("192.0.2.2", start), 30);
        let refused = limiter.charge_handshake(ip("192.0.2.1"), start).unwrap_err();
        assert_eq!(refused, AddressRefusal::Handshakes(Duration::from_millis(100)));
        assert_eq!(taken("192.0.2.1", start + Duration::from_secs(1)), 10);
    }

    #[test]
    fn memory_shrinks_when_a_flood_of_addresses_is_over() {
        let (limiter, _) = limiter(1, 0, 1);
        let permits: Vec<_> = (0..100_000_u32)
            .map(|number| limiter.acquire_connection(std::net::Ipv4Addr::from(number).into()).unwrap())
            .collect();
        assert_eq!(limiter.addresses(), 100_000);
        drop(permits);
        let kept: usize = limiter.connections.stripes.iter().map(|stripe| lock(stripe).0.capacity()).sum();
        assert!(kept <= 64 * 2 * SPARE, "{kept}");
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let (limiter, start) = limiter(0, 0, 1);
        for _ in 0..1000 {
            assert!(limiter.acquire_connection(ip("192.0.2.1")).unwrap().is_none());
            assert!(limiter.charge_handshake(ip("192.0.2.1"), start).is_ok());
        }
        assert_eq!(limiter.addresses(), 0);
    }

    #[test]
    fn a_permit_is_two_words_for_each_connection() {
        assert_eq!(size_of::<Option<AddressPermit>>(), 2 * size_of::<usize>());
    }
}
