//! `RefusedRequests`: passes handshakes and calls that were refused to the shard that keeps them for operators. Each address
//! has a limit, so that none overwrites what has happened to the others. What is above it is only counted.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for a request above the limit of its address; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::subject::Pattern;
use tokio::sync::Notify;
use tokio::sync::mpsc;

use crate::auth::policy::Policy;
use crate::node::address_key::AddressKey;
use crate::node::rate_buckets::RateBuckets;
use crate::node::shared_counter::SharedCounter;

/// The most requests that wait for the shard. It takes them at once.
const QUEUE: usize = 1024;

/// The requests of one address that are kept: so many at once, and then one a second.
const ADDRESS_RATE: Rate = Rate { per_second: 1, burst: 256 };

/// The addresses whose further requests are counted apart. Those of other addresses are counted together.
const MAX_OMITTED: usize = 1024;

/// A request, or a message in one, that was refused.
#[derive(Debug)]
pub struct RefusedRequest {
    pub at: Instant,
    /// The kind of request, or the operation, as in the log.
    pub operation: &'static str,
    /// The error code, and the more exact reason.
    pub code: &'static str,
    pub reason: &'static str,
    /// The configuration key of the limit that was exceeded.
    pub limit: Option<&'static str>,
    pub what: RefusedWhat,
}

/// What was refused.
#[derive(Debug)]
pub enum RefusedWhat {
    /// The whole request, before it was known who sends it.
    Request {
        /// The HTTP status.
        status: u16,
        /// The user that the credential names, whether it is valid or not.
        claimed_user: Option<String>,
        /// The policy of the endpoint.
        policy: Arc<Policy>,
    },
    /// An operation that this user may not do.
    Operation { user: Arc<str>, channel: Option<Pattern> },
}

/// Takes refused requests. If too many wait, further ones are lost, and counted.
#[derive(Debug)]
pub struct RefusedRequests {
    sender: mpsc::Sender<(Option<IpAddr>, RefusedRequest)>,
    started: Instant,
    hasher: RandomState,
    addresses: RateBuckets,
    /// What was left out since the shard last asked, by address.
    omitted_since: Mutex<HashMap<Option<AddressKey>, OmittedRequests>>,
    has_omitted: Notify,
    /// Requests that have found no room to wait.
    pub lost: SharedCounter,
    /// Requests above the limit of their address.
    pub omitted: SharedCounter,
}

/// Requests that were left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OmittedRequests {
    /// Where one of them came from. `None`: from different addresses, or over a Unix socket.
    pub address: Option<IpAddr>,
    pub count: u32,
}

/// The other end.
#[derive(Debug)]
pub struct RefusedRequestReceiver(mpsc::Receiver<(Option<IpAddr>, RefusedRequest)>);

impl RefusedRequests {
    pub fn new() -> (Self, RefusedRequestReceiver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let requests = Self {
            sender,
            started: Instant::now(),
            hasher: RandomState::new(),
            addresses: RateBuckets::new(ADDRESS_RATE),
            omitted_since: Mutex::default(),
            has_omitted: Notify::new(),
            lost: SharedCounter::default(),
            omitted: SharedCounter::default(),
        };
        (requests, RefusedRequestReceiver(receiver))
    }

    /// Passes on what a client at this address was refused, unless the address has had too many: then `request` is not
    /// called. Never waits.
    pub fn note(&self, address: Option<IpAddr>, request: impl FnOnce() -> RefusedRequest) {
        if !self.has_room(address, Instant::now()) {
            self.omit(address);
        } else if self.sender.try_send((address, request())).is_err() {
            self.lost.count();
        }
    }

    /// Waits until requests are left out that [`RefusedRequests::take_omitted`] has not returned.
    pub async fn omits(&self) {
        self.has_omitted.notified().await;
    }

    /// What was left out since the last call.
    pub fn take_omitted(&self) -> Vec<OmittedRequests> {
        let omitted = std::mem::take(&mut *self.omitted_since());
        omitted.into_values().collect()
    }

    fn has_room(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let id = self.hasher.hash_one(address.map(AddressKey::of));
        let nanos = now.saturating_duration_since(self.started).as_nanos();
        self.addresses.take(id, 1, u64::try_from(nanos).unwrap_or(u64::MAX)).is_ok()
    }

    fn omit(&self, address: Option<IpAddr>) {
        self.omitted.count();
        let (mut omitted, mut address) = (self.omitted_since(), address);
        let key = |address: Option<IpAddr>| address.map(AddressKey::of);
        if omitted.len() >= MAX_OMITTED && !omitted.contains_key(&key(address)) {
            address = None;
        }
        if omitted.is_empty() {
            self.has_omitted.notify_one();
        }
        omitted.entry(key(address)).or_insert(OmittedRequests { address, count: 0 }).count += 1;
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn omitted_since(&self) -> MutexGuard<'_, HashMap<Option<AddressKey>, OmittedRequests>> {
        self.omitted_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusedRequestReceiver {
    /// The next one, and the address of its client. `None` once the node has ended.
    pub async fn next(&mut self) -> Option<(Option<IpAddr>, RefusedRequest)> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> RefusedRequest {
        let what = RefusedWhat::Operation { user: "alice".into(), channel: None };
        let (operation, code, reason) = ("publish", "forbidden", "denied");
        RefusedRequest { at: Instant::now(), operation, code, reason, limit: None, what }
    }

    #[test]
    fn log_02_an_address_has_a_limit_and_above_it_nothing_is_built() {
        let (requests, mut receiver) = RefusedRequests::new();
        let (flood, other) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        let mut built = 0;
        for _ in 0..10_000 {
            requests.note(flood, || {
                built += 1;
                refused()
            });
        }
        // One more for each second that this has taken.
        assert!((256..300).contains(&built), "{built}");
        requests.note(other, refused);
        let received: Vec<_> = std::iter::from_fn(|| receiver.0.try_recv().ok()).collect();
        assert_eq!((received.len(), received[built].0), (built + 1, other));
        let omitted = 10_000 - built as u64;
        assert_eq!((requests.omitted.get(), requests.lost.get()), (omitted, 0));
        let count = u32::try_from(omitted).unwrap();
        assert_eq!(requests.take_omitted(), [OmittedRequests { address: flood, count }]);
        assert!(requests.take_omitted().is_empty());
    }

    #[test]
    fn log_02_what_is_counted_by_address_is_bounded() {
        let (requests, _receiver) = RefusedRequests::new();
        for number in 0..10 * MAX_OMITTED as u32 {
            requests.omit(Some(IpAddr::V4(number.into())));
        }
        let omitted = requests.take_omitted();
        assert_eq!(omitted.len(), MAX_OMITTED + 1);
        let others = omitted.iter().find(|omitted| omitted.address.is_none()).unwrap();
        assert_eq!(others.count, 9 * MAX_OMITTED as u32);
    }
}
