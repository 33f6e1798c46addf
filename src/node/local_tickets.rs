//! `LocalTickets`: the tickets of a node without JetStream. They are valid on this node only.
#![expect(clippy::disallowed_types, reason = "one short lock for each ticket; nothing is awaited under it")]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use crate::auth::ticket::TicketId;

/// The most tickets, and the most bytes of all of them together.
const MAX_TICKETS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most tickets of one user, so that one user leaves room for the others.
const MAX_OF_USER: u32 = 100;

/// Sealed tickets by their ids. Their number and their bytes are limited.
#[derive(Debug, Default)]
pub(super) struct LocalTickets(Mutex<KeptTickets>);

#[derive(Debug, Default)]
struct KeptTickets {
    sealed: HashMap<TicketId, Vec<u8>>,
    bytes: usize,
    /// All of them, and those that were used, in the order in which they end, with the hash of their user.
    ends: VecDeque<(Instant, TicketId, u64)>,
    /// How many of `ends` each user has, by hash.
    by_user: HashMap<u64, u32>,
}

/// There is no room for another ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// Of any user.
    Node,
    /// Of this user.
    User,
}

impl LocalTickets {
    /// Keeps a ticket until `ends`. `user` is a hash of its user.
    pub(super) fn insert(
        &self,
        user: u64,
        id: TicketId,
        sealed: Vec<u8>,
        ends: Instant,
        now: Instant,
    ) -> Result<(), Full> {
        let kept = &mut *self.locked();
        kept.remove_ended(now);
        if kept.ends.len() >= MAX_TICKETS || kept.bytes + sealed.len() > MAX_BYTES {
            return Err(Full::Node);
        }
        let of_user = kept.by_user.entry(user).or_default();
        // An entry that was just made is below the limit, so none without a ticket remains.
        if *of_user >= MAX_OF_USER {
            return Err(Full::User);
        }
        *of_user += 1;
        kept.bytes += sealed.len();
        kept.sealed.insert(id, sealed);
        kept.ends.push_back((ends, id, user));
        Ok(())
    }

    /// Removes a ticket. `None` if it is not here, or not any more.
    pub(super) fn take(&self, id: &TicketId) -> Option<Vec<u8>> {
        self.locked().remove(id)
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn locked(&self) -> MutexGuard<'_, KeptTickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptTickets {
    fn remove(&mut self, id: &TicketId) -> Option<Vec<u8>> {
        let sealed = self.sealed.remove(id)?;
        self.bytes -= sealed.len();
        Some(sealed)
    }

    fn remove_ended(&mut self, now: Instant) {
        while let Some((ends, id, user)) = self.ends.front().copied()
            && ends <= now
        {
            self.ends.pop_front();
            self.remove(&id);
            if let Some(of_user) = self.by_user.get_mut(&user) {
                *of_user -= 1;
                if *of_user == 0 {
                    self.by_user.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::ticket::Ticket;

    fn id() -> TicketId {
        Ticket::random().unwrap().id()
    }

    #[test]
    fn tok_03_a_local_ticket_is_taken_once() {
        let (tickets, now, one) = (LocalTickets::default(), Instant::now(), id());
        tickets.insert(1, one, vec![1, 2], now + Duration::from_secs(30), now).unwrap();
        assert_eq!(tickets.take(&id()), None);
        assert_eq!(tickets.take(&one), Some(vec![1, 2]));
        assert_eq!(tickets.take(&one), None);
    }

    #[test]
    fn tok_03_local_tickets_are_limited_in_number_and_bytes_until_they_end() {
        let (tickets, now) = (LocalTickets::default(), Instant::now());
        let ends = now + Duration::from_secs(30);
        let last = id();
        for user in (1_u64..).take(MAX_TICKETS - 1) {
            tickets.insert(user, id(), Vec::new(), ends, now).unwrap();
        }
        assert_eq!(tickets.insert(0, last, Vec::new(), ends, now), Ok(()));
        assert_eq!(tickets.insert(0, id(), Vec::new(), ends, now), Err(Full::Node));
        assert_eq!(tickets.insert(0, id(), vec![0; MAX_BYTES], ends, ends), Ok(()), "the others have ended");
        assert_eq!(tickets.take(&last), None, "it has ended");
        assert_eq!(
            tickets.insert(0, id(), vec![0], ends + Duration::from_secs(30), ends - Duration::from_secs(1)),
            Err(Full::Node)
        );
        assert_eq!(tickets.insert(0, id(), Vec::new(), ends, now), Ok(()));
    }

    #[test]
    fn tok_03_one_user_leaves_room_for_others() {
        let (tickets, now) = (LocalTickets::default(), Instant::now());
        let ends = now + Duration::from_secs(30);
        for _ in 0..MAX_OF_USER {
            let used = id();
            tickets.insert(1, used, Vec::new(), ends, now).unwrap();
            tickets.take(&used).unwrap();
        }
        assert_eq!(tickets.insert(1, id(), Vec::new(), ends, now), Err(Full::User));
        assert_eq!(tickets.insert(2, id(), Vec::new(), ends, now), Ok(()));
        assert_eq!(tickets.insert(1, id(), Vec::new(), ends + Duration::from_secs(30), ends), Ok(()));
        assert_eq!(tickets.locked().by_user.len(), 1, "others are forgotten");
    }
}
