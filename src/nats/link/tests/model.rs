//! A link against a model of a server, with connections that end at any time.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A server as the protocol describes it, and what it has sent on the open connection.
#[derive(Default)]
struct Server {
    /// The start of a line whose end has not arrived.
    received: String,
    known: Vec<(u64, String)>,
    /// All bytes that it has sent to the link.
    bytes: Vec<u8>,
    delivered: usize,
    /// Its events, and where each ends in `bytes`.
    events: Vec<(usize, ServerEvent)>,
    published: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum ServerEvent {
    Message(u64, u64),
    /// A `PONG` that confirms these subscriptions.
    Pong(Vec<u64>),
    Denied,
}

impl Server {
    fn send(&mut self, text: &str, events: Option<ServerEvent>) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.events.extend(events.map(|events| (self.bytes.len(), events)));
    }

    fn receive(&mut self, text: &str) {
        self.received.push_str(text);
        while let Some((line, rest)) = self.received.split_once("\r\n") {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.received = rest;
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["CONNECT", ..] | ["PONG"] => {}
                ["PING"] => {
                    let known = self.known.iter().map(|(sid, _)| *sid).collect();
                    self.send("PONG\r\n", Some(ServerEvent::Pong(known)));
                }
                ["SUB", DENIED, _] => {
                    let denial = format!("-ERR 'Permissions Violation for Subscription to \"{DENIED}\"'\r\n");
                    self.send(&denial, Some(ServerEvent::Denied));
                }
                ["SUB", subject, sid] => self.known.push((sid.parse().unwrap(), subject.to_owned())),
                ["UNSUB", sid] => {
                    let sid: u64 = sid.parse().unwrap();
                    self.known.retain(|(known, _)| *known != sid);
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn publish(&mut self, subject: &str) {
        self.published += 1;
        let number = self.published;
        let to: Vec<u64> =
            self.known.iter().filter(|(_, known)| known == subject).map(|(sid, _)| *sid).collect();
        for sid in to {
            let text = format!("MSG {subject} {sid} {}\r\n{number}\r\n", number.to_string().len());
            self.send(&text, Some(ServerEvent::Message(sid, number)));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Cut,
    Subscribe(usize),
    Unsubscribe(prop::sample::Index),
    /// The server reads this many bytes.
    Send(usize),
    /// The link reads this many bytes.
    Deliver(usize),
    Publish(usize),
    Ping,
    Take(usize),
}

const SUBJECTS: [&str; 4] = ["a", "b.c", "d", DENIED];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        1 => Just(Step::Cut),
        4 => (0..SUBJECTS.len()).prop_map(Step::Subscribe),
        2 => any::<prop::sample::Index>().prop_map(Step::Unsubscribe),
        6 => prop_oneof![1_usize..8, Just(1000)].prop_map(Step::Send),
        6 => prop_oneof![1_usize..8, Just(1000)].prop_map(Step::Deliver),
        6 => (0..SUBJECTS.len() - 1).prop_map(Step::Publish),
        1 => Just(Step::Ping),
        6 => (1_usize..5).prop_map(Step::Take),
    ]
}

struct World {
    link: Link,
    server: Server,
    now: Instant,
    is_open: bool,
    is_lost: bool,
    wanted: Vec<(u64, &'static str)>,
    failed: BTreeSet<u64>,
    opened: BTreeSet<u64>,
    /// How many of the server's events the link has delivered, and which subscriptions must open before the next.
    received: usize,
    due: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            link: link(now),
            server: Server::default(),
            now,
            is_open: false,
            is_lost: false,
            wanted: Vec::new(),
            failed: BTreeSet::new(),
            opened: BTreeSet::new(),
            received: 0,
            due: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open if !self.is_open => {
                self.server = Server { published: self.server.published, ..Server::default() };
                (self.received, self.is_open) = (0, true);
                open(&mut self.link, self.now);
            }
            Step::Cut if self.is_open => {
                self.link.disconnect("test");
                while self.is_open {
                    self.take(3);
                }
            }
            Step::Subscribe(which) => {
                let key = self.link.subscribe(&pattern(SUBJECTS[*which]));
                self.wanted.push((key.0, SUBJECTS[*which]));
            }
            Step::Unsubscribe(which) if !self.wanted.is_empty() => {
                let (sid, _) = self.wanted.swap_remove(which.index(self.wanted.len()));
                self.link.unsubscribe(SubscriptionKey(sid));
            }
            Step::Send(most) if self.is_open => {
                let unsent = self.link.unsent();
                let size = unsent.len().min(*most);
                let text = String::from_utf8(unsent[..size].to_vec()).unwrap();
                self.link.sent(size);
                self.server.receive(&text);
            }
            Step::Deliver(most) if self.is_open => {
                let end = self.server.bytes.len().min(self.server.delivered + most);
                self.link.read_buffer().extend_from_slice(&self.server.bytes[self.server.delivered..end]);
                self.server.delivered = end;
                self.link.received();
            }
            Step::Publish(which) if self.is_open => self.server.publish(SUBJECTS[*which]),
            Step::Ping if self.is_open => self.server.send("PING\r\n", None),
            Step::Take(max) => self.take(*max),
            Step::Open
            | Step::Cut
            | Step::Unsubscribe(_)
            | Step::Send(_)
            | Step::Deliver(_)
            | Step::Publish(_)
            | Step::Ping => {}
        }
    }

    fn take(&mut self, max: usize) {
        let mut batch = Vec::new();
        self.link.take(max, &mut batch);
        assert!(batch.len() <= max);
        for incoming in batch {
            self.receive(&incoming);
        }
        if self.link.take_end_reason().is_some() {
            assert_eq!(self.is_lost, self.was_connected(), "a lost link is reported if it was up");
            (self.is_open, self.is_lost, self.due) = (false, false, BTreeSet::new());
        }
    }

    /// Whether the server's first `PONG` has arrived.
    fn was_connected(&self) -> bool {
        self.server.events.first().is_some_and(|(end, _)| *end <= self.server.delivered)
    }

    fn receive(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Message(key, message) => {
                let number = String::from_utf8(message.payload().to_vec()).unwrap().parse().unwrap();
                self.go_to(|events| matches!(events, ServerEvent::Message(..)));
                assert_eq!(self.server.events[self.received - 1].1, ServerEvent::Message(key.0, number));
            }
            Incoming::Opened(key) => {
                if !self.due.contains(&key.0) {
                    self.go_to(|events| matches!(events, ServerEvent::Pong(known) if known.contains(&key.0)));
                }
                assert!(self.due.remove(&key.0), "{} is not due", key.0);
                self.opened.insert(key.0);
            }
            Incoming::Failed(key, _) => {
                assert!(self.wanted.iter().all(|(sid, subject)| *sid != key.0 || *subject == DENIED));
                assert!(self.failed.insert(key.0), "reported once");
            }
            Incoming::LinkLost => {
                // Every message that had arrived completely was delivered.
                let whole = self.server.events.iter().filter(|(end, _)| *end <= self.server.delivered);
                let whole = whole.filter(|(_, events)| matches!(events, ServerEvent::Message(..))).count();
                let received = self.server.events[..self.received].iter();
                let received =
                    received.filter(|(_, events)| matches!(events, ServerEvent::Message(..))).count();
                assert_eq!(received, whole);
                assert!(!std::mem::replace(&mut self.is_lost, true), "reported once");
                self.opened.clear();
            }
            Incoming::Interrupted(_) | Incoming::Malformed(_) => panic!("{incoming:?}"),
        }
    }

    /// Advances in the server's events to the first that matches, which must have arrived completely.
    fn go_to(&mut self, is_it: impl Fn(&ServerEvent) -> bool) {
        loop {
            let late: Vec<_> = self.due.iter().filter(|sid| self.is_wanted(**sid)).collect();
            assert!(late.is_empty(), "{late:?} should have opened");
            let (end, events) = self.server.events[self.received].clone();
            assert!(end <= self.server.delivered);
            self.received += 1;
            if let ServerEvent::Pong(known) = &events {
                self.due = known.iter().copied().filter(|sid| !self.opened.contains(sid)).collect();
            }
            if is_it(&events) {
                return;
            }
        }
    }

    fn is_wanted(&self, sid: u64) -> bool {
        self.wanted.iter().any(|(wanted, _)| *wanted == sid)
    }

    /// In the end everything is delivered.
    fn finish(&mut self) {
        for _ in 0..8 {
            for step in [Step::Open, Step::Send(usize::MAX), Step::Deliver(1 << 20), Step::Take(1 << 20)] {
                self.step(&step);
            }
        }
        let mut known: Vec<_> = self.server.known.iter().map(|(sid, _)| *sid).collect();
        let mut wanted: Vec<_> =
            self.wanted.iter().filter(|(_, subject)| *subject != DENIED).map(|(sid, _)| *sid).collect();
        known.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(known, wanted);
        assert!(wanted.iter().all(|sid| self.opened.contains(sid)));
        let denied = self.wanted.iter().filter(|(_, subject)| *subject == DENIED);
        assert!(denied.map(|(sid, _)| sid).all(|sid| self.failed.contains(sid)));
    }
}

proptest! {
    #[test]
    fn in_any_order_everything_is_delivered_once_and_in_place(steps in vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}

#[test]
fn wherever_the_link_ends_earlier_messages_come_first() {
    let mut full = World::new();
    let steps = [
        Step::Open,
        Step::Subscribe(0),
        Step::Subscribe(3),
        Step::Send(1000),
        Step::Deliver(1000),
        Step::Take(10),
        Step::Subscribe(1),
        Step::Send(1000),
        Step::Publish(0),
        Step::Publish(1),
        Step::Ping,
        Step::Publish(0),
    ];
    steps.iter().for_each(|step| full.step(step));
    let (from, to) = (full.server.delivered, full.server.bytes.len());
    assert!(to - from > 100, "{from} {to}");
    for cut in 0..=to - from {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.step(&Step::Deliver(cut));
        world.step(&Step::Cut);
        world.finish();
    }
}

proptest! {
    #[test]
    fn any_bytes_give_the_same_events_in_any_chunks(
        pieces in vec(
            prop_oneof![
                vec(any::<u8>(), 0..6),
                Just(b"PONG\r\n".to_vec()),
                Just(b"PING\r\n".to_vec()),
                Just(b"MSG a.b 1 2\r\nhi\r\n".to_vec()),
                Just(b"MSG a.\xff 2 2\r\nhi\r\n".to_vec()),
                Just(b"HMSG a 3 18 19\r\nNATS/1.0\r\na: 1\r\n\r\nx\r\n".to_vec()),
                Just(b"-ERR 'Permissions Violation for Subscription to \"a.b\"'\r\n".to_vec()),
                Just(b"-ERR 'maximum subscriptions exceeded'\r\n".to_vec()),
                Just(b"-ERR 'Stale Connection'\r\n".to_vec()),
                Just(b"INFO {\"ldm\":true}\r\n".to_vec()),
                Just(b"INFO {\r\n".to_vec()),
            ],
            0..12,
        ),
        size in 1_usize..9,
    ) {
        let bytes = pieces.concat();
        prop_assert_eq!(crate::nats::fuzz::link(&bytes, bytes.len()), crate::nats::fuzz::link(&bytes, size));
    }
}
