//! An inbox keeps its order and its bound, and a shard's queue turns what finds no room into gaps, for any order of
//! events.

use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use tidegate_protocol::class::Priority;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;

fn format() -> Format {
    Format { vocabulary: VocabularyId::NATIVE, route: RouteId(0), encoding: Encoding::JSON }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

/// Publication `number`, of 100 bytes.
fn publication(on: &str, number: usize) -> Item {
    let frame = Frame::text(34, |out| out.extend_from_slice(format!("{number:034}").as_bytes()));
    let item = Item::Publication {
        topic: TopicId::default(),
        pattern: pattern(on),
        key: "key".into(),
        priority: Priority::Normal,
        frames: smallvec::smallvec![(format(), frame)],
    };
    assert_eq!(item.bytes(), 100);
    item
}

fn joined(on: &str) -> Item {
    Item::Joined {
        pattern: pattern(on),
        format: format(),
        snapshot: Snapshot::default(),
        stale: None,
        position: None,
    }
}

fn lost(on: &str) -> Item {
    Item::Gap { pattern: pattern(on), cause: GapCause::Nats, dropped: None, range: None }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Publication { pattern, frames, .. } => {
            let text = String::from_utf8_lossy(frames[0].1.message()).into_owned();
            format!("{} {}", pattern.as_str(), text.parse::<usize>().unwrap())
        }
        Item::Joined { pattern, .. } => format!("{} joined", pattern.as_str()),
        Item::JoinFailed { pattern, .. } => format!("{} unjoined", pattern.as_str()),
        Item::Recovered { pattern, .. } => format!("{} recovered", pattern.as_str()),
        Item::Gap { pattern, cause, dropped, .. } => {
            format!("{} lost {} {dropped:?}", pattern.as_str(), cause.name())
        }
        Item::Elements { pattern, .. } => format!("{} elements", pattern.as_str()),
        Item::Unrenderable { pattern, .. } => format!("{} unrenderable", pattern.as_str()),
        Item::Stale { pattern, .. } => format!("{} stale", pattern.as_str()),
    }
}

fn take_all(inbox: &mut Inbox) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(batch) = inbox.next().now_or_never().flatten() {
        events.extend(batch.items.iter().map(describe));
    }
    events
}

#[test]
fn batches_come_in_order_as_far_as_there_is_room() {
    let (sender, mut inbox) = inbox(250);
    let batch = |number| {
        let mut batch = Batch::default();
        batch.push(publication("a", number));
        batch
    };
    assert!(sender.push(batch(1)).is_ok());
    assert!(sender.push(batch(2)).is_ok());
    assert!(sender.push(batch(3)).is_err(), "300 bytes are too many");
    assert_eq!(take_all(&mut inbox), ["a 1", "a 2"]);
    let mut large = batch(4);
    for number in 5..9 {
        large.push(publication("a", number));
    }
    assert!(sender.push(large).is_ok(), "an empty inbox has room for anything");
    assert!(sender.push(batch(9)).is_err());
    assert_eq!(take_all(&mut inbox).len(), 5);
}

#[test]
fn batches_are_bounded_even_if_they_are_small() {
    let (sender, mut inbox) = inbox(usize::MAX);
    for _ in 0..BATCHES {
        assert!(sender.push(Batch::default()).is_ok());
    }
    assert!(sender.push(Batch::default()).is_err());
    assert_eq!(take_all(&mut inbox), [""; 0]);
    assert!(sender.push(Batch::default()).is_ok());
}

#[test]
fn nat_08_publications_without_room_become_a_gap_in_their_place() {
    let (sender, mut inbox) = inbox(250);
    let mut shard_queue = ShardQueue::new(sender);
    let mut flush = |items: Vec<Item>| {
        items.into_iter().for_each(|item| shard_queue.add(item));
        shard_queue.flush();
    };
    flush(vec![publication("a", 1), publication("b", 1)]);
    flush(vec![publication("a", 2), joined("a"), publication("a", 3), publication("b", 2)]);
    flush(vec![publication("a", 4), lost("b"), publication("b", 3)]);
    assert_eq!(take_all(&mut inbox), ["a 1", "b 1"]);
    flush(vec![publication("a", 5)]);
    assert_eq!(
        take_all(&mut inbox),
        [
            "a lost overflow Some(1)",
            "a joined",
            "a lost overflow Some(2)",
            "b lost overflow Some(2)",
            "b lost nats None",
        ],
        "and what does not fit behind it is owed again"
    );
    flush(vec![publication("a", 6)]);
    assert_eq!(take_all(&mut inbox), ["a lost overflow Some(1)", "a 6"]);
    flush(Vec::new());
    assert_eq!(take_all(&mut inbox), [""; 0]);
}

#[test]
fn a_lane_whose_batch_is_refused_takes_no_room_from_another() {
    let (sender, mut inbox) = inbox(1000);
    let one = || {
        let mut batch = Batch::default();
        batch.push(publication("a", 1));
        batch
    };
    sender.push(one()).unwrap();
    let other = sender.clone();
    std::thread::scope(|threads| {
        let refused = threads.spawn(move || {
            let mut large = Batch::default();
            (0..10).for_each(|number| large.push(publication("b", number)));
            for _ in 0..200_000 {
                large = other.push(large).unwrap_err();
            }
        });
        while !refused.is_finished() {
            assert!(sender.push(one()).is_ok(), "200 bytes of 1000 are taken at most");
            inbox.next().now_or_never().flatten().unwrap();
        }
        refused.join().unwrap();
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next publication of a pattern, and so of a lane.
    Publish(usize),
    Join(usize),
    Lose(usize),
    Flush(usize),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..PATTERNS.len()).prop_map(Step::Publish),
        1 => (0..PATTERNS.len()).prop_map(Step::Join),
        1 => (0..PATTERNS.len()).prop_map(Step::Lose),
        6 => (0..2_usize).prop_map(Step::Flush),
        2 => Just(Step::Take),
    ]
}

/// The first two belong to one lane, the last two to another.
const PATTERNS: [&str; 4] = ["a", "b", "c", "d"];

/// What a lane published on one pattern, and what the shard received.
#[derive(Debug, Default)]
struct Account {
    published: usize,
    /// How many publications came before each join and each loss of the connection.
    joins: Vec<usize>,
    losses: Vec<usize>,
    delivered: usize,
    accounted: usize,
    joins_received: usize,
    losses_received: usize,
}

impl Account {
    fn receive(&mut self, item: &Item) {
        match item {
            Item::Publication { .. } => {
                let number: usize = describe(item).split(' ').nth(1).unwrap().parse().unwrap();
                assert_eq!(number, self.accounted, "neither lost in silence, nor repeated, nor out of order");
                self.accounted += 1;
                self.delivered = self.accounted;
            }
            Item::Joined { .. } => {
                assert_eq!(
                    self.accounted, self.joins[self.joins_received],
                    "the gap before a join comes before it"
                );
                self.joins_received += 1;
            }
            Item::Gap { cause: GapCause::Overflow, dropped, .. } => {
                self.accounted += usize::try_from(dropped.unwrap()).unwrap();
            }
            Item::Gap { .. } => {
                let place = self.losses[self.losses_received];
                assert!(self.delivered <= place && place <= self.accounted, "in its place");
                self.losses_received += 1;
            }
            Item::Elements { .. }
            | Item::Recovered { .. }
            | Item::JoinFailed { .. }
            | Item::Unrenderable { .. }
            | Item::Stale { .. } => panic!("{item:?}"),
        }
    }
}

struct Lanes {
    shard_queues: [ShardQueue; 2],
    inbox: Inbox,
    accounts: [Account; 4],
}

impl Lanes {
    fn new(limit: usize) -> Self {
        let (sender, inbox) = inbox(limit);
        let shard_queues = [ShardQueue::new(sender.clone()), ShardQueue::new(sender)];
        Self { shard_queues, inbox, accounts: Default::default() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(at) => {
                self.add(at, publication(PATTERNS[at], self.accounts[at].published));
                self.accounts[at].published += 1;
            }
            Step::Join(at) => {
                self.accounts[at].joins.push(self.accounts[at].published);
                self.add(at, joined(PATTERNS[at]));
            }
            Step::Lose(at) => {
                self.accounts[at].losses.push(self.accounts[at].published);
                self.add(at, lost(PATTERNS[at]));
            }
            Step::Flush(lane) => self.shard_queues[lane].flush(),
            Step::Take => self.take(),
        }
    }

    fn add(&mut self, at: usize, item: Item) {
        self.shard_queues[at / 2].add(item);
    }

    fn take(&mut self) {
        let Some(batch) = self.inbox.next().now_or_never().flatten() else {
            return;
        };
        for item in &batch.items {
            let name = describe(item);
            let at = PATTERNS.iter().position(|pattern| name.starts_with(pattern)).unwrap();
            self.accounts[at].receive(item);
        }
    }
}

proptest! {
    #[test]
    fn nat_08_in_any_order_everything_is_delivered_or_counted_in_a_gap(steps in vec(step(), 0..200), limit in 200_usize..2000) {
        let mut lanes = Lanes::new(limit);
        let mut largest = limit;
        for step in steps {
            largest = largest.max(lanes.shard_queues.iter().map(|shard_queue| shard_queue.batch.bytes.max(shard_queue.backlog.bytes)).max().unwrap());
            lanes.step(step);
            prop_assert!(lanes.inbox.bytes.load(Ordering::SeqCst) <= largest, "bounded");
        }
        while lanes.shard_queues.iter().any(|shard_queue| shard_queue.has_backlog() || !shard_queue.batch.is_empty()) {
            lanes.shard_queues.iter_mut().for_each(ShardQueue::flush);
            lanes.take();
        }
        while lanes.inbox.bytes.load(Ordering::SeqCst) > 0 {
            lanes.take();
        }
        for account in &lanes.accounts {
            prop_assert_eq!(account.accounted, account.published);
            prop_assert_eq!((account.joins_received, account.losses_received), (account.joins.len(), account.losses.len()));
        }
    }
}
