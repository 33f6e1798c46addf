//! `Users`: how many sockets each user has on this node, so that one user cannot fill it alone. Anonymous clients
//! are not counted here.

use std::sync::Arc;

use thiserror::Error;
use tidegate_protocol::identity::Identity;

use crate::config::limits::UserLimitPolicy;
use crate::node::slots::Slot;
use crate::node::slots::Slots;

/// The sockets of each user that has any.
#[derive(Debug)]
pub struct Users(Arc<Slots<UserKey>>);

/// A user. A name means somebody else with each issuer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UserKey {
    issuer: Option<Arc<str>>,
    user: Arc<str>,
}

/// A user has as many sockets as it may.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("this user has {limit} connections to this node, as many as one may have: close one of them")]
pub struct TooManySockets {
    limit: usize,
}

impl Users {
    /// A node without sockets; 0 for no limit.
    pub fn new(limit: usize, surplus: UserLimitPolicy) -> Self {
        Self(Arc::new(Slots::new(limit, surplus)))
    }

    /// Counts one more socket of somebody; `None` if no one counts.
    pub fn seat(&self, identity: &Identity) -> Result<Option<Slot<UserKey>>, TooManySockets> {
        if identity.anonymous {
            return Ok(None);
        }
        let key = UserKey { issuer: identity.issuer.clone(), user: Arc::clone(&identity.user) };
        self.0.acquire(key).map_err(|full| TooManySockets { limit: full.limit })
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

    fn users(limit: usize) -> Users {
        Users::new(limit, UserLimitPolicy::Reject)
    }

    /// How many users are remembered.
    fn known(users: &Users) -> usize {
        users.0.keys()
    }

    #[test]
    fn a_user_has_so_many_seats_and_each_is_free_again_when_it_is_left() {
        let users = users(2);
        let (alice, bob) = (identity(None, "alice"), identity(None, "bob"));
        let one = users.seat(&alice).unwrap().unwrap();
        let two = users.seat(&alice).unwrap().unwrap();
        assert_eq!(users.seat(&alice).unwrap_err(), TooManySockets { limit: 2 });
        assert!(users.seat(&bob).unwrap().is_some());
        assert!(users.seat(&identity(Some("https://issuer"), "alice")).unwrap().is_some(), "somebody else");
        assert_eq!(known(&users), 1, "who has left is forgotten");
        drop(one);
        let _three = users.seat(&alice).unwrap().unwrap();
        assert!(users.seat(&alice).is_err());
        drop(two);
        assert!(users.seat(&alice).is_ok());
    }

    #[test]
    fn with_replace_the_oldest_of_the_user_goes_and_is_woken() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let users = Users::new(2, UserLimitPolicy::Replace);
        let alice = identity(None, "alice");
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let is_replaced = |seat: &Slot<UserKey>| seat.poll_replaced(&Context::from_waker(&waker));
        let [one, two] = [(); 2].map(|()| users.seat(&alice).unwrap().unwrap());
        let bob = users.seat(&identity(None, "bob")).unwrap().unwrap();
        assert!(!is_replaced(&one) && !is_replaced(&two));
        let three = users.seat(&alice).unwrap().unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(is_replaced(&one) && !is_replaced(&two) && !is_replaced(&three) && !is_replaced(&bob));
        // It is not counted any more, and so makes no room when it goes.
        drop(one);
        let _four = users.seat(&alice).unwrap().unwrap();
        assert!(is_replaced(&two) && !is_replaced(&three));
        drop((two, three, bob, _four));
        assert_eq!(known(&users), 0);
    }

    #[test]
    fn nobody_is_not_counted_and_without_a_limit_nobody_at_all() {
        let limited = users(1);
        let nobody = Identity { anonymous: true, ..identity(None, "alice") };
        for _ in 0..3 {
            assert!(limited.seat(&nobody).unwrap().is_none());
        }
        assert!(limited.seat(&identity(None, "alice")).unwrap().is_some());
        let unlimited = users(0);
        for _ in 0..3 {
            assert!(unlimited.seat(&identity(None, "alice")).unwrap().is_none());
        }
        assert_eq!((known(&limited), known(&unlimited)), (0, 0));
    }

    #[test]
    fn threads_together_get_no_more_than_there_is_and_leave_nothing() {
        let users = users(100);
        let seats: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(|| {
                    let seats = (0..400).filter_map(|number| {
                        users.seat(&identity(None, if number % 2 == 0 { "alice" } else { "bob" })).ok()
                    });
                    seats.collect::<Vec<_>>()
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(seats.len(), 200);
        drop(seats);
        assert_eq!(known(&users), 0);
    }

    #[test]
    fn a_seat_is_a_word_for_each_connection() {
        assert_eq!(size_of::<Option<Slot<UserKey>>>(), size_of::<usize>());
    }
}
