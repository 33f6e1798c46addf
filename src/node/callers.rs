//! `Callers`: how many HTTP calls each identity and each address may make.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::limits::Rate;

/// Buckets of a row. A caller has one in each of two rows and is refused when both are empty, so that another caller
/// hardly ever has both of them in common with it: then nothing has to be kept for each caller, or forgotten.
const ROW: usize = 16 * 1024;
const ROWS: usize = 2;

/// How much may be called. 0 a second: no limit.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// By one identity.
    pub identity: Rate,
    /// From one address.
    pub address: Rate,
}

/// Who calls, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Whoever has shown a credential.
    Identity(u64),
    /// Whoever else comes from there.
    Address(u64),
}

impl Caller {
    /// Tells it from others.
    pub fn id(self) -> u64 {
        match self {
            Self::Identity(id) | Self::Address(id) => id,
        }
    }
}

/// What all callers have used up.
#[derive(Debug)]
pub struct Callers {
    begun: Instant,
    hasher: RandomState,
    identities: Buckets,
    addresses: Buckets,
}

impl Callers {
    /// No one has called yet.
    pub fn new(limits: CallLimits, now: Instant) -> Self {
        Self {
            begun: now,
            hasher: RandomState::new(),
            identities: Buckets::new(limits.identity),
            addresses: Buckets::new(limits.address),
        }
    }

    /// Whoever calls from there. A network of IPv6 that one customer has is one address.
    pub fn at(&self, address: IpAddr) -> Caller {
        let place = match address {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or_default(),
        };
        Caller::Address(self.hasher.hash_one((address.is_ipv4(), place)))
    }

    /// Whoever has shown a credential of this identity.
    pub fn named(&self, identity: &Identity) -> Caller {
        Caller::Identity(self.hasher.hash_one((&identity.issuer, &identity.user)))
    }

    /// Counts as much work as so many calls. If that is too much: after how long it is not.
    pub fn count(&self, caller: Caller, calls: u32, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX);
        let (buckets, id) = match caller {
            Caller::Identity(id) => (&self.identities, id),
            Caller::Address(id) => (&self.addresses, id),
        };
        buckets.take(id, calls, now)
    }
}

/// When each bucket will be full again, in nanoseconds (the generic cell rate algorithm).
#[derive(Debug)]
struct Buckets {
    rate: Rate,
    full_at: Box<[AtomicU64]>,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        let count = if rate.per_second == 0 { 0 } else { ROWS * ROW };
        Self { rate, full_at: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes `units`, or says after how long there are as many.
    fn take(&self, id: u64, units: u32, now: u64) -> Result<(), Duration> {
        if self.full_at.is_empty() {
            return Ok(());
        }
        let span = |units: u32| u64::from(units) * 1_000_000_000 / u64::from(self.rate.per_second.max(1));
        let (cost, room) = (span(units.min(self.rate.burst)), span(self.rate.burst));
        // The shorter one of both rows.
        let mut wait: Option<u64> = None;
        for row in 0..ROWS {
            let place = usize::try_from(id >> (32 * row)).unwrap_or_default() % ROW;
            let next = |full_at: u64| {
                let full_at = full_at.max(now).saturating_add(cost);
                (full_at - now <= room).then_some(full_at)
            };
            let bucket = &self.full_at[row * ROW + place];
            let missing = match bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
                Ok(_) => 0,
                Err(full_at) => (full_at.max(now) - now).saturating_add(cost).saturating_sub(room),
            };
            wait = Some(wait.map_or(missing, |other| other.min(missing)));
        }
        match wait {
            None | Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn callers(per_second: u32, burst: u32) -> (Callers, Instant) {
        let start = Instant::now();
        let rate = Rate { per_second, burst };
        (Callers::new(CallLimits { identity: rate, address: rate }, start), start)
    }

    fn named(user: &str, issuer: Option<&str>) -> Identity {
        Identity { user: user.into(), issuer: issuer.map(Arc::from), ..Identity::default() }
    }

    fn taken(callers: &Callers, caller: Caller, now: Instant) -> usize {
        (0..1000).filter(|_| callers.count(caller, 1, now).is_ok()).count()
    }

    #[test]
    fn each_caller_has_its_burst_and_its_rate_and_nobody_takes_from_another() {
        let (callers, start) = callers(10, 30);
        let (alice, bob) = (callers.named(&named("alice", None)), callers.named(&named("bob", None)));
        let other_alice = callers.named(&named("alice", Some("elsewhere")));
        let here = callers.at([192, 0, 2, 1].into());
        for caller in [alice, bob, other_alice, here] {
            assert_eq!(taken(&callers, caller, start), 30);
        }
        assert_eq!(taken(&callers, alice, start + Duration::from_secs(1)), 10);
        let refused = callers.count(alice, 15, start + Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused, Duration::from_millis(1500));
        assert!(
            callers.count(alice, 1_000_000, start + Duration::from_secs(60)).is_ok(),
            "never more than the burst"
        );
    }

    #[test]
    fn many_callers_of_whom_each_takes_all_it_may_refuse_nobody_else() {
        let (callers, start) = callers(1, 5);
        for number in 0..200 {
            taken(&callers, callers.named(&named(&format!("greedy-{number}"), None)), start);
        }
        let refused = (0..200).filter(|number| {
            let caller = callers.named(&named(&format!("modest-{number}"), None));
            callers.count(caller, 1, start).is_err()
        });
        // One of them has both buckets in common with others in three of a hundred runs, and five in none of a billion.
        assert!(refused.count() < 5);
    }

    #[test]
    fn a_network_that_one_customer_has_is_one_address() {
        let (callers, _) = callers(1, 1);
        let at = |text: &str| callers.at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_ne!(at("0.0.0.0"), at("::"));
    }

    #[test]
    fn without_a_rate_nobody_is_counted() {
        let (callers, start) = callers(0, 1);
        assert_eq!(taken(&callers, callers.at([192, 0, 2, 1].into()), start), 1000);
    }
}
