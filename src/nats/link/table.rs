//! Table: the subscriptions of a link, and which of them the server is known to know. It answers a `PING` when it has
//! read everything in front of it, so each `PONG` settles what was subscribed before its `PING`.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::Write;

use tidegate_protocol::subject::Pattern;

use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;

/// All subscriptions. A number is never used twice, so nothing that is still on its way goes to somebody else.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTable {
    subscriptions: HashMap<u64, Subscription>,
    made: u64,
    /// Those written since the last `PING`.
    fresh: Vec<u64>,
    /// Whether something was published since.
    published: bool,
    /// How many `PING`s there were, over all connections.
    begun: u64,
    /// For each `PING` without its `PONG`, the oldest first.
    rounds: VecDeque<Round>,
}

/// What was written in front of a `PING`.
#[derive(Debug, Default)]
struct Round {
    sids: Vec<u64>,
    /// Whether something was published too.
    published: bool,
    /// Where the next denial is looked for first: the server reads, and denies, in this order.
    next: usize,
}

#[derive(Debug)]
struct Subscription {
    pattern: Pattern,
    state: SubscriptionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    /// The server has never known it.
    New,
    /// The server has known it, over this link or another.
    Again,
    /// The server knows it.
    Open,
    /// The server has known it, and does not want it any more.
    Denied,
    /// The server does not want it, and whoever asked for it knows.
    Failed,
}

impl SubscriptionTable {
    pub(super) fn add(&mut self, pattern: Pattern) -> u64 {
        self.made += 1;
        self.subscriptions.insert(self.made, Subscription { pattern, state: SubscriptionState::New });
        self.made
    }

    /// One that the server is asked for again and again, until it wants it.
    pub(super) fn add_denied(&mut self, pattern: Pattern) -> u64 {
        self.made += 1;
        self.subscriptions.insert(self.made, Subscription { pattern, state: SubscriptionState::Denied });
        self.made
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, sid: u64) -> bool {
        if self.subscriptions.len() * 4 < self.subscriptions.capacity() {
            self.subscriptions.shrink_to(self.subscriptions.len() * 2);
        }
        self.subscriptions.remove(&sid).is_some()
    }

    /// Asks for one.
    pub(super) fn write_new(&mut self, sid: u64, out: &mut Vec<u8>) {
        if let Some(Subscription { pattern, .. }) = self.subscriptions.get(&sid) {
            write(out, sid, pattern);
            self.fresh.push(sid);
        }
    }

    /// Asks for all.
    pub(super) fn write_all(&mut self, out: &mut Vec<u8>) {
        out.reserve(self.subscriptions.len() * 32);
        for (&sid, Subscription { pattern, state }) in &self.subscriptions {
            if *state != SubscriptionState::Failed {
                write(out, sid, pattern);
                self.fresh.push(sid);
            }
        }
    }

    /// Asks for those that the server did not want. Whether there are any.
    pub(super) fn write_denied(&mut self, out: &mut Vec<u8>) -> bool {
        let denied = self.subscriptions.iter_mut().filter(|(_, it)| it.state == SubscriptionState::Denied);
        let before = self.fresh.len();
        for (&sid, subscription) in denied {
            subscription.state = SubscriptionState::Again;
            write(out, sid, &subscription.pattern);
            self.fresh.push(sid);
        }
        self.fresh.len() > before
    }

    /// Whether a `PING` is due for what was written.
    pub(super) fn close_round(&mut self) -> bool {
        let is_due = self.published || !self.fresh.is_empty();
        if is_due {
            self.add_round();
        }
        is_due
    }

    /// A `PING` goes out now.
    pub(super) fn add_round(&mut self) {
        self.begun += 1;
        let (sids, published) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.published));
        self.rounds.push_back(Round { sids, published, next: 0 });
    }

    /// Something is published. The number of the `PING` that goes out behind it.
    pub(super) fn publish(&mut self) -> u64 {
        self.published = true;
        self.begun + 1
    }

    /// The number of the `PING` that is answered next, if something was published in front of it.
    pub(super) fn published(&self) -> Option<u64> {
        let round = self.rounds.front()?;
        round.published.then(|| self.begun + 1 - self.rounds.len() as u64)
    }

    /// The answer to the oldest `PING` has come.
    pub(super) fn pong(&mut self) -> Vec<Incoming> {
        let mut opened = Vec::new();
        for sid in self.rounds.pop_front().unwrap_or_default().sids {
            if let Some(subscription) = self.subscriptions.get_mut(&sid)
                && matches!(subscription.state, SubscriptionState::New | SubscriptionState::Again)
            {
                subscription.state = SubscriptionState::Open;
                opened.push(Incoming::Opened(SubscriptionKey(sid)));
            }
        }
        opened
    }

    /// The server denies a subscription: one that it was asked for since the `PING` that it answered last, or one that
    /// it has known, whose number it names.
    pub(super) fn denied(&mut self, subject: &str, sid: Option<u64>) -> Option<Incoming> {
        let is_it = |sid: &u64| {
            self.subscriptions.get(sid).is_some_and(|subscription| subscription.pattern.as_str() == subject)
        };
        let in_round = |Round { sids, next, .. }: &mut Round| {
            let mut order = (*next..sids.len()).chain(0..*next);
            let at = order.find(|at| is_it(&sids[*at]))?;
            *next = at + 1;
            Some(sids[at])
        };
        let named = sid.filter(is_it);
        let asked = || self.rounds.front_mut().and_then(in_round);
        let found = named.or_else(asked).or_else(|| self.subscriptions.keys().copied().find(is_it));
        found.and_then(|sid| self.deny(sid, NatsError::Denied))
    }

    /// The server did not make something that it was asked for since the `PING` that it answered last.
    pub(super) fn refused(&mut self, words: &str) -> Vec<Incoming> {
        let asked = self.rounds.front().map(|round| round.sids.clone()).unwrap_or_default();
        let refuse = |sid| self.deny(sid, NatsError::Refused(words.to_owned()));
        asked.into_iter().filter_map(refuse).collect()
    }

    /// The server has forgotten everything.
    pub(super) fn link_lost(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            match subscription.state {
                SubscriptionState::Again | SubscriptionState::Open | SubscriptionState::Denied => {
                    subscription.state = SubscriptionState::Again
                }
                SubscriptionState::New | SubscriptionState::Failed => {}
            }
        }
        self.fresh = Vec::new();
        self.published = false;
        self.rounds = VecDeque::new();
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
            SubscriptionState::Again | SubscriptionState::Denied => (SubscriptionState::Denied, None),
            SubscriptionState::Failed => (SubscriptionState::Failed, None),
        };
        *state = now;
        incoming
    }
}

fn write(out: &mut Vec<u8>, sid: u64, pattern: &Pattern) {
    // Writing to memory does not fail.
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
