//! `max_rate_ms`: of each key at most one publication in an interval, and then the newest.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::protocol::publication::Delivery;

/// What a subscription has sent lately, and what waits for its turn.
#[derive(Debug)]
pub struct Conflation {
    interval: Duration,
    max_keys: usize,
    /// Every key sent within the interval, with the newest publication since then.
    keys: HashMap<Arc<str>, Option<Rc<Delivery>>>,
    /// The same keys, by when they may send again.
    turns: VecDeque<(Instant, Arc<str>)>,
}

impl Conflation {
    /// At most one publication of a key in `interval`; more than `max_keys` keys at a time are not slowed down.
    pub fn new(interval: Duration, max_keys: usize) -> Self {
        Self { interval, max_keys, keys: HashMap::new(), turns: VecDeque::new() }
    }

    /// Gives the publication back if it may go now; else it waits, in place of an older one of its key.
    pub fn offer(&mut self, delivery: &Rc<Delivery>, now: Instant) -> Option<Rc<Delivery>> {
        if let Some(waiting) = self.keys.get_mut(&delivery.key) {
            *waiting = Some(Rc::clone(delivery));
            return None;
        }
        if self.keys.len() < self.max_keys {
            self.keys.insert(Arc::clone(&delivery.key), None);
            self.turns.push_back((now + self.interval, Arc::clone(&delivery.key)));
        }
        Some(Rc::clone(delivery))
    }

    /// The next publication whose turn has come.
    pub fn release(&mut self, now: Instant) -> Option<Rc<Delivery>> {
        while self.next_turn()? <= now {
            let (_, key) = self.turns.pop_front()?;
            match self.keys.get_mut(&key).and_then(Option::take) {
                Some(delivery) => {
                    self.turns.push_back((now + self.interval, key));
                    return Some(delivery);
                }
                None => {
                    self.keys.remove(&key);
                }
            }
        }
        None
    }

    /// How many publications wait for their turn.
    pub fn waiting(&self) -> usize {
        self.keys.values().flatten().count()
    }

    /// When to ask again.
    pub fn next_turn(&self) -> Option<Instant> {
        self.turns.front().map(|(turn, _)| *turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Frame;

    fn delivery(key: &str, text: &str) -> Rc<Delivery> {
        let frame = Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()));
        Rc::new(Delivery { frame, key: key.into(), expires: None })
    }

    fn text(delivery: &Delivery) -> String {
        String::from_utf8_lossy(delivery.frame.message()).into_owned()
    }

    #[test]
    fn the_newest_of_each_key_comes_when_its_turn_comes() {
        let start = Instant::now();
        let mut conflation = Conflation::new(Duration::from_millis(100), 10);
        assert!(conflation.offer(&delivery("a", "a1"), start).is_some());
        assert!(conflation.offer(&delivery("b", "b1"), start).is_some());
        assert!(conflation.offer(&delivery("a", "a2"), start).is_none());
        assert!(conflation.offer(&delivery("a", "a3"), start).is_none());
        assert!(conflation.release(start + Duration::from_millis(99)).is_none());
        let later = start + Duration::from_millis(100);
        assert_eq!(conflation.waiting(), 1, "the newest of its key");
        assert_eq!(conflation.release(later).map(|d| text(&d)), Some("a3".into()));
        assert_eq!(conflation.waiting(), 0);
        assert!(conflation.release(later).is_none());
        assert!(conflation.offer(&delivery("b", "b2"), later).is_some(), "b was quiet for its interval");
        assert!(conflation.offer(&delivery("a", "a4"), later).is_none());
        let later = later + Duration::from_millis(100);
        assert_eq!(conflation.release(later).map(|d| text(&d)), Some("a4".into()));
        assert!(conflation.release(later + Duration::from_secs(1)).is_none());
        assert_eq!(conflation.next_turn(), None, "nothing is kept of keys that are quiet");
    }

    #[test]
    fn keys_beyond_the_bound_are_not_slowed_down() {
        let start = Instant::now();
        let mut conflation = Conflation::new(Duration::from_secs(1), 1);
        assert!(conflation.offer(&delivery("a", "1"), start).is_some());
        assert!(conflation.offer(&delivery("b", "1"), start).is_some());
        assert!(conflation.offer(&delivery("b", "2"), start).is_some());
        assert!(conflation.offer(&delivery("a", "2"), start).is_none());
    }
}
