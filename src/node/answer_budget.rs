//! `AnswerBudget`: limits the bytes of the answers to HTTP calls that wait for their callers, of the node and of each
//! address.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use thiserror::Error;

use crate::node::call_limiter::Caller;
use crate::node::refusals::Refused;

/// Counters in a row. An address has one counter in each of two rows and has no room only if both are at the limit. Two
/// addresses hardly ever share both, so a fixed table is enough.
const ROW: usize = 4 * 1024;
const ROWS: usize = 2;

/// The most bytes that may wait. One answer always may, however large.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// For all callers of the node.
    pub node: usize,
    /// For the callers at one address.
    pub address: usize,
}

/// The bytes of all answers that wait.
#[derive(Debug)]
pub struct AnswerBudget {
    limits: AnswerLimits,
    node: AtomicUsize,
    addresses: Box<[AtomicUsize]>,
}

/// Why an answer has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoRoom {
    #[error("too many bytes of answers wait for the callers at this address: read them, then try again")]
    Address,
    #[error("too many bytes of answers wait for their callers on this node: try again later")]
    Node,
}

impl NoRoom {
    /// The limit that was reached.
    pub fn refused(self) -> Refused {
        match self {
            Self::Address => Refused::AddressAnswers,
            Self::Node => Refused::Answers,
        }
    }
}

/// Counts the bytes of one answer until it is dropped.
#[derive(Debug)]
pub struct HeldAnswer {
    budget: Arc<AnswerBudget>,
    address: u64,
    bytes: usize,
}

impl AnswerBudget {
    pub fn new(limits: AnswerLimits) -> Self {
        let addresses = (0..ROWS * ROW).map(|_| AtomicUsize::new(0)).collect();
        Self { limits, node: AtomicUsize::new(0), addresses }
    }

    /// Begins an answer, which has no bytes yet.
    pub fn begin(self: &Arc<Self>, address: Caller) -> Result<HeldAnswer, NoRoom> {
        let answer = HeldAnswer { budget: Arc::clone(self), address: address.id(), bytes: 0 };
        let is_full = |counter: &AtomicUsize, limit: usize| counter.load(Ordering::Relaxed) >= limit;
        if self.counters(answer.address).all(|counter| is_full(counter, self.limits.address)) {
            return Err(NoRoom::Address);
        }
        if is_full(&self.node, self.limits.node) {
            return Err(NoRoom::Node);
        }
        Ok(answer)
    }

    /// The counters of an address.
    fn counters(&self, address: u64) -> impl Iterator<Item = &AtomicUsize> {
        let rows = self.addresses.chunks_exact(ROW).zip(0..);
        rows.filter_map(move |(row, number)| {
            row.get(usize::try_from(address >> (32 * number)).unwrap_or_default() % ROW)
        })
    }
}

impl HeldAnswer {
    /// Counts the answer as this many bytes, if there is room for them. It never counts as fewer than before.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let before = self.bytes;
        if bytes <= before {
            return Ok(());
        }
        self.set(bytes);
        let fits = |counter: &AtomicUsize, limit: usize| {
            let all = counter.load(Ordering::Relaxed);
            all <= limit || all <= bytes
        };
        let budget = &self.budget;
        let fits_address = budget.counters(self.address).any(|counter| fits(counter, budget.limits.address));
        let fits_node = fits(&budget.node, budget.limits.node);
        if fits_address && fits_node {
            return Ok(());
        }
        self.set(before);
        Err(if fits_address { NoRoom::Node } else { NoRoom::Address })
    }

    /// Counts the answer as this many bytes, whether there is room for them or not.
    pub fn set(&mut self, bytes: usize) {
        let (more, fewer) = (bytes.saturating_sub(self.bytes), self.bytes.saturating_sub(bytes));
        self.bytes = bytes;
        for counter in self.budget.counters(self.address).chain([&self.budget.node]) {
            counter.fetch_add(more, Ordering::Relaxed);
            counter.fetch_sub(fewer, Ordering::Relaxed);
        }
    }
}

impl Drop for HeldAnswer {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Caller = Caller::Address(1 << 32 | 1);
    const BOB: Caller = Caller::Address(2 << 32 | 2);
    const CAROL: Caller = Caller::Address(3 << 32 | 3);

    fn budget() -> Arc<AnswerBudget> {
        Arc::new(AnswerBudget::new(AnswerLimits { node: 250, address: 100 }))
    }

    #[test]
    fn the_bytes_of_each_address_and_of_the_node_are_bounded() {
        let budget = budget();
        let begin = |caller| budget.begin(caller).unwrap();
        let (mut first, mut second) = (begin(ALICE), begin(ALICE));
        assert_eq!((first.grow(60), second.grow(41)), (Ok(()), Err(NoRoom::Address)));
        assert_eq!((second.grow(40), budget.begin(ALICE).unwrap_err()), (Ok(()), NoRoom::Address));
        let (mut others, mut more) = (begin(BOB), begin(CAROL));
        assert_eq!((others.grow(100), more.grow(51)), (Ok(()), Err(NoRoom::Node)));
        assert_eq!(more.grow(50), Ok(()));
        assert_eq!(budget.begin(Caller::Address(4 << 32 | 4)).unwrap_err(), NoRoom::Node);
        drop((first, second, others));
        assert_eq!(more.grow(100), Ok(()));
        drop(more);
        let counters = budget.addresses.iter().chain([&budget.node]);
        assert_eq!(counters.map(|counter| counter.load(Ordering::Relaxed)).sum::<usize>(), 0);
    }

    #[test]
    fn one_answer_always_has_room_and_then_no_other() {
        let budget = budget();
        let (mut large, mut small) = (budget.begin(ALICE).unwrap(), budget.begin(ALICE).unwrap());
        assert_eq!((large.grow(1000), small.grow(1)), (Ok(()), Err(NoRoom::Address)));
        assert_eq!(large.grow(10), Ok(()), "it keeps its bytes");
        assert_eq!(small.grow(1), Err(NoRoom::Address));
        large.set(99);
        assert_eq!(small.grow(1), Ok(()));
    }

    #[test]
    fn an_answer_that_cannot_be_refused_is_counted_for_those_after_it() {
        let budget = budget();
        let (mut reply, mut other) = (budget.begin(ALICE).unwrap(), budget.begin(ALICE).unwrap());
        other.set(90);
        reply.set(90);
        assert_eq!(budget.begin(ALICE).unwrap_err(), NoRoom::Address);
    }
}
