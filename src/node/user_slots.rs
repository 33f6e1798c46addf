//! `UserSlots`: limits the connections of each user on this node, so that one user cannot take them all. Anonymous
//! clients are not counted.

use std::sync::Arc;

use thiserror::Error;
use tidegate_protocol::identity::Identity;

use crate::config::limits::UserLimitPolicy;
use crate::node::slots::Slot;
use crate::node::slots::Slots;

/// The connection slots of all users.
#[derive(Debug)]
pub struct UserSlots(Arc<Slots<UserKey>>);

/// A user. The same name with another issuer is another user.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UserKey {
    issuer: Option<Arc<str>>,
    user: Arc<str>,
}

/// The user has reached its limit of connections.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("this user has as many connections to this node as allowed ({limit}): close one of them")]
pub struct TooManyConnections {
    limit: usize,
}

impl UserSlots {
    /// `limit` connections for each user; 0 for no limit.
    pub fn new(limit: usize, policy: UserLimitPolicy) -> Self {
        Self(Arc::new(Slots::new(limit, policy)))
    }

    /// Changes the limit. Does nothing if there is none, before or after.
    pub fn change_limit(&self, limit: usize) {
        self.0.change_limit(limit);
    }

    /// The number of users with a slot; `None` if there is no limit, because then they are not counted.
    pub fn users(&self) -> Option<usize> {
        self.0.is_limited().then(|| self.0.keys())
    }

    /// Takes a slot of the user; `None` for anonymous clients, and if there is no limit.
    pub fn acquire(&self, identity: &Identity) -> Result<Option<Slot<UserKey>>, TooManyConnections> {
        if identity.anonymous {
            return Ok(None);
        }
        let key = UserKey { issuer: identity.issuer.clone(), user: Arc::clone(&identity.user) };
        self.0.acquire(key).map_err(|full| TooManyConnections { limit: full.limit })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use std::task::Context;
    use std::task::Waker;

    use super::*;

    fn identity(issuer: Option<&str>, user: &str) -> Identity {
        Identity { user: user.into(), issuer: issuer.map(Arc::from), ..Identity::default() }
    }

    fn users(limit: usize) -> UserSlots {
        UserSlots::new(limit, UserLimitPolicy::Reject)
    }

    /// The number of users with a slot.
    fn known(users: &UserSlots) -> usize {
        users.0.keys()
    }

    #[test]
    fn a_user_has_a_limited_number_of_slots_and_a_dropped_slot_is_free_again() {
        let users = users(2);
        let (alice, bob) = (identity(None, "alice"), identity(None, "bob"));
        let one = users.acquire(&alice).unwrap().unwrap();
        let two = users.acquire(&alice).unwrap().unwrap();
        assert_eq!(users.acquire(&alice).unwrap_err(), TooManyConnections { limit: 2 });
        assert!(users.acquire(&bob).unwrap().is_some());
        assert!(
            users.acquire(&identity(Some("https://issuer"), "alice")).unwrap().is_some(),
            "somebody else"
        );
        assert_eq!(known(&users), 1, "who has left is forgotten");
        drop(one);
        let _three = users.acquire(&alice).unwrap().unwrap();
        assert!(users.acquire(&alice).is_err());
        drop(two);
        assert!(users.acquire(&alice).is_ok());
    }

    #[test]
    fn replace_wakes_the_oldest_slot_of_the_user() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let users = UserSlots::new(2, UserLimitPolicy::Replace);
        let alice = identity(None, "alice");
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let is_replaced = |slot: &Slot<UserKey>| slot.poll_replaced(&Context::from_waker(&waker));
        let [one, two] = [(); 2].map(|()| users.acquire(&alice).unwrap().unwrap());
        let bob = users.acquire(&identity(None, "bob")).unwrap().unwrap();
        assert!(!is_replaced(&one) && !is_replaced(&two));
        let three = users.acquire(&alice).unwrap().unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(is_replaced(&one) && !is_replaced(&two) && !is_replaced(&three) && !is_replaced(&bob));
        // A replaced slot does not count any more, so dropping it frees none.
        drop(one);
        let _four = users.acquire(&alice).unwrap().unwrap();
        assert!(is_replaced(&two) && !is_replaced(&three));
        drop((two, three, bob, _four));
        assert_eq!(known(&users), 0);
    }

    #[test]
    fn anonymous_clients_are_not_counted_and_without_a_limit_no_one_is() {
        let limited = users(1);
        let nobody = Identity { anonymous: true, ..identity(None, "alice") };
        for _ in 0..3 {
            assert!(limited.acquire(&nobody).unwrap().is_none());
        }
        assert!(limited.acquire(&identity(None, "alice")).unwrap().is_some());
        let unlimited = users(0);
        for _ in 0..3 {
            assert!(unlimited.acquire(&identity(None, "alice")).unwrap().is_none());
        }
        assert_eq!((known(&limited), known(&unlimited)), (0, 0));
    }

    #[test]
    fn threads_together_get_no_more_than_the_limit_and_release_all() {
        let users = users(100);
        let slots: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(|| {
                    let slots = (0..400).filter_map(|number| {
                        users.acquire(&identity(None, if number % 2 == 0 { "alice" } else { "bob" })).ok()
                    });
                    slots.collect::<Vec<_>>()
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(slots.len(), 200);
        drop(slots);
        assert_eq!(known(&users), 0);
    }

    #[test]
    fn a_slot_is_one_word_for_each_connection() {
        assert_eq!(size_of::<Option<Slot<UserKey>>>(), size_of::<usize>());
    }
}
