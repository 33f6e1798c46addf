//! `Conflation`: `max_rate_ms` of a subscription. In each interval, it lets one publication of a key pass, and then the
//! newest.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::publication::Delivery;

/// Memory of a key, besides its text and its waiting publication.
const KEY_BYTES: usize = 64;

/// The keys that a subscription has sent within the interval, and their waiting publications.
#[derive(Debug)]
pub struct Conflation {
    interval: Duration,
    /// Each key sent within the interval, with the newest publication since.
    keys: HashMap<Arc<str>, Option<Rc<Delivery>>>,
    /// The same keys, by when their next publication may be sent.
    releases: VecDeque<(Instant, Arc<str>)>,
}

/// What the [`Conflation`]s of all subscriptions of an outbox hold, or may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConflationSize {
    pub keys: usize,
    /// Bytes of the keys and of the waiting frames.
    pub bytes: usize,
}

/// The outcome of [`Conflation::offer`].
#[derive(Debug)]
pub struct Offered {
    /// The publication, if it may be sent now.
    pub delivery: Option<Rc<Delivery>>,
    /// Whether an older one of its key is not sent any more.
    pub has_replaced: bool,
}

impl Conflation {
    pub fn new(interval: Duration) -> Self {
        Self { interval, keys: HashMap::new(), releases: VecDeque::new() }
    }

    /// The shortest time between two publications of a key.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the publication if it may be sent now. Otherwise it waits. It replaces an older one of its key that waits.
    /// Updates `size`. If there is no room up to `most`, the publication is not delayed.
    pub fn offer(
        &mut self,
        delivery: Rc<Delivery>,
        now: Instant,
        size: &mut ConflationSize,
        most: ConflationSize,
    ) -> Offered {
        if let Some(waiting) = self.keys.get_mut(&delivery.key) {
            let has_replaced = waiting.is_some();
            let without = size.bytes - waiting.as_ref().map_or(0, |older| older.frame.len());
            let with = without + delivery.frame.len();
            if with > most.bytes {
                size.bytes = without;
                *waiting = None;
                return Offered { delivery: Some(delivery), has_replaced };
            }
            size.bytes = with;
            *waiting = Some(delivery);
            return Offered { delivery: None, has_replaced };
        }
        let bytes = size.bytes + KEY_BYTES + delivery.key.len();
        if size.keys < most.keys && bytes <= most.bytes {
            self.keys.insert(Arc::clone(&delivery.key), None);
            self.releases.push_back((now + self.interval, Arc::clone(&delivery.key)));
            *size = ConflationSize { keys: size.keys + 1, bytes };
        }
        Offered { delivery: Some(delivery), has_replaced: false }
    }

    /// The next waiting publication that is due.
    pub fn release(&mut self, now: Instant, size: &mut ConflationSize) -> Option<Rc<Delivery>> {
        while self.next_release()? <= now {
            let (_, key) = self.releases.pop_front()?;
            match self.keys.get_mut(&key).and_then(Option::take) {
                Some(delivery) => {
                    size.bytes -= delivery.frame.len();
                    self.releases.push_back((now + self.interval, key));
                    return Some(delivery);
                }
                None => {
                    self.keys.remove(&key);
                    let bytes = size.bytes - KEY_BYTES - key.len();
                    *size = ConflationSize { keys: size.keys - 1, bytes };
                }
            }
        }
        None
    }

    /// Returns all waiting publications, in the order of their release. Each of their keys waits a whole interval from
    /// now.
    pub fn release_all(&mut self, now: Instant, size: &mut ConflationSize) -> Vec<Rc<Delivery>> {
        let mut released = Vec::new();
        for (release, key) in std::mem::take(&mut self.releases) {
            match self.keys.get_mut(&key).and_then(Option::take) {
                Some(delivery) => {
                    size.bytes -= delivery.frame.len();
                    released.push((key, delivery));
                }
                None => self.releases.push_back((release, key)),
            }
        }
        let restart = |(key, delivery)| {
            self.releases.push_back((now + self.interval, key));
            delivery
        };
        released.into_iter().map(restart).collect()
    }

    /// Drops the waiting publications. Returns how many they were.
    pub fn drop_waiting(&mut self, size: &mut ConflationSize) -> usize {
        let waiting = self.keys.values_mut().filter_map(Option::take);
        waiting.inspect(|delivery| size.bytes -= delivery.frame.len()).count()
    }

    /// Drops the keys and the waiting publications.
    pub fn clear(mut self, size: &mut ConflationSize) {
        self.drop_waiting(size);
        let bytes: usize = self.keys.keys().map(|key| KEY_BYTES + key.len()).sum();
        *size = ConflationSize { keys: size.keys - self.keys.len(), bytes: size.bytes - bytes };
    }

    /// How many publications wait.
    pub fn waiting(&self) -> usize {
        self.keys.values().flatten().count()
    }

    /// When to call [`Conflation::release`] next.
    pub fn next_release(&self) -> Option<Instant> {
        self.releases.front().map(|(release, _)| *release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::class::Priority;
    use tidegate_protocol::frame::Frame;

    const ROOM: ConflationSize = ConflationSize { keys: 10, bytes: 10_000 };

    fn delivery(key: &str, text: &str) -> Rc<Delivery> {
        let frame = Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()));
        Rc::new(Delivery { frame, key: key.into(), priority: Priority::Normal, expires: None })
    }

    fn text(delivery: &Delivery) -> String {
        String::from_utf8_lossy(delivery.frame.message()).into_owned()
    }

    #[test]
    fn the_newest_publication_of_each_key_is_sent_after_the_interval() {
        let (start, mut held) = (Instant::now(), ConflationSize::default());
        let mut conflation = Conflation::new(Duration::from_millis(100));
        assert!(conflation.offer(delivery("a", "a1"), start, &mut held, ROOM).delivery.is_some());
        assert!(conflation.offer(delivery("b", "b1"), start, &mut held, ROOM).delivery.is_some());
        for (text, has_replaced) in [("a2", false), ("a3", true)] {
            let offered = conflation.offer(delivery("a", text), start, &mut held, ROOM);
            assert_eq!((offered.delivery.is_none(), offered.has_replaced), (true, has_replaced), "{text}");
        }
        assert!(conflation.release(start + Duration::from_millis(99), &mut held).is_none());
        let later = start + Duration::from_millis(100);
        assert_eq!(conflation.waiting(), 1, "the newest of its key");
        assert_eq!(conflation.release(later, &mut held).map(|d| text(&d)), Some("a3".into()));
        assert_eq!(conflation.waiting(), 0);
        assert!(conflation.release(later, &mut held).is_none());
        assert!(
            conflation.offer(delivery("b", "b2"), later, &mut held, ROOM).delivery.is_some(),
            "b was quiet for its interval"
        );
        assert!(conflation.offer(delivery("a", "a4"), later, &mut held, ROOM).delivery.is_none());
        let later = later + Duration::from_millis(100);
        assert_eq!(conflation.release(later, &mut held).map(|d| text(&d)), Some("a4".into()));
        assert!(conflation.release(later + Duration::from_secs(1), &mut held).is_none());
        assert_eq!(conflation.next_release(), None, "nothing is kept of keys that are quiet");
        assert_eq!(held, ConflationSize::default());
    }

    #[test]
    fn keys_beyond_the_limit_are_not_delayed() {
        let (start, mut held) = (Instant::now(), ConflationSize::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        let most = ConflationSize { keys: 1, ..ROOM };
        assert!(conflation.offer(delivery("a", "1"), start, &mut held, most).delivery.is_some());
        assert!(conflation.offer(delivery("b", "1"), start, &mut held, most).delivery.is_some());
        assert!(conflation.offer(delivery("b", "2"), start, &mut held, most).delivery.is_some());
        assert!(conflation.offer(delivery("a", "2"), start, &mut held, most).delivery.is_none());
    }

    #[test]
    fn a_publication_without_room_to_wait_is_sent_at_once_and_the_older_one_of_its_key_is_dropped() {
        let (start, mut held) = (Instant::now(), ConflationSize::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        let key = KEY_BYTES + 1;
        let mut offer = |text: &str, bytes| {
            let most = ConflationSize { bytes, ..ROOM };
            let Offered { delivery, has_replaced } =
                conflation.offer(delivery("a", text), start, &mut held, most);
            (delivery.is_some(), has_replaced, held)
        };
        let load = |bytes| ConflationSize { keys: 1, bytes };
        assert_eq!(offer("1", key - 1), (true, false, ConflationSize::default()), "no room for the key");
        assert_eq!(offer("1", key), (true, false, load(key)));
        assert_eq!(offer("two", key + 4), (true, false, load(key)), "its frame has five bytes");
        assert_eq!(offer("two", key + 5), (false, false, load(key + 5)));
        assert_eq!(offer("four", key + 5), (true, true, load(key)), "what waited is older");
        assert_eq!(offer("x", key + 5), (false, false, load(key + 3)));
        assert_eq!(offer("y", key + 3), (false, true, load(key + 3)), "it takes the place of x");
        let turn = start + Duration::from_secs(1);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("y".into()));
        assert!(conflation.release(turn + Duration::from_secs(1), &mut held).is_none());
        assert_eq!((held.keys, held.bytes), (0, 0), "nothing is kept of keys that are quiet");
    }

    #[test]
    fn release_all_sends_what_waits_and_restarts_the_interval_of_its_keys() {
        let (start, mut held) = (Instant::now(), ConflationSize::default());
        let mut conflation = Conflation::new(Duration::from_secs(10));
        for (key, text) in [("a", "1"), ("b", "1"), ("c", "1"), ("c", "2"), ("a", "2"), ("a", "3")] {
            conflation.offer(delivery(key, text), start, &mut held, ROOM);
        }
        let later = start + Duration::from_secs(4);
        let released: Vec<_> = conflation.release_all(later, &mut held).iter().map(|d| text(d)).collect();
        assert_eq!(released, ["3", "2"], "in the order of their turns");
        assert_eq!(held, ConflationSize { keys: 3, bytes: 3 * (KEY_BYTES + 1) });
        assert!(conflation.release_all(later, &mut held).is_empty());
        assert!(conflation.offer(delivery("a", "4"), later, &mut held, ROOM).delivery.is_none());
        assert!(conflation.release(later + Duration::from_secs(9), &mut held).is_none());
        let turn = later + Duration::from_secs(10);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("4".into()));
        assert!(conflation.release(turn + Duration::from_secs(10), &mut held).is_none());
        assert_eq!((held.keys, held.bytes, conflation.next_release()), (0, 0, None));
    }

    #[test]
    fn drop_waiting_keeps_the_keys_limited() {
        let (start, mut held) = (Instant::now(), ConflationSize::default());
        let mut conflation = Conflation::new(Duration::from_secs(1));
        for (key, text) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("b", "3"), ("c", "1")] {
            conflation.offer(delivery(key, text), start, &mut held, ROOM);
        }
        assert_eq!(conflation.drop_waiting(&mut held), 2);
        assert_eq!((conflation.drop_waiting(&mut held), conflation.waiting()), (0, 0));
        assert_eq!(held, ConflationSize { keys: 3, bytes: 3 * (KEY_BYTES + 1) });
        assert!(conflation.offer(delivery("a", "3"), start, &mut held, ROOM).delivery.is_none());
        let turn = start + Duration::from_secs(1);
        assert_eq!(conflation.release(turn, &mut held).map(|d| text(&d)), Some("3".into()));
        assert!(conflation.release(turn, &mut held).is_none());
        conflation.offer(delivery("a", "4"), turn, &mut held, ROOM);
        conflation.clear(&mut held);
        assert_eq!((held.keys, held.bytes), (0, 0));
    }
}
