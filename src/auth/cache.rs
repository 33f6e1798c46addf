//! `TokenCache`: what tokens have shown when they were verified, so that the same token need not be verified again.
//!
//! It may forget whatever it likes, and never knows more than a verification would say: a token that has not begun, or was
//! revoked, is not found in it. Refusals are not kept, as whoever sends garbage would fill the cache with it; but for tokens
//! that were good and have ended: no one can make them up, and a client that comes back with one does so again.
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

/// Entries of a set. A token has its place in one set, so that finding it, and making room for it, is as much work as
/// looking at these, whatever the cache holds and whoever fills it.
const WAYS: usize = 8;

/// Represents a whole token, signature included: SHA-256. The token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenDigest {
    /// The digest of this token.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// What a verification has shown. Times are since 1970.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// Who holds it.
    pub identity: Arc<Identity>,
    /// From when on a verification accepts it, the leeway counted.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// Its `iat`.
    pub issued: Option<Duration>,
    /// Its `jti`, hashed by [`TokenCache::name`].
    pub name: Option<u64>,
}

/// Which tokens are not to be found any more.
///
/// The cache may forget more than that. A token that is forgotten is verified again, so whoever revokes tokens first
/// sees to it that they are refused then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation<'r> {
    /// The one with this `jti`.
    Token(&'r str),
    /// All of this `sub`.
    User(&'r str),
    /// All that were issued before this time since 1970, and those that do not say when they were.
    IssuedBefore(Duration),
    /// Each of them: keys, roles or rules have changed.
    All,
}

/// At most so many verified tokens, found by their digests.
pub struct TokenCache {
    sets: Box<[Mutex<Vec<CachedToken>>]>,
    ways: usize,
    /// Has random keys, so that no one can choose tokens that fall into one set.
    hasher: RandomState,
    revocations: AtomicU64,
}

/// The revocations that were known when a verification began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownToken(u64);

struct CachedToken {
    digest: TokenDigest,
    known: Remembered,
}

enum Remembered {
    Verified(VerifiedToken),
    /// Ended at this time, or before.
    Expired(Duration),
}

impl CachedToken {
    fn until(&self) -> Duration {
        match &self.known {
            Remembered::Verified(token) => token.until,
            Remembered::Expired(until) => *until,
        }
    }
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// It is good, and this one's.
    Identity(Arc<Identity>),
    /// It was good, and has ended.
    Expired,
}

impl TokenCache {
    /// Room for this many tokens, rounded down to whole sets. They take memory only when they come.
    pub fn new(entries: usize) -> Self {
        let sets = (entries / WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            ways: entries.min(WAYS),
            hasher: RandomState::new(),
            revocations: AtomicU64::new(0),
        }
    }

    /// What is known of this token at `now`, if anything.
    pub fn find(&self, digest: &TokenDigest, now: Duration) -> Option<CacheAnswer> {
        let mut set = self.set(digest);
        let at = set.iter().position(|entry| entry.digest == *digest)?;
        let found = match &set[at].known {
            known if now >= set[at].until() => {
                // An end is remembered in place of all that is not needed any more.
                if let Remembered::Verified(token) = known {
                    set[at].known = Remembered::Expired(token.until);
                }
                CacheAnswer::Expired
            }
            Remembered::Verified(token) if now >= token.from => {
                CacheAnswer::Identity(Arc::clone(&token.identity))
            }
            Remembered::Verified(_) | Remembered::Expired(_) => return None,
        };
        // The front is for those that were used last.
        set[..=at].rotate_right(1);
        Some(found)
    }

    /// What to hand to [`TokenCache::insert`]; to be asked before the verification begins.
    pub fn known(&self) -> KnownToken {
        KnownToken(self.revocations.load(Ordering::Acquire))
    }

    /// Keeps what a verification has shown, in place of a token that has ended or of the one used least lately. Not if
    /// anything was revoked since it began: it may be just this token.
    pub fn insert(&self, digest: TokenDigest, token: VerifiedToken, now: Duration, known: KnownToken) {
        if now < token.until {
            self.keep(CachedToken { digest, known: Remembered::Verified(token) }, now, known);
        }
    }

    /// Keeps that a token is good and has ended by `now`.
    pub fn insert_expired(&self, digest: TokenDigest, now: Duration, known: KnownToken) {
        self.keep(CachedToken { digest, known: Remembered::Expired(now) }, now, known);
    }

    fn keep(&self, entry: CachedToken, now: Duration, known: KnownToken) {
        let mut set = self.set(&entry.digest);
        if self.known() != known {
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

    /// Forgets tokens; gives back how many. This looks at all there are, and is for the node's operator to cause.
    pub fn revoke(&self, revocation: Revocation<'_>) -> usize {
        self.revocations.fetch_add(1, Ordering::AcqRel);
        let revoked = |token: &VerifiedToken| match revocation {
            Revocation::Token(jti) => token.name == Some(self.name(jti)),
            Revocation::User(user) => *token.identity.user == *user,
            Revocation::IssuedBefore(time) => token.issued.is_none_or(|issued| issued < time),
            Revocation::All => true,
        };
        let forget = |set: &Mutex<Vec<CachedToken>>| {
            let mut set = locked(set);
            let before = set.len();
            set.retain(|entry| match &entry.known {
                Remembered::Verified(token) => !revoked(token),
                Remembered::Expired(_) => revocation != Revocation::All,
            });
            set.shrink_to_fit();
            before - set.len()
        };
        self.sets.iter().map(forget).sum()
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| locked(set).len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A hash of a `jti`, which takes less room. If two are alike, one too many is forgotten.
    pub fn name(&self, jti: &str) -> u64 {
        self.hasher.hash_one(jti)
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

/// Nothing under the lock can panic half way through a change, so a poisoned one is as good as any.
fn locked(set: &Mutex<Vec<CachedToken>>) -> MutexGuard<'_, Vec<CachedToken>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
