//! `CallLimiter`: limits the rate of HTTP calls of each identity and each address.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::limits::Rate;

use crate::auth::shares::Asker;
use crate::node::address_key::AddressKey;
use crate::node::rate_buckets::RateBuckets;
use crate::node::refusals::Refused;

/// The rates of HTTP calls; 0 per second for no limit.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Of one identity.
    pub identity: Rate,
    /// Of one address, for calls without a credential, and for all calls before their credential is checked.
    pub address: Rate,
}

/// The key that a call is counted for: a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The identity of the credential.
    Identity(u64),
    /// The client's address.
    Address(u64),
}

impl Caller {
    /// The hash alone.
    pub fn id(self) -> u64 {
        match self {
            Self::Identity(id) | Self::Address(id) => id,
        }
    }

    /// Whose questions to services those of the caller are.
    pub fn asker(self) -> Asker {
        match self {
            Self::Identity(id) => Asker::User(id),
            Self::Address(id) => Asker::Address(id),
        }
    }

    /// The limit of its calls.
    pub fn limit_of_calls(self) -> Refused {
        match self {
            Self::Identity(_) => Refused::Calls,
            Self::Address(_) => Refused::AddressCalls,
        }
    }
}

/// The buckets of all callers.
#[derive(Debug)]
pub struct CallLimiter {
    started: Instant,
    hasher: RandomState,
    identities: RateBuckets,
    addresses: RateBuckets,
}

impl CallLimiter {
    pub fn new(limits: CallLimits, now: Instant) -> Self {
        Self {
            started: now,
            hasher: RandomState::new(),
            identities: RateBuckets::new(limits.identity),
            addresses: RateBuckets::new(limits.address),
        }
    }

    /// Changes the rates. Does nothing where there is no limit, before or after.
    pub fn change_limits(&self, limits: CallLimits) {
        self.identities.change_rate(limits.identity);
        self.addresses.change_rate(limits.address);
    }

    /// The caller at this address. An IPv6 network of 64 bits counts as one address, since one customer has all of it.
    pub fn by_address(&self, address: IpAddr) -> Caller {
        Caller::Address(self.hasher.hash_one(AddressKey::of(address)))
    }

    /// The caller with a credential of this identity.
    pub fn by_identity(&self, identity: &Identity) -> Caller {
        Caller::Identity(self.hash_of(identity))
    }

    /// A hash of the user, which clients cannot predict.
    pub fn hash_of(&self, identity: &Identity) -> u64 {
        self.hasher.hash_one((&identity.issuer, &identity.user))
    }

    /// Charges the caller for this number of calls. If that exceeds its rate, the error is the time to wait. No calls
    /// exceed the rate only if the bucket is overdrawn.
    pub fn charge(&self, caller: Caller, calls: u32, now: Instant) -> Result<(), Duration> {
        let (buckets, id) = self.buckets_of(caller);
        buckets.take(id, calls, self.nanos(now))
    }

    /// Charges the caller for work that is known only after it was done: its next calls wait.
    pub fn overdraw(&self, caller: Caller, calls: u32, now: Instant) {
        let (buckets, id) = self.buckets_of(caller);
        buckets.overdraw(id, calls, self.nanos(now));
    }

    fn buckets_of(&self, caller: Caller) -> (&RateBuckets, u64) {
        match caller {
            Caller::Identity(id) => (&self.identities, id),
            Caller::Address(id) => (&self.addresses, id),
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn callers(per_second: u32, burst: u32) -> (CallLimiter, Instant) {
        let start = Instant::now();
        let rate = Rate { per_second, burst };
        (CallLimiter::new(CallLimits { identity: rate, address: rate }, start), start)
    }

    fn named(user: &str, issuer: Option<&str>) -> Identity {
        Identity { user: user.into(), issuer: issuer.map(Arc::from), ..Identity::default() }
    }

    fn taken(callers: &CallLimiter, caller: Caller, now: Instant) -> usize {
        (0..1000).filter(|_| callers.charge(caller, 1, now).is_ok()).count()
    }

    #[test]
    fn each_caller_has_its_own_burst_and_rate() {
        let (callers, start) = callers(10, 30);
        let (alice, bob) =
            (callers.by_identity(&named("alice", None)), callers.by_identity(&named("bob", None)));
        let other_alice = callers.by_identity(&named("alice", Some("elsewhere")));
        let here = callers.by_address([192, 0, 2, 1].into());
        for caller in [alice, bob, other_alice, here] {
            assert_eq!(taken(&callers, caller, start), 30);
        }
        assert_eq!(taken(&callers, alice, start + Duration::from_secs(1)), 10);
        let refused = callers.charge(alice, 15, start + Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused, Duration::from_millis(1500));
        assert!(
            callers.charge(alice, 1_000_000, start + Duration::from_secs(60)).is_ok(),
            "never more than the burst"
        );
    }

    #[test]
    fn work_that_is_charged_afterwards_delays_the_next_calls_of_its_caller_alone() {
        let (callers, start) = callers(10, 30);
        let (alice, bob) =
            (callers.by_address([192, 0, 2, 1].into()), callers.by_address([192, 0, 2, 2].into()));
        assert_eq!(callers.charge(alice, 0, start), Ok(()));
        callers.overdraw(alice, 400, start);
        assert_eq!(callers.charge(alice, 0, start), Err(Duration::from_secs(37)));
        assert_eq!(callers.charge(alice, 0, start + Duration::from_secs(37)), Ok(()));
        assert!(callers.charge(alice, 1, start + Duration::from_secs(37)).is_err());
        assert_eq!(taken(&callers, bob, start), 30);
    }

    #[test]
    fn many_callers_at_their_limit_hardly_affect_others() {
        let (callers, start) = callers(1, 5);
        for number in 0..200 {
            taken(&callers, callers.by_identity(&named(&format!("greedy-{number}"), None)), start);
        }
        let refused = (0..200).filter(|number| {
            let caller = callers.by_identity(&named(&format!("modest-{number}"), None));
            callers.charge(caller, 1, start).is_err()
        });
        // By chance one of them shares both buckets with others in 3 % of all runs; five do in less than one of a billion.
        assert!(refused.count() < 5);
    }

    #[test]
    fn without_a_rate_no_call_is_counted() {
        let (callers, start) = callers(0, 1);
        assert_eq!(taken(&callers, callers.by_address([192, 0, 2, 1].into()), start), 1000);
    }
}
