//! The link against a model of a server, which is cut off and comes back at any time.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A server as the protocol describes it, and what it has said over the open connection.
#[derive(Default)]
struct Server {
    /// Bytes of the link that are no whole line yet.
    heard: String,
    known: Vec<(u64, String)>,
    /// What is on its way to the link.
    bytes: Vec<u8>,
    delivered: usize,
    /// What it means, and where in all bytes it ends.
    meaning: Vec<(usize, Meaning)>,
    published: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    Message(u64, u64),
    /// It knows these.
    Pong(Vec<u64>),
    Denied,
}

impl Server {
    fn say(&mut self, text: &str, meaning: Option<Meaning>) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.meaning.extend(meaning.map(|meaning| (self.bytes.len(), meaning)));
    }

    fn hear(&mut self, text: &str) {
        self.heard.push_str(text);
        while let Some((line, rest)) = self.heard.split_once("\r\n") {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.heard = rest;
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["CONNECT", ..] | ["PONG"] => {}
                ["PING"] => {
                    let known = self.known.iter().map(|(sid, _)| *sid).collect();
                    self.say("PONG\r\n", Some(Meaning::Pong(known)));
                }
                ["SUB", DENIED, _] => {
                    let denial = format!("-ERR 'Permissions Violation for Subscription to \"{DENIED}\"'\r\n");
                    self.say(&denial, Some(Meaning::Denied));
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
            self.say(&text, Some(Meaning::Message(sid, number)));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Cut,
    Subscribe(usize),
    Unsubscribe(prop::sample::Index),
    /// The server takes so many bytes.
    Send(usize),
    /// The link gets so many bytes.
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
    /// How much of what the server meant has been heard, and who is to open before the next.
    heard: usize,
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
            heard: 0,
            due: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open if !self.is_open => {
                self.server = Server { published: self.server.published, ..Server::default() };
                (self.heard, self.is_open) = (0, true);
                open(&mut self.link, self.now);
            }
            Step::Cut if self.is_open => {
                self.link.cut("test");
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
                self.server.hear(&text);
            }
            Step::Deliver(most) if self.is_open => {
                let end = self.server.bytes.len().min(self.server.delivered + most);
                self.link.room().extend_from_slice(&self.server.bytes[self.server.delivered..end]);
                self.server.delivered = end;
                self.link.received();
            }
            Step::Publish(which) if self.is_open => self.server.publish(SUBJECTS[*which]),
            Step::Ping if self.is_open => self.server.say("PING\r\n", None),
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
            self.hear(&incoming);
        }
        if self.link.ended().is_some() {
            assert_eq!(self.is_lost, self.was_greeted(), "a loss is said of what there was");
            (self.is_open, self.is_lost, self.due) = (false, false, BTreeSet::new());
        }
    }

    /// Whether the server's first answer has come.
    fn was_greeted(&self) -> bool {
        self.server.meaning.first().is_some_and(|(end, _)| *end <= self.server.delivered)
    }

    fn hear(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Message(key, message) => {
                let number = String::from_utf8(message.payload().to_vec()).unwrap().parse().unwrap();
                self.go_to(|meaning| matches!(meaning, Meaning::Message(..)));
                assert_eq!(self.server.meaning[self.heard - 1].1, Meaning::Message(key.0, number));
            }
            Incoming::Opened(key) => {
                if !self.due.contains(&key.0) {
                    self.go_to(|meaning| matches!(meaning, Meaning::Pong(known) if known.contains(&key.0)));
                }
                assert!(self.due.remove(&key.0), "{} is not due", key.0);
                self.opened.insert(key.0);
            }
            Incoming::Failed(key, _) => {
                assert!(self.wanted.iter().all(|(sid, subject)| *sid != key.0 || *subject == DENIED));
                assert!(self.failed.insert(key.0), "said once");
            }
            Incoming::LinkLost => {
                // Everything that had come as a whole was heard.
                let whole = self.server.meaning.iter().filter(|(end, _)| *end <= self.server.delivered);
                let whole = whole.filter(|(_, meaning)| matches!(meaning, Meaning::Message(..))).count();
                let heard = self.server.meaning[..self.heard].iter();
                let heard = heard.filter(|(_, meaning)| matches!(meaning, Meaning::Message(..))).count();
                assert_eq!(heard, whole);
                assert!(!std::mem::replace(&mut self.is_lost, true), "said once");
                self.opened.clear();
            }
            Incoming::Interrupted(_) | Incoming::Malformed(_) => panic!("{incoming:?}"),
        }
    }

    /// Goes on in what the server meant until `is_it`, which must have come as a whole.
    fn go_to(&mut self, is_it: impl Fn(&Meaning) -> bool) {
        loop {
            let late: Vec<_> = self.due.iter().filter(|sid| self.is_wanted(**sid)).collect();
            assert!(late.is_empty(), "{late:?} should have opened");
            let (end, meaning) = self.server.meaning[self.heard].clone();
            assert!(end <= self.server.delivered);
            self.heard += 1;
            if let Meaning::Pong(known) = &meaning {
                self.due = known.iter().copied().filter(|sid| !self.opened.contains(sid)).collect();
            }
            if is_it(&meaning) {
                return;
            }
        }
    }

    fn is_wanted(&self, sid: u64) -> bool {
        self.wanted.iter().any(|(wanted, _)| *wanted == sid)
    }

    /// In the end everything gets through.
    fn settle(&mut self) {
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
    fn in_any_order_everything_comes_once_at_its_place(steps in vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}

#[test]
fn wherever_the_link_is_cut_what_came_stands_before_the_loss() {
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
        world.settle();
    }
}

proptest! {
    #[test]
    fn any_bytes_come_to_the_same_however_they_are_cut(
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
