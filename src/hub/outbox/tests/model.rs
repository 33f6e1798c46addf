//! An outbox with a simulated socket that takes a given number of bytes, and a record of everything that was pushed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::Push;
use tidegate_protocol::native::Native;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::outbox::InFlight;
use crate::hub::outbox::Missing;
use crate::hub::outbox::Outbox;
use crate::hub::outbox::entry::QueueEntry;
use crate::hub::outbox::limits::OutboxLimits;

/// The longest frame of the model.
pub(super) const LARGEST: usize = 200;

/// A message on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// A reply: its number within its priority, and among all frames.
    Reply { priority: usize, number: u64, pushed: u64 },
    /// A publication: its priority, its number within its subscription and priority, its numbers within its subscription
    /// and among all frames, and whether it was a last value when the subscription joined.
    Message {
        subscription: usize,
        key: u64,
        priority: usize,
        nth: u64,
        number: u64,
        pushed: u64,
        is_last_value: bool,
    },
    /// A gap.
    Gap { subscription: usize, cause: String, dropped: u64 },
}

/// One write.
pub(super) struct Write {
    /// The frames that were offered to the socket, except the rest of a partly written one.
    pub(super) offered: Vec<(usize, Heard)>,
    /// Whether the client counted as slow before.
    pub(super) slow: bool,
}

pub(super) struct Model {
    pub(super) outbox: Outbox,
    pub(super) classes: Vec<Arc<Class>>,
    pub(super) now: Instant,
    /// The bytes that the socket has taken.
    pub(super) wire: Vec<u8>,
    /// The number of publications of each subscription.
    pub(super) pushed: Vec<u64>,
    /// The same for each priority.
    pub(super) by_priority: Vec<[u64; 3]>,
    /// The last publication of each key, by subscription.
    pub(super) last: Vec<Vec<(u64, u64)>>,
    /// The number of replies of each priority.
    pub(super) replied: [u64; 3],
    /// The number of all frames.
    counted: u64,
    /// Whether the socket was full at some time since the outbox was empty.
    pub(super) slow: bool,
    pub(super) writes: Vec<Write>,
    max_age: Vec<Option<Duration>>,
    delivery_counts: DeliveryCounts,
}

impl Model {
    /// One subscription for each class, on channels `s0`, `s1` …
    pub(super) fn new(classes: &[(Kind, Priority, Option<Duration>)], limits: OutboxLimits) -> Self {
        let outbox = Outbox::new(limits);
        let mut made = Vec::new();
        for (at, (kind, priority, max_age)) in classes.iter().enumerate() {
            let pattern = Pattern::parse(&format!("s{at}")).unwrap();
            let plain = Class::plain(pattern);
            let class = Arc::new(Class { kind: *kind, priority: *priority, max_age: *max_age, ..plain });
            made.push(class);
        }
        Self {
            outbox,
            classes: made,
            now: Instant::now(),
            wire: Vec::new(),
            pushed: vec![0; classes.len()],
            by_priority: vec![[0; 3]; classes.len()],
            last: vec![Vec::new(); classes.len()],
            replied: [0; 3],
            counted: 0,
            slow: false,
            writes: Vec::new(),
            max_age: classes.iter().map(|(_, _, max_age)| *max_age).collect(),
            delivery_counts: DeliveryCounts::default(),
        }
    }

    /// A publication of a subscription.
    pub(super) fn push(&mut self, subscription: usize, key: u64, padding: usize) {
        self.push_all(subscription, &[(key, padding)]);
    }

    /// Consecutive publications of a subscription, with the priority of its class.
    pub(super) fn push_all(&mut self, subscription: usize, publications: &[(u64, usize)]) {
        self.push_with(subscription, self.classes[subscription].priority, publications);
    }

    /// Consecutive publications of a subscription.
    pub(super) fn push_with(
        &mut self,
        subscription: usize,
        priority: Priority,
        publications: &[(u64, usize)],
    ) {
        let expires = self.max_age[subscription].map(|max_age| self.now + max_age);
        let mut deliveries = self.deliveries(subscription, priority, publications, expires, false);
        let batch = DeliveryBatch::pack(&mut deliveries).unwrap();
        self.outbox.push(&batch, id(subscription), &self.classes[subscription]);
        self.audit();
    }

    /// A subscription joins: its confirmation, and its last values, which do not expire. Returns false if the connection
    /// should end.
    pub(super) fn join(&mut self, subscription: usize, values: &[(u64, usize)]) -> bool {
        let priority = self.classes[subscription].priority;
        if !self.reply(priority, 0) {
            return false;
        }
        for value in self.deliveries(subscription, priority, values, None, true) {
            self.outbox.push_last_value(value, id(subscription), &self.classes[subscription]);
            self.audit();
        }
        true
    }

    fn deliveries(
        &mut self,
        subscription: usize,
        priority: Priority,
        publications: &[(u64, usize)],
        expires: Option<Instant>,
        is_last_value: bool,
    ) -> Vec<Rc<Delivery>> {
        let mut deliveries = Vec::new();
        for &(key, padding) in publications {
            let number = self.pushed[subscription];
            self.pushed[subscription] += 1;
            let pushed = self.count();
            let nth = &mut self.by_priority[subscription][priority as usize];
            let message = json!({"s": subscription, "k": key, "q": priority as usize, "i": *nth, "n": number, "c": pushed, "l": is_last_value});
            *nth += 1;
            let (frame, text) = (frame(&message, padding), format!("k{key}").into());
            deliveries.push(Rc::new(Delivery { frame, key: text, priority, expires }));
            let last = &mut self.last[subscription];
            last.retain(|(other, _)| *other != key);
            last.push((key, number));
        }
        deliveries
    }

    /// Pushes a reply. Returns false if the connection should end.
    pub(super) fn reply(&mut self, priority: Priority, padding: usize) -> bool {
        let number = self.replied[priority as usize];
        self.replied[priority as usize] += 1;
        let pushed = self.count();
        let frame = frame(&json!({"r": priority as usize, "n": number, "c": pushed}), padding);
        let taken = self.outbox.push_reply(frame, priority);
        self.audit();
        taken
    }

    /// Lets the socket take `budget` bytes, in writes of at most `max_frames` and about `max_bytes`.
    pub(super) fn flush(&mut self, mut budget: usize, max_frames: usize, max_bytes: usize) {
        loop {
            let mut taken: Vec<InFlight> = Vec::new();
            let none = |_: u32, _: Priority, _: &mut Vec<Missing>| None;
            self.delivery_counts += self.outbox.take(self.now, max_frames, max_bytes, &mut taken, gap, none);
            if taken.is_empty() {
                self.slow = self.slow && !self.outbox.is_empty();
                break;
            }
            assert!(taken.len() <= max_frames + 1, "a write has room for one frame more");
            self.note(&taken);
            let (whole, offset) = self.write(&taken, budget);
            let written = taken[..whole].iter().map(|taken| taken.bytes().len()).sum::<usize>() + offset;
            budget -= written;
            let refused = whole < taken.len();
            if refused {
                self.delivery_counts -= self.outbox.put_back(taken.drain(whole..), offset, |_, _, _| false);
            }
            // If only the rest of a partly written frame waits, there is nothing to replace.
            self.slow = (self.slow || refused) && self.waits_behind_the_rest();
            self.audit();
            if written == 0 {
                break;
            }
        }
    }

    /// Lets the socket take everything.
    pub(super) fn drain(&mut self) {
        let queued_publications = self.outbox.queued_publications().total();
        let all = self.delivery_counts.delivered + self.delivery_counts.dropped + queued_publications;
        self.flush(usize::MAX, 64, 256 * 1024);
        assert!(self.outbox.is_empty());
        assert_eq!(self.outbox.bytes(), 0);
        let mut outgoing = DeliveryCounts::default();
        for heard in self.heard_all() {
            match heard {
                Heard::Reply { .. } | Heard::Message { is_last_value: true, .. } => {}
                Heard::Message { is_last_value: false, .. } => outgoing.delivered += 1,
                Heard::Gap { dropped, .. } => outgoing.dropped += dropped,
            }
        }
        assert_eq!(self.delivery_counts, outgoing, "what is counted is what the client was told");
        assert_eq!(outgoing.delivered + outgoing.dropped, all, "{queued_publications} waited");
        assert_eq!(self.outbox.queued_publications().total(), 0);
    }

    /// How many publications newer ones have replaced since the last call.
    pub(super) fn take_conflated(&mut self) -> u64 {
        let conflated = self.outbox.conflated();
        conflated.map_or(0, |conflated| conflated.drain().map(|(_, count)| count).sum())
    }

    pub(super) fn elapse(&mut self, time: Duration) {
        self.now += time;
    }

    /// All complete messages on the wire, in order, and the number of bytes after them.
    pub(super) fn heard(&self) -> (Vec<Heard>, usize) {
        let mut heard = Vec::new();
        let mut wire = &self.wire[..];
        while let Some((message, rest)) = split_frame(wire) {
            heard.push(read(message));
            wire = rest;
        }
        (heard, wire.len())
    }

    /// All messages on the wire, which must end with a complete one.
    pub(super) fn heard_all(&self) -> Vec<Heard> {
        let (heard, rest) = self.heard();
        assert_eq!(rest, 0, "the wire ends within a frame");
        heard
    }

    fn count(&mut self) -> u64 {
        self.counted += 1;
        self.counted
    }

    fn waits_behind_the_rest(&self) -> bool {
        !self.outbox.queues.is_empty()
    }

    /// Writes until the budget is used up. Returns the number of whole frames, and the bytes of the next one.
    fn write(&mut self, taken: &[InFlight], mut budget: usize) -> (usize, usize) {
        for (at, taken) in taken.iter().enumerate() {
            let bytes = taken.bytes();
            assert!(!bytes.is_empty(), "there is nothing to write of {taken:?}");
            if bytes.len() > budget {
                self.wire.extend_from_slice(&bytes[..budget]);
                return (at, budget);
            }
            self.wire.extend_from_slice(bytes);
            budget -= bytes.len();
        }
        (taken.len(), 0)
    }

    fn note(&mut self, taken: &[InFlight]) {
        let whole = taken.iter().filter(|taken| !matches!(taken.entry, QueueEntry::Rest(_)));
        let mut offered = Vec::new();
        for taken in whole {
            let mut rest = taken.bytes();
            while let Some((message, behind)) = split_frame(rest) {
                offered.push((taken.priority as usize, read(message)));
                rest = behind;
            }
            assert!(rest.is_empty());
        }
        self.writes.push(Write { offered, slow: self.slow });
    }

    /// Checks the invariants.
    fn audit(&self) {
        self.outbox.queues.audit();
    }
}

fn id(subscription: usize) -> SubscriptionId {
    SubscriptionId(u32::try_from(subscription).unwrap())
}

/// A gap in the native protocol.
fn gap(missing: Missing) -> Option<Frame> {
    let Missing { subscription, dropped, cause, .. } = missing;
    let channel = format!("s{}", subscription.0).into();
    Native.channel_push(&Push::Gap { channel, cause, dropped: Some(dropped), range: None }, None)
}

fn frame(message: &Value, padding: usize) -> Frame {
    let mut message = message.clone();
    message["p"] = json!("x".repeat(padding));
    let text = message.to_string();
    let frame = Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()));
    assert!(frame.len() <= LARGEST);
    frame
}

/// The message of the first frame, and the bytes after it, if the frame is complete.
fn split_frame(wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, length) = (wire.first()?, *wire.get(1)?);
    assert_eq!(*first, 0x81, "no whole text frame begins here");
    let (header, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes([*wire.get(2)?, *wire.get(3)?]))),
        length => (2, usize::from(length)),
    };
    let frame = wire.get(..header + length)?;
    Some((&frame[header..], &wire[frame.len()..]))
}

fn read(message: &[u8]) -> Heard {
    let message: Value = serde_json::from_slice(message).unwrap();
    let number = |name: &str| message[name].as_u64().unwrap_or_else(|| panic!("{message}"));
    let place = |name: &str| usize::try_from(number(name)).unwrap();
    if message["type"] == "gap" {
        let channel = message["channel"].as_str().unwrap();
        let subscription = channel.strip_prefix('s').unwrap().parse().unwrap();
        let cause = message["cause"].as_str().unwrap().to_owned();
        return Heard::Gap { subscription, cause, dropped: number("dropped") };
    }
    if message["r"].is_u64() {
        return Heard::Reply { priority: place("r"), number: number("n"), pushed: number("c") };
    }
    Heard::Message {
        subscription: place("s"),
        key: number("k"),
        priority: place("q"),
        nth: number("i"),
        number: number("n"),
        pushed: number("c"),
        is_last_value: message["l"] == true,
    }
}
