//! Gathers the answers of all nodes to one question: waits for the nodes that are known, and then a moment for unknown
//! ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use crate::nats::scatter_gather::PeerReply;
use crate::nats::scatter_gather::ScatterGather;

/// How long a node is expected that has stopped to answer.
const EXPECTED: Duration = Duration::from_secs(600);
/// More nodes than there are.
const MAX_NODES: usize = 1024;

/// The other nodes that have answered questions of one kind in the last ten minutes, by their ids.
#[derive(Debug, Default)]
pub(super) struct KnownNodes(RefCell<BTreeMap<Box<str>, KnownNode>>);

#[derive(Clone, Copy, Debug)]
struct KnownNode {
    /// When it answered last.
    answered: Instant,
    /// Whether it has answered the last question. Only then the next one waits for it, so that a node that has ended
    /// makes one question slow, and not all of ten minutes.
    is_awaited: bool,
}

/// How long to wait for answers, from the question on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// While the answer of a known node is missing.
    pub(super) known: Duration,
    /// When all known nodes have answered.
    pub(super) unknown: Duration,
}

/// What a reply is.
#[derive(Debug)]
pub(super) struct NodeAnswer<A> {
    /// The id of its node.
    pub(super) node: Box<str>,
    pub(super) content: ReplyPart<A>,
}

#[derive(Debug)]
pub(super) enum ReplyPart<A> {
    /// Other replies of this node follow.
    More,
    /// The only one of this node, or the last.
    Last(A),
    /// The same, and no answer of another node is needed.
    Enough(A),
}

/// The answers of all nodes.
#[derive(Debug)]
pub(super) struct NodeAnswers<A> {
    /// By node. Of several answers of one node, the first.
    pub(super) answers: BTreeMap<Box<str>, A>,
    /// The other nodes that have answered in the last ten minutes, but not this time.
    pub(super) missing: Vec<Box<str>>,
}

impl KnownNodes {
    /// Waits for the replies to a question. `own` is this node if it answers too; it is then waited for, but never known.
    /// `read` says what a reply is; `None` if it is no answer of a node.
    pub(super) async fn gather<A>(
        &self,
        mut replies: ScatterGather,
        own: Option<&str>,
        patience: Patience,
        mut read: impl FnMut(&PeerReply) -> Option<NodeAnswer<A>>,
    ) -> NodeAnswers<A> {
        let (sent, mut answers, mut is_complete) = (Instant::now(), BTreeMap::new(), true);
        let mut awaited = self.awaited();
        awaited.extend(own.map(Into::into));
        while is_complete && answers.len() < MAX_NODES {
            let limit = if awaited.is_empty() { patience.unknown } else { patience.known };
            let Some(reply) = replies.next(limit.saturating_sub(sent.elapsed())).await else { break };
            let Some(NodeAnswer { node, content }) = read(&reply) else { continue };
            let answer = match content {
                ReplyPart::More => {
                    awaited.insert(node);
                    continue;
                }
                ReplyPart::Last(answer) => answer,
                ReplyPart::Enough(answer) => {
                    is_complete = false;
                    answer
                }
            };
            awaited.remove(&node);
            answers.entry(node).or_insert(answer);
        }
        let answered: BTreeSet<_> = answers.keys().cloned().collect();
        let missing = self.note(&answered, own, is_complete, Instant::now());
        NodeAnswers { answers, missing }
    }

    /// The nodes that have answered in the ten minutes before `now`.
    pub(super) fn expected(&self, now: Instant) -> Vec<Box<str>> {
        let known = self.0.borrow();
        known.iter().filter(|(_, node)| node.is_expected(now)).map(|(id, _)| id.clone()).collect()
    }

    fn awaited(&self) -> BTreeSet<Box<str>> {
        self.0.borrow().iter().filter(|(_, node)| node.is_awaited).map(|(id, _)| id.clone()).collect()
    }

    /// Notes which nodes have answered. Unless `is_complete`, others were not waited for. Returns the missing ones.
    fn note(
        &self,
        answered: &BTreeSet<Box<str>>,
        own: Option<&str>,
        is_complete: bool,
        now: Instant,
    ) -> Vec<Box<str>> {
        let mut known = self.0.borrow_mut();
        if is_complete {
            known.values_mut().for_each(|node| node.is_awaited = false);
        }
        for id in answered.iter().filter(|id| own != Some(&***id)) {
            known.insert(id.clone(), KnownNode { answered: now, is_awaited: true });
        }
        known.retain(|_, node| node.is_expected(now));
        while known.len() > MAX_NODES
            && let Some(oldest) = known.iter().min_by_key(|(_, node)| node.answered).map(|(id, _)| id.clone())
        {
            known.remove(&oldest);
        }
        known.keys().filter(|id| !answered.contains(*id)).cloned().collect()
    }
}

impl KnownNode {
    fn is_expected(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.answered) < EXPECTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<Box<str>> {
        ids.iter().map(|id| (*id).into()).collect()
    }

    #[test]
    fn a_node_that_stops_to_answer_is_missing_for_ten_minutes_and_waited_for_once() {
        let (known, start) = (KnownNodes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let note = |answered: &[&str], now| known.note(&ids(answered), Some("own"), true, now);
        assert_eq!(note(&["own", "a", "b"], at(0)), []);
        assert_eq!(known.awaited(), ids(&["a", "b"]));
        for second in [1, 300, 599] {
            assert_eq!(note(&["own", "a"], at(second)), ["b".into()], "{second}");
            assert_eq!((known.awaited(), known.expected(at(second)).len()), (ids(&["a"]), 2), "{second}");
        }
        assert_eq!(note(&["own", "a"], at(600)), [], "it is forgotten");
        assert_eq!(note(&["b"], at(700)), ["a".into()], "it has come back, and the other is away");
        assert_eq!(known.awaited(), ids(&["b"]));
        assert_eq!(known.expected(at(1299)), ["b".into()]);
        assert_eq!(known.expected(at(1300)).len(), 0);
    }

    #[test]
    fn nodes_that_were_not_waited_for_are_still_awaited() {
        let (known, now) = (KnownNodes::default(), Instant::now());
        known.note(&ids(&["a", "b"]), None, true, now);
        known.note(&ids(&["c"]), None, false, now);
        assert_eq!(known.awaited(), ids(&["a", "b", "c"]));
    }

    #[test]
    fn the_number_of_known_nodes_is_bounded() {
        let (known, start) = (KnownNodes::default(), Instant::now());
        for number in 0..MAX_NODES + 10 {
            let id = format!("n{number}");
            known.note(&ids(&[&id]), None, true, start + Duration::from_millis(number as u64));
        }
        assert_eq!(known.0.borrow().len(), MAX_NODES);
        assert!(!known.0.borrow().contains_key("n9") && known.0.borrow().contains_key("n10"));
    }
}
