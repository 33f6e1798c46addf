//! Turns: what waits, one of each caller at a time, so that no one waits for all that another has asked.

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// What may wait of one caller.
const EACH: usize = 64;

/// What waits, and whose turn it is.
#[derive(Debug)]
pub(super) struct Turns<T> {
    most: usize,
    count: usize,
    waiting: BTreeMap<u64, VecDeque<T>>,
    order: VecDeque<u64>,
}

impl<T> Turns<T> {
    /// At most so many of all callers together.
    pub(super) fn new(most: usize) -> Self {
        Self { most, count: 0, waiting: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Lets one more wait; one too many is dropped.
    pub(super) fn add(&mut self, caller: u64, item: T) {
        let waiting = self.waiting.entry(caller).or_default();
        if waiting.is_empty() {
            self.order.push_back(caller);
        }
        if waiting.len() < EACH && self.count < self.most {
            waiting.push_back(item);
            self.count += 1;
        }
        if waiting.is_empty() {
            self.waiting.remove(&caller);
            self.order.pop_back();
        }
    }

    /// The first that `fits`, of the callers in their order; who had a turn is the last from then on.
    pub(super) fn next(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
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
    fn whoever_asks_once_waits_for_one_of_each_other_and_not_for_all_that_they_ask() {
        let mut turns = Turns::new(1000);
        (0..60).for_each(|number| turns.add(1, (1, number)));
        (0..60).for_each(|number| turns.add(2, (2, number)));
        turns.add(3, (3, 0));
        let order: Vec<_> = std::iter::from_fn(|| turns.next(|_| true)).collect();
        assert_eq!(order[..5], [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]);
        assert_eq!((order.len(), order[120]), (121, (2, 59)));
        assert!(turns.is_empty() && turns.waiting.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn what_does_not_fit_waits_and_comes_first_in_the_next_round() {
        let mut turns = Turns::new(1000);
        turns.add(1, 10);
        turns.add(2, 5);
        assert_eq!(turns.next(|size| *size < 7), Some(5));
        assert_eq!(turns.next(|size| *size < 7), None);
        turns.add(3, 1);
        assert_eq!([turns.next(|_| true), turns.next(|_| true)], [Some(10), Some(1)]);
    }

    #[test]
    fn nobody_fills_the_queue_alone_and_all_together_are_bounded() {
        let mut turns = Turns::new(EACH + 1);
        (0..1000).for_each(|number| turns.add(1, number));
        turns.add(2, 7);
        turns.add(3, 8);
        let order: Vec<_> = std::iter::from_fn(|| turns.next(|_| true)).collect();
        assert_eq!((order.len(), order[1]), (EACH + 1, 7));
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }
}
