//! Queue: what the readers of one connection have for their lane, in order and bounded. What finds no room is counted
//! at its place.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::nats::message::Message;
use crate::nats::subscription::Incoming;
use crate::nats::subscription::SubscriptionKey;

/// How much may wait for the lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages; what is said beside them is counted too, but has room always.
    pub(super) messages: usize,
    /// Bytes of messages.
    pub(super) bytes: usize,
}

/// Where one reader's newest messages are missing, as long as the lane has not heard of it.
#[derive(Debug, Default)]
pub(super) struct Hole(Option<Rc<Cell<u64>>>);

#[derive(Debug)]
enum Entry {
    Incoming(Incoming),
    /// So many messages of this subscription are missing, and it may become more while this waits.
    Missing(SubscriptionKey, Rc<Cell<u64>>),
}

/// What waits for the lane.
#[derive(Debug)]
pub(super) struct Queue {
    entries: RefCell<VecDeque<Entry>>,
    bytes: Cell<usize>,
    bounds: Bounds,
    filled: Notify,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { entries: RefCell::default(), bytes: Cell::new(0), bounds, filled: Notify::new() }
    }

    /// Appends what is no message.
    pub(super) fn push(&self, incoming: Incoming) {
        self.append(Entry::Incoming(incoming));
    }

    /// Appends a message, or notes at its place that it is missing.
    pub(super) fn push_message(&self, key: SubscriptionKey, message: Message, hole: &mut Hole) {
        if !self.is_full() {
            hole.0 = None;
            self.bytes.set(self.bytes.get() + message.size());
            return self.append(Entry::Incoming(Incoming::Message(key, message)));
        }
        match &hole.0 {
            // The queue has the other half: the lane does not know yet, and nothing came since.
            Some(missing) if Rc::strong_count(missing) > 1 => missing.set(missing.get() + 1),
            Some(_) | None => {
                let missing = Rc::new(Cell::new(1));
                hole.0 = Some(Rc::clone(&missing));
                self.append(Entry::Missing(key, missing));
            }
        }
    }

    /// Waits until there is something.
    pub(super) async fn ready(&self) {
        while self.entries.borrow().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Moves up to `max` of what is there to `batch`.
    pub(super) fn take(&self, max: usize, batch: &mut Vec<Incoming>) {
        let mut entries = self.entries.borrow_mut();
        let count = entries.len().min(max);
        for entry in entries.drain(..count) {
            batch.push(match entry {
                Entry::Incoming(incoming) => {
                    if let Incoming::Message(_, message) = &incoming {
                        self.bytes.set(self.bytes.get() - message.size());
                    }
                    incoming
                }
                Entry::Missing(key, missing) => Incoming::Dropped(key, missing.get()),
            });
        }
    }

    fn append(&self, entry: Entry) {
        self.entries.borrow_mut().push_back(entry);
        self.filled.notify_one();
    }

    fn is_full(&self) -> bool {
        self.entries.borrow().len() >= self.bounds.messages || self.bytes.get() >= self.bounds.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn words(queue: &Queue, max: usize) -> Vec<String> {
        let mut batch = Vec::new();
        queue.take(max, &mut batch);
        let word = |incoming| match incoming {
            Incoming::Message(key, message) => format!("{} {}", key.0, message.subject()),
            Incoming::Dropped(key, missing) => format!("{} lost {missing}", key.0),
            Incoming::LinkLost => "link lost".to_owned(),
            Incoming::Opened(_) | Incoming::Failed(..) | Incoming::Overrun(_) | Incoming::Ended(_) => {
                "other".to_owned()
            }
        };
        batch.into_iter().map(word).collect()
    }

    #[test]
    fn nat_02_what_finds_no_room_is_counted_at_its_place() {
        let queue = Queue::new(Bounds { messages: 2, bytes: 1000 });
        let (one, other) = (SubscriptionKey(1), SubscriptionKey(2));
        let (mut hole, mut other_hole) = (Hole::default(), Hole::default());
        let push = |subject, hole: &mut Hole| queue.push_message(one, Message::plain(subject, b""), hole);
        for subject in ["a", "b", "c", "d"] {
            push(subject, &mut hole);
        }
        queue.push_message(other, Message::plain("z", b""), &mut other_hole);
        queue.push(Incoming::LinkLost);
        push("e", &mut hole);
        assert_eq!(words(&queue, 2), ["1 a", "1 b"]);
        push("f", &mut hole);
        assert_eq!(words(&queue, 9), ["1 lost 4", "2 lost 1", "link lost"], "three lines are more than two");
        push("g", &mut hole);
        push("h", &mut hole);
        push("i", &mut hole);
        assert_eq!(words(&queue, 9), ["1 g", "1 h", "1 lost 1"], "said though nothing follows it");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = Queue::new(Bounds { messages: 100, bytes: 10 });
        let (key, mut hole) = (SubscriptionKey(1), Hole::default());
        for _ in 0..4 {
            queue.push_message(key, Message::plain("a", b"1234"), &mut hole);
        }
        assert_eq!(words(&queue, 9), ["1 a", "1 a", "1 lost 2"]);
        queue.push_message(key, Message::plain("b", b""), &mut hole);
        assert_eq!(words(&queue, 9), ["1 b"], "there is room again");
    }

    proptest! {
        #[test]
        fn everything_comes_or_is_counted_in_order(
            steps in vec(prop_oneof![3 => (0_u64..3).prop_map(Some), 1 => Just(None)], 0..200),
            take in 1_usize..6,
        ) {
            let queue = Queue::new(Bounds { messages: 5, bytes: 1000 });
            let mut holes = [Hole::default(), Hole::default(), Hole::default()];
            let (mut sent, mut got) = ([0_u64; 3], [0_u64; 3]);
            let hear = |got: &mut [u64; 3], max| {
                let mut batch = Vec::new();
                queue.take(max, &mut batch);
                for incoming in batch {
                    match &incoming {
                        Incoming::Message(key, message) => {
                            let at = usize::try_from(key.0).unwrap();
                            assert_eq!(message.subject(), got[at].to_string());
                            got[at] += 1;
                        }
                        Incoming::Dropped(key, missing) => got[usize::try_from(key.0).unwrap()] += missing,
                        Incoming::Opened(_)
                        | Incoming::Failed(..)
                        | Incoming::Overrun(_)
                        | Incoming::Ended(_)
                        | Incoming::LinkLost => panic!("{incoming:?}"),
                    }
                }
            };
            for step in steps {
                let Some(key) = step else {
                    hear(&mut got, take);
                    continue;
                };
                let at = usize::try_from(key).unwrap();
                queue.push_message(SubscriptionKey(key), Message::plain(&sent[at].to_string(), b""), &mut holes[at]);
                sent[at] += 1;
                prop_assert!(queue.entries.borrow().len() <= 5 + 3, "bounded");
            }
            hear(&mut got, usize::MAX);
            prop_assert_eq!(sent, got);
        }
    }
}
