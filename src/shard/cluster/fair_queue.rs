//! `FairQueue`: serves callers in turn, one item each, so that no caller has to wait for all items of another one.

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Items of one caller that may wait.
const MAX_PER_CALLER: usize = 64;

/// A bounded queue of items by caller.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    capacity: usize,
    count: usize,
    waiting: BTreeMap<u64, VecDeque<T>>,
    order: VecDeque<u64>,
}

impl<T> FairQueue<T> {
    /// `capacity` is the limit for all callers together.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, count: 0, waiting: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an item. If the caller or the queue is at its limit, the item is dropped.
    pub(super) fn push(&mut self, caller: u64, item: T) {
        let waiting = self.waiting.entry(caller).or_default();
        if waiting.is_empty() {
            self.order.push_back(caller);
        }
        if waiting.len() < MAX_PER_CALLER && self.count < self.capacity {
            waiting.push_back(item);
            self.count += 1;
        }
        if waiting.is_empty() {
            self.waiting.remove(&caller);
            self.order.pop_back();
        }
    }

    /// Takes the first item that `fits`, among the next items of all callers in turn. Its caller then moves to the end.
    pub(super) fn pop(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let has_one = |caller: &u64| self.waiting.get(caller).and_then(VecDeque::front).is_some_and(&fits);
        let at = self.order.iter().position(has_one)?;
        let caller = self.order.remove(at)?;
        let waiting = self.waiting.get_mut(&caller)?;
        let item = waiting.pop_front();
        self.count -= usize::from(item.is_some());
        if waiting.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_one_item_waits_for_one_item_of_each_other_caller() {
        let mut queue = FairQueue::new(1000);
        (0..60).for_each(|number| queue.push(1, (1, number)));
        (0..60).for_each(|number| queue.push(2, (2, number)));
        queue.push(3, (3, 0));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(order[..5], [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]);
        assert_eq!((order.len(), order[120]), (121, (2, 59)));
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.order.is_empty());
    }

    #[test]
    fn an_item_that_does_not_fit_is_the_first_of_the_next_round() {
        let mut queue = FairQueue::new(1000);
        queue.push(1, 10);
        queue.push(2, 5);
        assert_eq!(queue.pop(|size| *size < 7), Some(5));
        assert_eq!(queue.pop(|size| *size < 7), None);
        queue.push(3, 1);
        assert_eq!([queue.pop(|_| true), queue.pop(|_| true)], [Some(10), Some(1)]);
    }

    #[test]
    fn one_caller_cannot_fill_the_queue_and_all_together_are_bounded() {
        let mut queue = FairQueue::new(MAX_PER_CALLER + 1);
        (0..1000).for_each(|number| queue.push(1, number));
        queue.push(2, 7);
        queue.push(3, 8);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!((order.len(), order[1]), (MAX_PER_CALLER + 1, 7));
        assert!(queue.waiting.is_empty() && queue.order.is_empty());
    }
}
