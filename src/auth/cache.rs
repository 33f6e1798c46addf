//! `TokenCache`: caches verified tokens, so that a token is not verified again on each reconnect.
//!
//! The cache may drop any entry, and it never gives another result than a verification would: a token that is not valid
//! yet, or was revoked, is not found. Rejections are not cached, because clients could fill the cache with garbage.
//! The exception is a valid token that has expired: no one can forge one, and clients that retry with one do so often.
#![expect(clippy::disallowed_types, reason = "one short lock for each connect; nothing is awaited under it")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest;
use tidegate_protocol::identity::Identity;

/// The number of entries in a set. Each token belongs to one set, so finding it and making room for it takes at most
/// this many comparisons, however full the cache is.
const WAYS: usize = 8;

/// The SHA-256 of a whole token, with its signature, and of the role that it has without a role claim. The token itself
/// is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenDigest {
    /// The same token may have another default role at another path.
    pub fn of(token: &str, default_role: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // With its length first, no role and token together look like another role and token.
        context.update(&u64::try_from(default_role.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(default_role.as_bytes());
        context.update(token.as_bytes());
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

/// The result of a verification. Times are since 1970.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    pub identity: Arc<Identity>,
    /// The start of its validity, with the leeway before it.
    pub from: Duration,
    /// The end of its validity, its `exp`.
    pub until: Duration,
}

/// Which tokens to remove from the cache, because keys or rules have changed. Revocations need not: what they leave of an
/// identity is computed at each use.
///
/// The cache may remove more. A removed token is verified again, so change the keys first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StaleTokens<'r> {
    /// All tokens with this `iss`: the issuer has removed a key.
    OfIssuer(&'r str),
    All,
}

/// A set-associative cache of verified tokens, by digest. Its size is fixed.
pub struct TokenCache {
    sets: Box<[Mutex<Vec<CachedToken>>]>,
    ways: usize,
    /// Has random keys, so that no one can choose tokens that belong to the same set.
    hasher: RandomState,
    removals: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How often tokens were in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
}

/// The number of calls of [`TokenCache::forget`] when a verification began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemovalCount(u64);

struct CachedToken {
    digest: TokenDigest,
    outcome: CachedOutcome,
}

enum CachedOutcome {
    Verified(VerifiedToken),
    /// Expired at this time, or earlier.
    Expired(Duration),
}

impl CachedToken {
    fn until(&self) -> Duration {
        match &self.outcome {
            CachedOutcome::Verified(token) => token.until,
            CachedOutcome::Expired(until) => *until,
        }
    }
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// The token is valid and has this identity.
    Identity(Arc<Identity>),
    /// The token was valid and has expired.
    Expired,
}

impl TokenCache {
    /// Room for this many tokens, rounded down to whole sets. Memory is allocated as tokens are inserted.
    pub fn new(entries: usize) -> Self {
        let sets = (entries / WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            ways: entries.min(WAYS),
            hasher: RandomState::new(),
            removals: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The result for this token at `now`; `None` if it must be verified.
    pub fn find(&self, digest: &TokenDigest, now: Duration) -> Option<CacheAnswer> {
        let found = self.find_uncounted(digest, now);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// How often [`TokenCache::find`] has found a token.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }

    fn find_uncounted(&self, digest: &TokenDigest, now: Duration) -> Option<CacheAnswer> {
        let mut set = self.set(digest);
        let at = set.iter().position(|entry| entry.digest == *digest)?;
        let found = match &set[at].outcome {
            outcome if now >= set[at].until() => {
                // Keep only the time of expiry, and drop the identity.
                if let CachedOutcome::Verified(token) = outcome {
                    set[at].outcome = CachedOutcome::Expired(token.until);
                }
                CacheAnswer::Expired
            }
            CachedOutcome::Verified(token) if now >= token.from => {
                CacheAnswer::Identity(Arc::clone(&token.identity))
            }
            CachedOutcome::Verified(_) | CachedOutcome::Expired(_) => return None,
        };
        // The most recently used entry is first.
        set[..=at].rotate_right(1);
        Some(found)
    }

    /// The argument for [`TokenCache::insert`]. Get it before the verification begins.
    pub fn removal_count(&self) -> RemovalCount {
        RemovalCount(self.removals.load(Ordering::Acquire))
    }

    /// Caches the result of a verification. It replaces expired tokens, or the least recently used one. Nothing is cached
    /// if tokens were removed after `removals`: this one may be stale too.
    pub fn insert(&self, digest: TokenDigest, token: VerifiedToken, now: Duration, removals: RemovalCount) {
        if now < token.until {
            self.keep(CachedToken { digest, outcome: CachedOutcome::Verified(token) }, now, removals);
        }
    }

    /// Caches that a valid token has expired by `now`.
    pub fn insert_expired(&self, digest: TokenDigest, now: Duration, removals: RemovalCount) {
        self.keep(CachedToken { digest, outcome: CachedOutcome::Expired(now) }, now, removals);
    }

    fn keep(&self, entry: CachedToken, now: Duration, removals: RemovalCount) {
        let mut set = self.set(&entry.digest);
        if self.removal_count() != removals {
            return;
        }
        // Two connections may have verified it at the same time.
        set.retain(|other| other.digest != entry.digest);
        if set.len() >= self.ways {
            set.retain(|other| now < other.until());
        }
        set.truncate(self.ways.saturating_sub(1));
        set.reserve_exact(1);
        set.insert(0, entry);
    }

    /// Removes tokens; returns how many. It scans the whole cache, so no client may trigger it.
    pub fn forget(&self, stale: StaleTokens<'_>) -> usize {
        self.removals.fetch_add(1, Ordering::AcqRel);
        let is_stale = |token: &VerifiedToken| match stale {
            StaleTokens::OfIssuer(issuer) => token.identity.issuer.as_deref() == Some(issuer),
            StaleTokens::All => true,
        };
        let forget = |set: &Mutex<Vec<CachedToken>>| {
            let mut set = locked(set);
            let before = set.len();
            set.retain(|entry| match &entry.outcome {
                CachedOutcome::Verified(token) => !is_stale(token),
                CachedOutcome::Expired(_) => stale != StaleTokens::All,
            });
            set.shrink_to_fit();
            before - set.len()
        };
        self.sets.iter().map(forget).sum()
    }

    /// The number of cached tokens.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| locked(set).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&self, digest: &TokenDigest) -> MutexGuard<'_, Vec<CachedToken>> {
        let count = u64::try_from(self.sets.len()).unwrap_or(u64::MAX);
        let place = self.hasher.hash_one(digest.0) % count;
        locked(&self.sets[usize::try_from(place).unwrap_or_default()])
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenCache").field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}

/// A poisoned lock is used as it is: no code under it can panic halfway through a change.
fn locked(set: &Mutex<Vec<CachedToken>>) -> MutexGuard<'_, Vec<CachedToken>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
