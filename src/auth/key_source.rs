//! `KeySource`: the published keys of one issuer. One task fetches them; handshakes read them, and wait for a fetch if a
//! token has an unknown key.
//!
//! The last good set stays in use for as long as the issuer cannot be reached. Tokens with unknown keys cannot make the
//! node fetch more often than once per `auth.jwks_min_refetch_s`, however many there are.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::watch;

use crate::auth::keys::ClaimRules;
use crate::auth::keys::VerificationKeys;
use crate::config::auth::remote_keys::RemoteKeysConfig;

/// The most time that one fetch may take, the discovery included.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client waits for a fetch: a little longer than the fetch may take.
const WAIT: Duration = Duration::from_secs(6);

/// The most clients of one issuer that wait for a fetch. More are told to come back.
const MAX_WAITING: usize = 1024;

/// The pause after the first failed fetch. It doubles with each further one, up to [`KeySourceSettings::min_refetch`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Whose keys to fetch, from where, and how often. Two sources with equal settings are interchangeable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySourceSettings {
    pub remote: RemoteKeysConfig,
    pub rules: ClaimRules,
    /// The time between two fetches.
    pub refresh: Duration,
    /// The shortest time between two fetches because of an unknown key.
    pub min_refetch: Duration,
}

impl KeySourceSettings {
    /// Whether both read the same keys, perhaps at other times.
    pub fn reads_same_keys_as(&self, other: &Self) -> bool {
        self.remote == other.remote && self.rules == other.rules
    }
}

/// The published keys of one issuer.
#[derive(Debug)]
pub struct KeySource {
    pub settings: KeySourceSettings,
    state: watch::Sender<FetchState>,
    wanted: Notify,
    waiting: Arc<Semaphore>,
}

/// What is known about the keys of an issuer.
#[derive(Clone, Debug)]
pub struct FetchState {
    /// The last good set; `None` before the first.
    pub keys: Option<Arc<VerificationKeys>>,
    pub is_fetching: bool,
    /// From when on an unknown key causes a fetch.
    pub refetch_from: Instant,
    /// When the next fetch begins without any cause.
    pub next: Instant,
    /// The fetches that have ended, and those of them that failed.
    pub finished: u64,
    pub failures: u64,
    /// The failed fetches since the last good one.
    failures_in_a_row: u32,
    /// For how many ended fetches a client has asked for the next one. A wish from before the last one is stale.
    wanted_after: Option<u64>,
    /// Whether the fetch that is under way must be followed by another: it may have read an older set.
    must_repeat: bool,
}

impl KeySource {
    /// Starts with the `keys` that an earlier source has fetched. The first fetch counts as begun, so that clients that
    /// arrive early wait for it.
    pub fn new(settings: KeySourceSettings, keys: Option<Arc<VerificationKeys>>, now: Instant) -> Self {
        let state = FetchState {
            keys,
            is_fetching: true,
            must_repeat: false,
            refetch_from: now,
            next: now,
            finished: 0,
            failures: 0,
            failures_in_a_row: 0,
            wanted_after: None,
        };
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        Self { settings, state: watch::Sender::new(state), wanted: Notify::new(), waiting }
    }

    /// The state at this moment.
    pub fn state(&self) -> FetchState {
        self.state.borrow().clone()
    }

    /// The last good set.
    pub fn keys(&self) -> Option<Arc<VerificationKeys>> {
        self.state.borrow().keys.clone()
    }

    /// When to try again while there is no set yet, at least a second from now.
    pub fn retry_after(&self, now: Instant) -> Duration {
        let state = self.state.borrow();
        if state.is_fetching { FIRST_RETRY } else { (state.next - now).max(FIRST_RETRY) }
    }

    /// Waits for the fetch that is under way, or for a new one if the last one is long enough ago. Returns at once if
    /// neither is the case, or if too many clients wait already.
    pub async fn wait_for_fetch(&self, now: Instant) {
        let mut state = self.state.subscribe();
        let Some(_place) = self.waiting.try_acquire().ok() else { return };
        let FetchState { finished, is_fetching, refetch_from, keys, .. } = self.state();
        if !is_fetching {
            // Before the first set, failed fetches are repeated without any cause.
            if keys.is_none() || now < refetch_from {
                return;
            }
            self.state.send_if_modified(|state| {
                state.wanted_after = Some(finished);
                false
            });
            self.wanted.notify_one();
        }
        let is_done = state.wait_for(|state| state.finished > finished);
        // Either way the caller looks at the set again.
        let _ = tokio::time::timeout(WAIT, is_done).await;
    }

    /// Fetches the keys as soon as possible, whatever has been fetched before.
    pub fn refresh(&self, now: Instant) {
        self.state.send_modify(|state| {
            state.next = now;
            state.must_repeat = state.is_fetching;
        });
        self.wanted.notify_one();
    }

    /// Waits until the next fetch is due, and marks it as begun.
    pub async fn next_fetch(&self) {
        loop {
            let FetchState { next, .. } = self.state();
            let is_wanted = tokio::select! {
                () = tokio::time::sleep_until(next.into()) => false,
                () = self.wanted.notified() => true,
            };
            if self.begin(is_wanted, Instant::now()) {
                return;
            }
        }
    }

    /// Marks a fetch as begun, unless it is too early.
    fn begin(&self, is_wanted: bool, now: Instant) -> bool {
        self.state.send_if_modified(|state| {
            let is_first = state.finished == 0;
            let is_wanted = is_wanted && state.wanted_after == Some(state.finished);
            let from = if is_wanted { state.refetch_from } else { state.next };
            if now < from && !is_first {
                return false;
            }
            state.is_fetching = true;
            state.refetch_from = now + self.settings.min_refetch;
            true
        })
    }

    /// Notes the result of a fetch: the new set, or `None` if it failed. Returns the set that it replaces.
    pub fn finish(&self, keys: Option<VerificationKeys>, now: Instant) -> Option<Arc<VerificationKeys>> {
        let mut earlier = None;
        self.state.send_modify(|state| {
            state.is_fetching = false;
            state.finished += 1;
            match keys {
                Some(keys) => {
                    earlier = state.keys.replace(Arc::new(keys));
                    state.failures_in_a_row = 0;
                    state.next = now + self.settings.refresh;
                }
                None => {
                    state.failures += 1;
                    let doubled = FIRST_RETRY.saturating_mul(1 << state.failures_in_a_row.min(16));
                    state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
                    let longest = self.settings.min_refetch.max(FIRST_RETRY).min(self.settings.refresh);
                    state.next = now + doubled.min(longest);
                }
            }
            if std::mem::take(&mut state.must_repeat) {
                state.next = now;
            }
        });
        earlier
    }
}

#[cfg(test)]
mod tests;
