//! The subscriptions of a link, and which of them the server has confirmed. A server answers a `PING` after it has read
//! everything before it, so each `PONG` confirms what was subscribed before its `PING`.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::Write;

use tidegate_protocol::subject::Pattern;

use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;

/// All subscriptions, by `sid`. A `sid` is never reused, so a late message cannot reach another subscription.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTable {
    subscriptions: HashMap<u64, Subscription>,
    last_sid: u64,
    /// The `sid`s written since the last `PING`.
    unflushed: Vec<u64>,
    /// Whether something was published since the last `PING`.
    published: bool,
    /// The number of `PING`s so far, over all connections.
    pings_sent: u64,
    /// The `PING`s without a `PONG`, the oldest first.
    pending_pongs: VecDeque<PendingPong>,
}

/// What was written before a `PING`.
#[derive(Debug, Default)]
struct PendingPong {
    sids: Vec<u64>,
    /// Whether something was published, too.
    published: bool,
    /// Where to look first for the next denied subscription: the server reads and denies in this order.
    next: usize,
}

#[derive(Debug)]
struct Subscription {
    pattern: Pattern,
    state: SubscriptionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    /// The server has never confirmed it.
    New,
    /// The server confirmed it before, on this connection or an earlier one, and was sent `SUB` again.
    Renewing,
    /// The server has confirmed it.
    Open,
    /// The server confirmed it, and has revoked it since.
    Denied,
    /// The server rejected it, and the subscriber has been told.
    Failed,
}

impl SubscriptionTable {
    pub(super) fn add(&mut self, pattern: Pattern) -> u64 {
        self.last_sid += 1;
        self.subscriptions.insert(self.last_sid, Subscription { pattern, state: SubscriptionState::New });
        self.last_sid
    }

    /// Adds a subscription that the server has just rejected: the link retries it until the server accepts.
    pub(super) fn add_denied(&mut self, pattern: Pattern) -> u64 {
        self.last_sid += 1;
        self.subscriptions.insert(self.last_sid, Subscription { pattern, state: SubscriptionState::Denied });
        self.last_sid
    }

    /// Returns whether the subscription existed.
    pub(super) fn remove(&mut self, sid: u64) -> bool {
        if self.subscriptions.len() * 4 < self.subscriptions.capacity() {
            self.subscriptions.shrink_to(self.subscriptions.len() * 2);
        }
        self.subscriptions.remove(&sid).is_some()
    }

    pub(super) fn write_new(&mut self, sid: u64, out: &mut Vec<u8>) {
        if let Some(Subscription { pattern, .. }) = self.subscriptions.get(&sid) {
            write(out, sid, pattern);
            self.unflushed.push(sid);
        }
    }

    /// Writes `SUB` for all subscriptions, the oldest first.
    pub(super) fn write_all(&mut self, out: &mut Vec<u8>) {
        out.reserve(self.subscriptions.len() * 32);
        let is_wanted = |(_, it): &(&u64, &Subscription)| it.state != SubscriptionState::Failed;
        let mut sids: Vec<u64> = self.subscriptions.iter().filter(is_wanted).map(|(sid, _)| *sid).collect();
        sids.sort_unstable();
        self.write_each(&sids, out);
    }

    fn write_each(&mut self, sids: &[u64], out: &mut Vec<u8>) {
        for &sid in sids {
            self.write_new(sid, out);
        }
    }

    /// Writes `SUB` for the revoked subscriptions. Returns whether there are any.
    pub(super) fn write_denied(&mut self, out: &mut Vec<u8>) -> bool {
        let denied = self.subscriptions.iter_mut().filter(|(_, it)| it.state == SubscriptionState::Denied);
        let renew = |(sid, it): (&u64, &mut Subscription)| {
            it.state = SubscriptionState::Renewing;
            *sid
        };
        let mut sids: Vec<u64> = denied.map(renew).collect();
        sids.sort_unstable();
        self.write_each(&sids, out);
        !sids.is_empty()
    }

    /// Records a `PING`, and returns `true`, if something was written that needs one.
    pub(super) fn begin_flush(&mut self) -> bool {
        let is_due = self.published || !self.unflushed.is_empty();
        if is_due {
            self.ping_sent();
        }
        is_due
    }

    /// Records that a `PING` is written now.
    pub(super) fn ping_sent(&mut self) {
        self.pings_sent += 1;
        let (sids, published) = (std::mem::take(&mut self.unflushed), std::mem::take(&mut self.published));
        self.pending_pongs.push_back(PendingPong { sids, published, next: 0 });
    }

    /// The number of the last `PING` that was sent: the first of all has 1.
    pub(super) fn last_ping(&self) -> u64 {
        self.pings_sent
    }

    /// The number of the last `PING` that was answered, or whose connection has ended.
    pub(super) fn last_answered(&self) -> u64 {
        self.pings_sent - self.pending_pongs.len() as u64
    }

    /// Records that something is published. Returns the number of the `PING` that will follow it.
    pub(super) fn mark_published(&mut self) -> u64 {
        self.published = true;
        self.pings_sent + 1
    }

    /// The number of the `PING` that is answered next, if something was published before it.
    pub(super) fn published_before_next_pong(&self) -> Option<u64> {
        let pong = self.pending_pongs.front()?;
        pong.published.then(|| self.pings_sent + 1 - self.pending_pongs.len() as u64)
    }

    /// The server has answered the oldest `PING`.
    pub(super) fn on_pong(&mut self) -> Vec<Incoming> {
        let mut opened = Vec::new();
        for sid in self.pending_pongs.pop_front().unwrap_or_default().sids {
            if let Some(subscription) = self.subscriptions.get_mut(&sid)
                && matches!(subscription.state, SubscriptionState::New | SubscriptionState::Renewing)
            {
                subscription.state = SubscriptionState::Open;
                opened.push(Incoming::Opened(SubscriptionKey(sid)));
            }
        }
        opened
    }

    /// The server denied a subscription: one that was written before the oldest unanswered `PING`, or an older one that
    /// it revokes and whose `sid` it names.
    pub(super) fn on_denied(&mut self, subject: &str, sid: Option<u64>) -> Option<Incoming> {
        let is_it = |sid: &u64| {
            self.subscriptions.get(sid).is_some_and(|subscription| subscription.pattern.as_str() == subject)
        };
        let in_oldest = |PendingPong { sids, next, .. }: &mut PendingPong| {
            let mut order = (*next..sids.len()).chain(0..*next);
            let at = order.find(|at| is_it(&sids[*at]))?;
            *next = at + 1;
            Some(sids[at])
        };
        let named = sid.filter(is_it);
        let unconfirmed = || self.pending_pongs.front_mut().and_then(in_oldest);
        let found = named.or_else(unconfirmed).or_else(|| self.subscriptions.keys().copied().find(is_it));
        found.and_then(|sid| self.deny(sid, NatsError::Denied))
    }

    /// The server rejected something that was written before the oldest unanswered `PING`.
    pub(super) fn on_rejected(&mut self, message: &str) -> Vec<Incoming> {
        let unconfirmed = self.pending_pongs.front().map(|pong| pong.sids.clone()).unwrap_or_default();
        let refuse = |sid| self.deny(sid, NatsError::Refused(message.to_owned()));
        unconfirmed.into_iter().filter_map(refuse).collect()
    }

    /// The server has forgotten all subscriptions.
    pub(super) fn on_link_lost(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            match subscription.state {
                SubscriptionState::Renewing | SubscriptionState::Open | SubscriptionState::Denied => {
                    subscription.state = SubscriptionState::Renewing
                }
                SubscriptionState::New | SubscriptionState::Failed => {}
            }
        }
        self.unflushed = Vec::new();
        self.published = false;
        self.pending_pongs = VecDeque::new();
    }

    fn deny(&mut self, sid: u64, error: NatsError) -> Option<Incoming> {
        let state = &mut self.subscriptions.get_mut(&sid)?.state;
        let (now, incoming) = match state {
            SubscriptionState::New => {
                (SubscriptionState::Failed, Some(Incoming::Failed(SubscriptionKey(sid), error)))
            }
            SubscriptionState::Open => {
                (SubscriptionState::Denied, Some(Incoming::Interrupted(SubscriptionKey(sid))))
            }
            SubscriptionState::Renewing | SubscriptionState::Denied => (SubscriptionState::Denied, None),
            SubscriptionState::Failed => (SubscriptionState::Failed, None),
        };
        *state = now;
        incoming
    }
}

fn write(out: &mut Vec<u8>, sid: u64, pattern: &Pattern) {
    // Writing to a `Vec` never fails.
    let _ = write!(out, "SUB {} {sid}\r\n", pattern.as_str());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_costs_less_than_a_hundred_bytes() {
        let mut table = SubscriptionTable::default();
        for number in 0..50_000 {
            table.add(Pattern::parse(&format!("user.{number}")).unwrap());
        }
        let each = size_of::<(u64, Subscription)>() + 1;
        assert!(table.subscriptions.capacity() * each < 100 * 50_000, "the pattern is shared with its feed");
        (1..=50_000).for_each(|sid| assert!(table.remove(sid)));
        assert!(table.subscriptions.capacity() < 1000, "room is given back");
    }
}
