//! `Users`: how many sockets each user has on this node, so that one user cannot fill it alone. Those who are nobody are
//! not counted here.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock where a user comes or goes, and none without a limit; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Waker;

use thiserror::Error;

use crate::config::limits::Surplus;
use crate::protocol::identity::Identity;

/// How many locks share the users, so that threads seldom meet at one.
const STRIPES: u64 = 64;

/// The sockets of each user that has any, the oldest first.
#[derive(Debug)]
pub struct Users {
    limit: usize,
    surplus: Surplus,
    stripes: Vec<Mutex<HashMap<Who, VecDeque<Arc<Seat>>>>>,
    hasher: RandomState,
}

/// A name means somebody else with each issuer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Who {
    issuer: Option<Arc<str>>,
    user: Arc<str>,
}

/// One socket of a user, counted until this is dropped or another one has taken its place.
#[derive(Debug)]
pub struct UserSeat(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    users: Arc<Users>,
    who: Who,
    replaced: AtomicBool,
    /// Wakes whoever drives the socket, on whichever thread.
    waker: Mutex<Option<Waker>>,
}

/// A user has as many sockets as it may.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("this user has {limit} connections to this node, as many as one may have: close one of them")]
pub struct TooManySockets {
    limit: usize,
}

impl Users {
    /// A node without sockets; 0 for no limit.
    pub fn new(limit: usize, surplus: Surplus) -> Self {
        let stripes = if limit == 0 { 0 } else { STRIPES };
        let stripes = (0..stripes).map(|_| Mutex::default()).collect();
        Self { limit, surplus, stripes, hasher: RandomState::new() }
    }

    /// Counts one more socket of somebody; `None` if nobody counts.
    pub fn seat(self: &Arc<Self>, identity: &Identity) -> Result<Option<UserSeat>, TooManySockets> {
        if self.limit == 0 || identity.anonymous {
            return Ok(None);
        }
        let who = Who { issuer: identity.issuer.clone(), user: Arc::clone(&identity.user) };
        let Some(mut stripe) = self.stripe(&who) else {
            return Ok(None);
        };
        let sockets = stripe.entry(who.clone()).or_default();
        let is_full = sockets.len() >= self.limit;
        if is_full && self.surplus == Surplus::Reject {
            return Err(TooManySockets { limit: self.limit });
        }
        let oldest = if is_full { sockets.pop_front() } else { None };
        let (replaced, waker) = (AtomicBool::new(false), Mutex::default());
        let seat = Arc::new(Seat { users: Arc::clone(self), who, replaced, waker });
        sockets.push_back(Arc::clone(&seat));
        drop(stripe);
        if let Some(oldest) = oldest {
            oldest.replace();
        }
        Ok(Some(UserSeat(seat)))
    }

    fn leave(&self, seat: &Arc<Seat>) {
        let Some(mut stripe) = self.stripe(&seat.who) else {
            return;
        };
        if let Entry::Occupied(mut sockets) = stripe.entry(seat.who.clone()) {
            sockets.get_mut().retain(|other| !Arc::ptr_eq(other, seat));
            if sockets.get().is_empty() {
                sockets.remove();
            }
        }
    }

    /// Nothing under the lock can panic half way through a change, so a poisoned one is as good as any.
    fn stripe(&self, who: &Who) -> Option<MutexGuard<'_, HashMap<Who, VecDeque<Arc<Seat>>>>> {
        let place = usize::try_from(self.hasher.hash_one(who) % STRIPES).unwrap_or_default();
        self.stripes.get(place).map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl UserSeat {
    /// Whether another socket of the user has taken its place; if not, `context` is woken when one does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> bool {
        let mut waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        self.0.replaced.load(Ordering::Acquire)
    }
}

impl Seat {
    fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for UserSeat {
    fn drop(&mut self) {
        self.0.users.leave(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: Option<&str>, user: &str) -> Identity {
        Identity { user: user.into(), issuer: issuer.map(Arc::from), ..Identity::default() }
    }

    fn users(limit: usize) -> Arc<Users> {
        Arc::new(Users::new(limit, Surplus::Reject))
    }

    /// How many users are remembered.
    fn known(users: &Users) -> usize {
        users.stripes.iter().map(|stripe| stripe.lock().unwrap().len()).sum()
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
        let users = Arc::new(Users::new(2, Surplus::Replace));
        let alice = identity(None, "alice");
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let is_replaced = |seat: &UserSeat| seat.poll_replaced(&Context::from_waker(&waker));
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
        assert_eq!(size_of::<Option<UserSeat>>(), size_of::<usize>());
    }
}
