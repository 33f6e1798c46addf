//! `NodeCounts`: what the node has counted since it started, outside the delivery of publications.

use std::sync::OnceLock;

use crate::node::refused_by_vocabulary::RefusedByVocabulary;
use crate::node::request_counts::RequestCounts;
use crate::node::shared_counter::SharedCounter;

/// The most words of one [`CountsByReason`]. Further ones are counted as `other`.
const REASONS: usize = 96;

/// What happens too seldom to be counted by each shard.
#[derive(Debug, Default)]
pub struct NodeCounts {
    /// Refused credentials, by reason.
    pub auth_failures: CountsByReason,
    /// What roles did not allow, by operation.
    pub denied: CountsByReason,
    /// Refused requests, by status and reason.
    pub rejected: RejectedRequests,
    /// Refused requests of pages whose origin is not allowed.
    pub origin_rejected: SharedCounter,
    /// Answered requests, by route, method and status.
    pub requests: RequestCounts,
    /// Refused handshakes and calls, by vocabulary.
    pub refused_by_vocabulary: RefusedByVocabulary,
    /// Handshakes and calls that waited for their turn.
    pub handshake_waits: SharedCounter,
    /// How many nanoseconds they waited together.
    pub handshake_wait_ns: SharedCounter,
    /// Configurations that were reloaded.
    pub reloads: SharedCounter,
    /// Reloads that were refused.
    pub reload_failures: SharedCounter,
}

/// How often each of a few words was counted. The words are constants of the code, so there is a bounded number of them.
#[derive(Debug)]
pub struct CountsByReason {
    reasons: [(OnceLock<(u16, &'static str)>, SharedCounter); REASONS],
    others: SharedCounter,
}

/// The same for words with a status.
#[derive(Debug, Default)]
pub struct RejectedRequests(CountsByReason);

impl Default for CountsByReason {
    fn default() -> Self {
        let reasons = std::array::from_fn(|_| (OnceLock::new(), SharedCounter::default()));
        Self { reasons, others: SharedCounter::default() }
    }
}

impl CountsByReason {
    /// Counts this reason once more.
    pub fn count(&self, reason: &'static str) {
        self.count_pair((0, reason));
    }

    /// Each reason that was counted, and how often.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.pairs().map(|((_, reason), count)| (reason, count))
    }

    fn count_pair(&self, pair: (u16, &'static str)) {
        let own = self.reasons.iter().find(|(known, _)| *known.get_or_init(|| pair) == pair);
        own.map_or(&self.others, |(_, counter)| counter).count();
    }

    fn pairs(&self) -> impl Iterator<Item = ((u16, &'static str), u64)> {
        let known = self.reasons.iter().map_while(|(pair, counter)| Some((*pair.get()?, counter.get())));
        let others = Some(self.others.get()).filter(|count| *count > 0);
        known.chain(others.map(|count| ((0, "other"), count)))
    }
}

impl RejectedRequests {
    /// Counts a request that was refused with this status, for this reason.
    pub fn count(&self, status: u16, reason: &'static str) {
        self.0.count_pair((status, reason));
    }

    /// Each pair of status and reason that was counted, and how often.
    pub fn all(&self) -> impl Iterator<Item = ((u16, &'static str), u64)> {
        self.0.pairs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself() {
        let counts = CountsByReason::default();
        ["expired", "bad_signature", "expired"].into_iter().for_each(|reason| counts.count(reason));
        assert_eq!(counts.all().collect::<Vec<_>>(), [("expired", 2), ("bad_signature", 1)]);
        let rejected = RejectedRequests::default();
        rejected.count(401, "expired");
        rejected.count(503, "expired");
        assert_eq!(rejected.all().collect::<Vec<_>>(), [((401, "expired"), 1), ((503, "expired"), 1)]);
    }

    #[test]
    fn there_are_never_more_reasons_than_fit() {
        let rejected = RejectedRequests::default();
        for status in 0..1000 {
            rejected.count(status, "reason");
        }
        let all: Vec<_> = rejected.all().collect();
        assert_eq!((all.len(), all[REASONS]), (REASONS + 1, ((0, "other"), 1000 - REASONS as u64)));
    }
}
