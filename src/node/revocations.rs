//! `Revocations`: the revocations that all threads of the node check credentials against.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for each credential, and only while there are revocations; nothing is awaited under it"
)]

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;

use crate::auth::error::AuthError;
use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::table::RevocationEffect;
use crate::auth::revocation::table::RevocationTable;
use crate::auth::revocation::target::RevocationTarget;

/// All revocations that the node knows.
#[derive(Debug, Default)]
pub struct Revocations {
    table: RwLock<RevocationTable>,
    /// Whether the table has any, so that without revocations no one takes the lock.
    has_some: AtomicBool,
}

impl Revocations {
    /// What the revocations mean for an identity now.
    pub fn check(&self, identity: &Identity, now: SystemTime) -> RevocationEffect {
        if !self.has_some.load(Ordering::Acquire) {
            return RevocationEffect::Unchanged;
        }
        self.table.read().unwrap_or_else(PoisonError::into_inner).check(identity, now)
    }

    /// The identity with what it may still do, or an error if it may not connect any more.
    pub fn apply(&self, identity: Arc<Identity>, now: SystemTime) -> Result<Arc<Identity>, AuthError> {
        match self.check(&identity, now) {
            RevocationEffect::Unchanged => Ok(identity),
            RevocationEffect::Narrowed(narrowed) => Ok(narrowed),
            RevocationEffect::Revoked if identity.has_token() && identity.issued.is_none() => {
                let newer = Identity { issued: Some(now), ..Identity::clone(&identity) };
                Err(match self.check(&newer, now) {
                    RevocationEffect::Revoked => AuthError::Revoked,
                    RevocationEffect::Narrowed(_) | RevocationEffect::Unchanged => {
                        AuthError::RevokedWithoutTime
                    }
                })
            }
            RevocationEffect::Revoked => Err(AuthError::Revoked),
        }
    }

    /// The rule of a target.
    pub fn get(&self, target: &RevocationTarget) -> Option<RevocationRule> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    /// Changes the table. From the return on, every credential is checked against the new one.
    pub fn change<T>(&self, change: impl FnOnce(&mut RevocationTable) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut table);
        self.has_some.store(!table.is_empty(), Ordering::Release);
        result
    }
}
