//! `max_rate_ms`: of each key at most one publication in an interval, and then the newest.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::publication::Delivery;

/// What a key takes next to its text and what waits of it.
const KEY_BYTES: usize = 64;

/// What a subscription has sent lately, and what waits for its turn.
#[derive(Debug)]
pub struct Conflation {
    interval: Duration,
    /// Every key sent within the interval, with the newest publication since then.
    keys: HashMap<Arc<str>, Option<Rc<Delivery>>>,
    /// The same keys, by when they may send again.
    turns: VecDeque<(Instant, Arc<str>)>,
}

/// What all subscriptions of an outbox hold of what they have sent lately and what waits, or how much that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Keys.
    pub keys: usize,
    /// Their bytes, and those of the frames that wait.
    pub bytes: usize,
}

impl Conflation {
    /// At most one publication of a key in `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, keys: HashMap::new(), turns: VecDeque::new() }
    }

    /// Gives the publication back if it may go now; else it waits, in place of an older one of its key. `held` is what the
    /// outbox holds with it; what finds no room up to `most` is not slowed down.
    pub fn offer(
        &mut self,
        delivery: Rc<Delivery>,
        now: Instant,
        held: &mut Load,
        most: Load,
    ) -> Option<Rc<Delivery>> {
        if let Some(waiting) = self.keys.get_mut(&delivery.key) {
            let without = held.bytes - waiting.as_ref().map_or(0, |older| older.frame.len());
            let with = without + delivery.frame.len();
            if with > most.bytes {
                held.bytes = without;
                *waiting = None;
                return Some(delivery);
            }
            held.bytes = with;
            *waiting = Some(delivery);
            return None;
        }
        let bytes = held.bytes + KEY_BYTES + delivery.key.len();
        if held.keys < most.keys && bytes <= most.bytes {
            self.keys.insert(Arc::clone(&delivery.key), None);
            self.turns.push_back((now + self.interval, Arc::clone(&delivery.key)));
            *held = Load { keys: held.keys + 1, bytes };
        }
        Some(delivery)
    }

    /// The next publication whose turn has come.
    pub fn release(&mut self, now: Instant, held: &mut Load) -> Option<Rc<Delivery>> {
        while self.next_turn()? <= now {
            let (_, key) = self.turns.pop_front()?;
            match self.keys.get_mut(&key).and_then(Option::take) {
                Some(delivery) => {
                    held.bytes -= delivery.frame.len();
                    self.turns.push_back((now + self.interval, key));
                    return Some(delivery);
                }
                None => {
                    self.keys.remove(&key);
                    *held = Load { keys: held.keys - 1, bytes: held.bytes - KEY_BYTES - key.len() };
                }
            }
        }
        None
    }

    /// Gives back all that waits, whenever its turn would come; each key has its next turn after an interval from now.
    pub fn release_all(&mut self, now: Instant, held: &mut Load) -> Vec<Rc<Delivery>> {
        let mut released = Vec::new();
        for (turn, key) in std::mem::take(&mut self.turns) {
            match self.keys.get_mut(&key).and_then(Option::take) {
                Some(delivery) => {
                    held.bytes -= delivery.frame.len();
                    released.push((key, delivery));
                }
                None => self.turns.push_back((turn, key)),
            }
        }
        let give = |(key, delivery)| {
            self.turns.push_back((now + self.interval, key));
            delivery
        };
        released.into_iter().map(give).collect()
    }

    /// Drops what waits. Gives how many publications that were.
    pub fn forget(&mut self, held: &mut Load) -> usize {
        let waiting = self.keys.values_mut().filter_map(Option::take);
        waiting.inspect(|delivery| held.bytes -= delivery.frame.len()).count()
    }

    /// Drops everything.
    pub fn leave(mut self, held: &mut Load) {
        self.forget(held);
        let bytes: usize = self.keys.keys().map(|key| KEY_BYTES + key.len()).sum();
        *held = Load { keys: held.keys - self.keys.len(), bytes: held.bytes - bytes };
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
    use tidegate_protocol::frame::Frame;

    const ROOM: Load = Load { keys: 10, bytes: 10_000 };

    fn delivery(key: &str, text: &str) -> Rc<Delivery> {
        let frame = Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()));
        Rc::new(Delivery { frame, key: key.into(), expires: None })
    }

    fn text(delivery: &Delivery) -> String {
        String::from_utf8_lossy(delivery.frame.message()).into_owned()
    }

    #[test]
    fn the_newest_of_each_key_comes_when_its_turn_comes() {
        let (start, mut held) = (Instant::now(), Load::default());
        let mut conflation = Conflation::new(Duration::from_millis(100));
        assert!(conflation.offer(delivery("a", "a1"), start, &mut held, ROOM).is_some());
        assert!(conflation.offer(delivery("b", "b1"), start, &mut held, ROOM).is_some());
        assert!(conflation.offer(delivery("a", "a2"), start, &mut held, ROOM).is_none());
        assert!(conflation.offer(delivery("a", "a3"), start, &mut held, ROOM).is_none());
        assert!(conflation.release(start + Duration::from_millis(99), &mut held).is_none());
        let later = start + Duration::from_millis(100);
        assert_eq!(conflation.waiting(), 1, "the newest of its key");
        assert_eq!(conflation.release(later, &mut held).map(|d| text(&d)), Some("a3".into()));
        assert_eq!(conflation.waiting(), 0);
        assert!(conflation.release(later, &mut held).is_none());
        assert!(
            conflation.offer(delivery("b", "b2"), later, &mut held, ROOM).is_some(),
            "b was quiet for its interval"
        );
        assert!(conflation.offer(delivery("a", "a4"), later, &mut held, ROOM).is_none());
        let later = later + Duration::from_millis(100);
        assert_eq!(conflation.release(later, &mut held).map(|d| text(&d)), Some("a4".into()));
        assert!(conflation.release(later + Duration::from_secs(1), &mut held).is_none());
        assert_eq!(conflation.next_turn(), None, "nothing is kept of keys that are quiet");
        assert_eq!(held, Load::default());
    }

    #[test]
    fn keys_beyond_the_bound_are_not_slowed_down() {
        let (start, mut held) = (Instant::now(), Load::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        let most = Load { keys: 1, ..ROOM };
        assert!(conflation.offer(delivery("a", "1"), start, &mut held, most).is_some());
        assert!(conflation.offer(delivery("b", "1"), start, &mut held, most).is_some());
        assert!(conflation.offer(delivery("b", "2"), start, &mut held, most).is_some());
        assert!(conflation.offer(delivery("a", "2"), start, &mut held, most).is_none());
    }

    #[test]
    fn what_finds_no_room_to_wait_goes_at_once_and_what_waited_of_its_key_does_not_come_behind_it() {
        let (start, mut held) = (Instant::now(), Load::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        let key = KEY_BYTES + 1;
        let mut offer = |text: &str, bytes| {
            let offered =
                conflation.offer(delivery("a", text), start, &mut held, Load { bytes, ..ROOM }).is_some();
            (offered, held)
        };
        let load = |bytes| Load { keys: 1, bytes };
        assert_eq!(offer("1", key - 1), (true, Load::default()), "no room for the key");
        assert_eq!(offer("1", key), (true, load(key)));
        assert_eq!(offer("two", key + 4), (true, load(key)), "its frame has five bytes");
        assert_eq!(offer("two", key + 5), (false, load(key + 5)));
        assert_eq!(offer("four", key + 5), (true, load(key)), "what waited is older");
        assert_eq!(offer("x", key + 5), (false, load(key + 3)));
        assert_eq!(offer("y", key + 3), (false, load(key + 3)), "it takes the place of x");
        let turn = start + Duration::from_secs(1);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("y".into()));
        assert!(conflation.release(turn + Duration::from_secs(1), &mut held).is_none());
        assert_eq!(held, Load::default(), "nothing is kept of keys that are quiet");
    }

    #[test]
    fn all_that_waits_can_be_released_and_its_keys_have_sent_just_now() {
        let (start, mut held) = (Instant::now(), Load::default());
        let mut conflation = Conflation::new(Duration::from_secs(10));
        for (key, text) in [("a", "1"), ("b", "1"), ("c", "1"), ("c", "2"), ("a", "2"), ("a", "3")] {
            conflation.offer(delivery(key, text), start, &mut held, ROOM);
        }
        let later = start + Duration::from_secs(4);
        let released: Vec<_> = conflation.release_all(later, &mut held).iter().map(|d| text(d)).collect();
        assert_eq!(released, ["3", "2"], "in the order of their turns");
        assert_eq!(held, Load { keys: 3, bytes: 3 * (KEY_BYTES + 1) });
        assert!(conflation.release_all(later, &mut held).is_empty());
        assert!(conflation.offer(delivery("a", "4"), later, &mut held, ROOM).is_none());
        assert!(conflation.release(later + Duration::from_secs(9), &mut held).is_none());
        let turn = later + Duration::from_secs(10);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("4".into()));
        assert!(conflation.release(turn + Duration::from_secs(10), &mut held).is_none());
        assert_eq!((held, conflation.next_turn()), (Load::default(), None));
    }

    #[test]
    fn what_waits_can_be_forgotten_and_its_keys_stay_slowed_down() {
        let (start, mut held) = (Instant::now(), Load::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        for (key, text) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("b", "3"), ("c", "1")] {
            conflation.offer(delivery(key, text), start, &mut held, ROOM);
        }
        assert_eq!(conflation.forget(&mut held), 2);
        assert_eq!((conflation.forget(&mut held), conflation.waiting()), (0, 0));
        assert_eq!(held, Load { keys: 3, bytes: 3 * (KEY_BYTES + 1) });
        assert!(conflation.offer(delivery("a", "3"), start, &mut held, ROOM).is_none());
        let turn = start + Duration::from_secs(1);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("3".into()));
        assert!(conflation.release(turn, &mut held).is_none());
        conflation.offer(delivery("a", "4"), turn, &mut held, ROOM);
        conflation.leave(&mut held);
        assert_eq!(held, Load::default());
    }
}
