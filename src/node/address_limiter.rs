//! `AddressLimiter`: limits the connections of each client address and the rate at which it opens them, for all shards
//! and listeners of the node together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::session::limits::Rate;

use crate::node::address_key::AddressKey;
use crate::node::connection_counts::ConnectionCounts;
use crate::node::connection_counts::CountedConnection;
use crate::node::connection_counts::LimitReached;
use crate::node::rate_buckets::RateBuckets;

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
    connections: Arc<ConnectionCounts>,
}

impl AddressLimiter {
    pub fn new(limits: AddressLimits, now: Instant) -> Self {
        Self {
            started: now,
            hasher: RandomState::new(),
            handshakes: RateBuckets::new(limits.handshakes),
            connections: Arc::new(ConnectionCounts::new(limits.connections)),
        }
    }

    /// Changes the limits. Does nothing where there is no limit, before or after.
    pub fn change_limits(&self, limits: AddressLimits) {
        self.handshakes.change_rate(limits.handshakes);
        self.connections.change_limit(limits.connections);
    }

    /// Charges an address for opening a connection.
    pub fn charge_handshake(&self, address: IpAddr, now: Instant) -> Result<(), AddressRefusal> {
        let now = now.saturating_duration_since(self.started).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.handshakes.take(self.id(address), 1, now).map_err(AddressRefusal::Handshakes)
    }

    /// Counts one more connection of an address; `None` if there is no limit.
    pub fn acquire_connection(&self, address: IpAddr) -> Result<Option<CountedConnection>, AddressRefusal> {
        let counted = self.connections.acquire(AddressKey::of(address));
        counted.map_err(|LimitReached(limit)| AddressRefusal::Connections(limit))
    }

    /// The number of addresses with a connection.
    pub fn addresses(&self) -> usize {
        self.connections.keys()
    }

    fn id(&self, address: IpAddr) -> u64 {
        self.hasher.hash_one(AddressKey::of(address))
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
    fn without_limits_nothing_is_counted() {
        let (limiter, start) = limiter(0, 0, 1);
        for _ in 0..1000 {
            assert!(limiter.acquire_connection(ip("192.0.2.1")).unwrap().is_none());
            assert!(limiter.charge_handshake(ip("192.0.2.1"), start).is_ok());
        }
        assert_eq!(limiter.addresses(), 0);
    }
}
