//! Stored feeds on a model of a stream, with losses in seeded order. A ledger decides whether a feed has told the truth.

mod ledger;
pub(super) mod model;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::lane::stored::tests::ledger::Entry;
use crate::lane::stored::tests::ledger::is_accounted_for;
use crate::lane::stored::tests::model::ModelStream;
use crate::lane::stored::tests::model::Publication;

const LIMITS: HoldLimits = HoldLimits { messages: 4, bytes: 1000 };
const SIZE: usize = 10;

fn message(subject: &str, seq: u64) -> StoredMessage<u64> {
    StoredMessage { subject: subject.into(), seq, content: 0 }
}

fn live(subject: &str, seq: u64, previous: u64) -> LiveMessage<u64> {
    LiveMessage { message: message(subject, seq), previous }
}

fn events(act: impl FnOnce(&mut Vec<FeedEvent<u64>>)) -> Vec<FeedEvent<u64>> {
    let mut events = Vec::new();
    act(&mut events);
    events
}

fn read(query: StreamQuery, repeated: usize) -> FeedEvent<u64> {
    let waits = [0, 50, 100, 200].map(Duration::from_millis);
    let source = if repeated == 3 { ReadFrom::Leader } else { ReadFrom::AnyReplica };
    FeedEvent::Read(Read { query, source, after: waits[repeated] })
}

fn following(from: u64) -> StreamQuery {
    StreamQuery::Following { subject: "a".into(), from }
}

fn discarded(from: u64, to: u64) -> FeedEvent<u64> {
    missing(MissingCause::Discarded, Some(("a".into(), from, to)))
}

fn missing(cause: MissingCause, range: Option<(Arc<str>, u64, u64)>) -> FeedEvent<u64> {
    FeedEvent::Missing(MissingMessages { cause, range })
}

/// A feed of the subject `a` whose newest message has the sequence 10.
fn begun(on_hole: OnHole) -> StoredFeed<u64> {
    let mut feed = StoredFeed::new(Subjects::One, on_hole, LIMITS);
    let opening = events(|events| feed.opened(Replicas::One, 0, events));
    assert_eq!(opening, [read(StreamQuery::Newest { from: 1 }, 0)]);
    let answer = StreamAnswer::Newest { messages: vec![message("a", 10)], up_to: Some(12) };
    let begun = events(|events| feed.answered(answer, events));
    assert_eq!(begun, [FeedEvent::Value(message("a", 10)), FeedEvent::Ready { has_values: true }]);
    assert_eq!(feed.position(), Some(10));
    feed
}

#[test]
fn a_feed_begins_with_the_newest_message_and_what_came_while_it_was_read() {
    let mut feed = StoredFeed::new(Subjects::One, OnHole::Fill, LIMITS);
    assert_eq!(events(|events| feed.live(live("a", 9, 3), SIZE, events)), []);
    feed.opened(Replicas::One, 0, &mut Vec::new());
    assert_eq!(feed.position(), None);
    assert_eq!(events(|events| feed.live(live("a", 10, 9), SIZE, events)), []);
    assert_eq!(events(|events| feed.live(live("a", 14, 10), SIZE, events)), []);
    let answer = StreamAnswer::Newest { messages: vec![message("a", 10)], up_to: Some(12) };
    let expected = [
        FeedEvent::Value(message("a", 10)),
        FeedEvent::Ready { has_values: true },
        FeedEvent::Deliver(message("a", 14)),
    ];
    assert_eq!(events(|events| feed.answered(answer, events)), expected);
    assert_eq!(
        events(|events| feed.live(live("a", 15, 14), SIZE, events)),
        [FeedEvent::Deliver(message("a", 15))]
    );
    assert_eq!(events(|events| feed.live(live("a", 15, 14), SIZE, events)), [FeedEvent::Repeated]);
}

#[test]
fn a_message_that_did_not_arrive_is_read_and_comes_before_the_next() {
    let mut feed = begun(OnHole::Fill);
    assert_eq!(events(|events| feed.live(live("a", 13, 12), SIZE, events)), [read(following(10), 0)]);
    assert_eq!(events(|events| feed.live(live("a", 14, 13), SIZE, events)), []);
    let messages = vec![message("a", 10), message("a", 11), message("a", 12), message("a", 13)];
    let answer = StreamAnswer::Following { messages, pending: 0 };
    let delivered = [11, 12, 13, 14].map(|seq| FeedEvent::Deliver(message("a", seq)));
    assert_eq!(events(|events| feed.answered(answer, events)), delivered);
}

#[test]
fn messages_are_missing_if_the_stream_may_have_discarded_them() {
    // The feed was compared with the stream up to 12.
    let state = |first_seq, max_per_subject| {
        StreamAnswer::State(StreamState { first_seq, max_per_subject, ..StreamState::default() })
    };
    for (answer, expected) in [
        // The subject has as many as it may have.
        (state(1, 2), Some(discarded(13, 28))),
        (state(1, 3), None),
        (state(1, 0), None),
        // The oldest message of the stream is younger.
        (state(14, 3), Some(discarded(13, 28))),
        (state(13, 3), None),
    ] {
        let mut feed = begun(OnHole::Fill);
        feed.live(live("a", 30, 29), SIZE, &mut Vec::new());
        let found =
            StreamAnswer::Following { messages: vec![message("a", 29), message("a", 30)], pending: 0 };
        assert_eq!(events(|events| feed.answered(found, events)), [read(StreamQuery::State, 0)]);
        let delivered = [29, 30].map(|seq| FeedEvent::Deliver(message("a", seq)));
        let expected: Vec<_> = expected.into_iter().chain(delivered).collect();
        assert_eq!(events(|events| feed.answered(answer, events)), expected);
    }
}

#[test]
fn a_replica_that_lags_behind_is_asked_again_and_then_the_leader() {
    let mut feed = begun(OnHole::Fill);
    feed.live(live("a", 30, 29), SIZE, &mut Vec::new());
    for repeated in 1..=3 {
        let answer = StreamAnswer::Following { messages: vec![message("a", 10)], pending: 0 };
        let again = read(following(10), repeated);
        assert_eq!(events(|events| feed.answered(answer, events)), [again]);
    }
    let answer = StreamAnswer::Following { messages: vec![message("a", 10)], pending: 0 };
    let expected = [discarded(11, 29), FeedEvent::Deliver(message("a", 30))];
    assert_eq!(events(|events| feed.answered(answer, events)), expected);
}

#[test]
fn a_newest_message_makes_those_before_it_obsolete_where_the_class_says_so() {
    let mut feed = begun(OnHole::Skip);
    let expected = [FeedEvent::Skipped, FeedEvent::Deliver(message("a", 13))];
    assert_eq!(events(|events| feed.live(live("a", 13, 12), SIZE, events)), expected);
}

#[test]
fn after_a_lost_subscription_only_what_is_newer_is_read() {
    for (on_hole, expected) in [
        (OnHole::Skip, vec![FeedEvent::Deliver(message("a", 20)), FeedEvent::Reopened]),
        (OnHole::Fill, vec![read(following(10), 0)]),
    ] {
        let mut feed = begun(on_hole);
        feed.closed(15);
        let opened = events(|events| feed.opened(Replicas::One, 0, events));
        assert_eq!(opened, [read(StreamQuery::Newest { from: 11 }, 0)]);
        let answer = StreamAnswer::Newest { messages: vec![message("a", 20)], up_to: Some(20) };
        assert_eq!(events(|events| feed.answered(answer, events)), [read(StreamQuery::State, 0)]);
        let state = StreamState { first_seq: 16, ..StreamState::default() };
        assert_eq!(events(|events| feed.answered(StreamAnswer::State(state), events)), expected);
    }
}

#[test]
fn what_came_and_went_while_the_subscription_was_lost_is_missing() {
    let discarded = missing(MissingCause::Discarded, None);
    for (first_seq, expected) in [(16, vec![FeedEvent::Reopened]), (17, vec![discarded, FeedEvent::Reopened])]
    {
        let mut feed = begun(OnHole::Fill);
        feed.closed(15);
        feed.opened(Replicas::One, 0, &mut Vec::new());
        let answer = StreamAnswer::Newest { messages: Vec::new(), up_to: None };
        assert_eq!(events(|events| feed.answered(answer, events)), [read(StreamQuery::State, 0)]);
        let state = StreamState { first_seq, ..StreamState::default() };
        assert_eq!(events(|events| feed.answered(StreamAnswer::State(state), events)), expected);
    }
}

#[test]
fn a_stream_that_cannot_be_read_costs_the_last_values_and_not_the_feed() {
    let mut feed = StoredFeed::new(Subjects::One, OnHole::Fill, LIMITS);
    feed.opened(Replicas::One, 0, &mut Vec::new());
    feed.live(live("a", 10, 9), SIZE, &mut Vec::new());
    for repeated in 1..=3 {
        let again = read(StreamQuery::Newest { from: 1 }, repeated);
        assert_eq!(events(|events| feed.answered(StreamAnswer::Unavailable, events)), [again]);
    }
    let expected = [FeedEvent::Ready { has_values: false }, FeedEvent::Deliver(message("a", 10))];
    assert_eq!(events(|events| feed.answered(StreamAnswer::Unavailable, events)), expected);
    assert_eq!(feed.position(), None);
    // From here on its holes are known.
    assert_eq!(events(|events| feed.live(live("a", 12, 11), SIZE, events)), [read(following(10), 0)]);
}

#[test]
fn a_replaced_stream_is_announced_and_read_from_its_start() {
    let mut feed = begun(OnHole::Fill);
    let expected = [missing(MissingCause::Epoch, None), read(StreamQuery::Newest { from: 1 }, 0)];
    assert_eq!(events(|events| feed.replaced(1, events)), expected);
    let answer = StreamAnswer::Newest { messages: vec![message("a", 2)], up_to: Some(2) };
    assert_eq!(events(|events| feed.answered(answer, events)), [read(following(1), 0)]);
    let answer = StreamAnswer::Following { messages: vec![message("a", 1), message("a", 2)], pending: 0 };
    let delivered = [1, 2].map(|seq| FeedEvent::Deliver(message("a", seq)));
    let filled = events(|events| feed.answered(answer, events));
    assert_eq!(filled[..2], delivered);
}

#[test]
fn a_stream_that_refuses_is_not_asked_again_however_fast_its_messages_come() {
    let mut feed = StoredFeed::new(Subjects::Many, OnHole::Fill, LIMITS);
    feed.opened(Replicas::One, 0, &mut Vec::new());
    for seq in 10..20 {
        feed.live(live("a", seq, seq - 1), SIZE, &mut Vec::new());
    }
    let mut expected = vec![FeedEvent::Ready { has_values: false }];
    expected.extend([10, 11, 12, 13].map(|seq| FeedEvent::Deliver(message("a", seq))));
    expected.push(missing(MissingCause::Unavailable, None));
    assert_eq!(events(|events| feed.answered(StreamAnswer::Refused, events)), expected);
    assert!(feed.is_live() && !feed.has_lost_track(), "another comparison would be refused too");
    let next = events(|events| feed.live(live("a", 20, 19), SIZE, events));
    assert_eq!(next, [FeedEvent::Deliver(message("a", 20))]);
}

#[test]
fn a_quiet_channel_of_a_busy_stream_has_no_gap_after_an_outage() {
    let mut feed = begun(OnHole::Fill);
    // Of this stream, nothing has come over this lane since the feed was compared with it up to 12.
    feed.closed(0);
    feed.opened(Replicas::One, 0, &mut Vec::new());
    let nothing = StreamAnswer::Newest { messages: Vec::new(), up_to: None };
    feed.answered(nothing, &mut Vec::new());
    let state = StreamState { first_seq: 13, ..StreamState::default() };
    assert_eq!(events(|events| feed.answered(StreamAnswer::State(state), events)), [FeedEvent::Reopened]);
}

#[test]
fn a_state_without_an_answer_is_asked_for_again() {
    let mut feed = begun(OnHole::Fill);
    feed.closed(15);
    feed.opened(Replicas::One, 0, &mut Vec::new());
    feed.answered(StreamAnswer::Newest { messages: Vec::new(), up_to: None }, &mut Vec::new());
    for repeated in 1..=3 {
        let again = events(|events| feed.answered(StreamAnswer::Unavailable, events));
        assert_eq!(again, [read(StreamQuery::State, repeated)]);
    }
    let expected = [missing(MissingCause::Discarded, None), FeedEvent::Reopened];
    assert_eq!(events(|events| feed.answered(StreamAnswer::Unavailable, events)), expected);
}

#[test]
fn a_known_message_that_fills_an_answer_alone_is_not_read_again() {
    let mut feed = begun(OnHole::Fill);
    feed.live(live("a", 13, 12), SIZE, &mut Vec::new());
    let alone = StreamAnswer::Following { messages: vec![message("a", 10)], pending: 2 };
    assert_eq!(events(|events| feed.answered(alone, events)), [read(following(11), 0)]);
    let rest = vec![message("a", 11), message("a", 12), message("a", 13)];
    let delivered = [11, 12, 13].map(|seq| FeedEvent::Deliver(message("a", seq)));
    let answer = StreamAnswer::Following { messages: rest, pending: 0 };
    assert_eq!(events(|events| feed.answered(answer, events)), delivered);
}

#[test]
fn a_recheck_that_comes_while_something_is_read_follows_it() {
    let mut feed = begun(OnHole::Fill);
    feed.live(live("a", 13, 12), SIZE, &mut Vec::new());
    assert_eq!(events(|events| feed.recheck(events)), []);
    let messages = vec![message("a", 10), message("a", 12), message("a", 13)];
    let mut expected: Vec<_> = [12, 13].map(|seq| FeedEvent::Deliver(message("a", seq))).into();
    expected.push(read(StreamQuery::Newest { from: 14 }, 0));
    let answer = StreamAnswer::Following { messages, pending: 0 };
    assert_eq!(events(|events| feed.answered(answer, events)), expected);
}

/// A run of one feed on a model, with the ledger of what it has returned.
struct Run {
    rng: Rng,
    stream: ModelStream,
    feed: StoredFeed<u64>,
    on_hole: OnHole,
    is_open: bool,
    will_look_again: bool,
    read: Option<Read>,
    /// By subject: what clients have, as numbers of publications, and where they were told that some are missing.
    ledger: BTreeMap<Arc<str>, Vec<Entry>>,
    subjects: Vec<Arc<str>>,
    is_ready: bool,
    has_values: bool,
    /// By subject: the publication that was its newest when the feed began.
    values: BTreeMap<Arc<str>, u64>,
    /// The publications that the stream did not have any more when the feed began.
    gone: BTreeSet<u64>,
    /// The publications when the subscription was opened from which the feed has begun.
    begin: u64,
    /// The sequence of the last message that arrived.
    seen: u64,
    deliveries: u64,
    gaps: u64,
    script: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let on_hole = if rng.bool() { OnHole::Fill } else { OnHole::Skip };
        let is_one = rng.bool();
        let subjects: &[&str] = if is_one { &["a"] } else { &["a", "b", "c"] };
        let max_per_subject = [0, 3, 8][rng.usize(..3)];
        let replicas = [1, 3][rng.usize(..2)];
        Self {
            stream: ModelStream::new(max_per_subject, replicas),
            feed: StoredFeed::new(if is_one { Subjects::One } else { Subjects::Many }, on_hole, LIMITS),
            rng,
            on_hole,
            is_open: false,
            will_look_again: false,
            read: None,
            ledger: BTreeMap::new(),
            subjects: subjects.iter().map(|subject| (*subject).into()).collect(),
            is_ready: false,
            has_values: true,
            values: BTreeMap::new(),
            gone: BTreeSet::new(),
            begin: 0,
            seen: 0,
            deliveries: 0,
            gaps: 0,
            script: Vec::new(),
        }
    }

    fn step(&mut self) {
        let mut events = Vec::new();
        let choice = self.rng.u32(..100);
        match choice {
            0..30 => {
                // `x` is a subject of the stream that the feed does not have.
                let others = ["x".into()];
                let all: Vec<Arc<str>> = self.subjects.iter().cloned().chain(others).collect();
                let subject = Arc::clone(&all[self.rng.usize(..all.len())]);
                let is_sent = self.is_open && *subject != *"x";
                self.note(format!("publish {subject}"));
                self.stream.publish(&subject, is_sent);
            }
            30..35 => {
                self.note("lose a live message".to_owned());
                self.stream.lose_next();
            }
            35..70 => self.deliver_next(&mut events),
            70..88 => self.answer(&mut events),
            88..91 => {
                let replica = self.rng.usize(..self.stream.replicas.len());
                self.note(format!("replica {replica} catches up"));
                self.stream.catch_up(replica);
            }
            91..93 => {
                self.note("the subscription is lost".to_owned());
                (self.is_open, self.read) = (false, None);
                self.stream.live.clear();
                let lost = self.stream.lost.drain(..).map(|seq| seq - 1).min();
                self.feed.closed(self.seen.min(lost.unwrap_or(self.seen)));
            }
            93..97 => self.open(&mut events),
            // A stream keeps messages for longer than its replicas lag behind: until the feed has looked again.
            97 if !self.will_look_again && !self.feed.must_look_again => {
                let keep = self.rng.u64(..4);
                self.note(format!("the stream keeps {keep} messages"));
                self.stream.keep_newest(keep);
            }
            98 => {
                if self.rng.u32(..4) == 0 {
                    self.note("the stream is replaced".to_owned());
                    self.stream.replace();
                    self.seen = 0;
                    if !self.is_ready {
                        self.begin = self.stream.published.len() as u64;
                    }
                    self.read = None;
                    self.feed.replaced(self.stream.state().first_seq, &mut events);
                }
            }
            _ => self.recheck(&mut events),
        }
        self.record(events);
    }

    fn note(&mut self, step: String) {
        self.script.push(step);
    }

    fn deliver_next(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        if let Some(live) = self.stream.live.pop_front() {
            self.note(format!("live {} {}", live.message.subject, live.message.seq));
            self.seen = live.message.seq;
            self.feed.live(live, SIZE, events);
        }
    }

    fn open(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        if !self.is_open {
            self.note("open".to_owned());
            self.is_open = true;
            if !self.is_ready {
                self.begin = self.stream.published.len() as u64;
            }
            let replicas = if self.stream.replicas.len() == 1 { Replicas::One } else { Replicas::Many };
            self.feed.opened(replicas, self.stream.newest_seq(), events);
        }
    }

    fn recheck(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        if self.is_open {
            self.note("recheck".to_owned());
            self.will_look_again &= !self.feed.is_live();
            (0..self.stream.replicas.len()).for_each(|replica| self.stream.catch_up(replica));
            self.feed.recheck(events);
        }
    }

    fn answer(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        let Some(read) = self.read.take() else { return };
        let replica = self.rng.usize(..self.stream.replicas.len());
        let answer = if self.rng.u32(..10) == 0 {
            StreamAnswer::Unavailable
        } else if self.rng.u32(..100) == 0 {
            StreamAnswer::Refused
        } else {
            let batch = self.rng.usize(2..5);
            self.stream.answer(&read, replica, batch, &self.subjects)
        };
        self.note(format!("answer {read:?} of replica {replica}: {answer:?}"));
        self.feed.answered(answer, events);
    }

    fn record(&mut self, events: Vec<FeedEvent<u64>>) {
        for event in events {
            self.note(format!("    {event:?}"));
            match event {
                FeedEvent::Value(message) => {
                    assert!(!self.is_ready, "a value after the feed has begun");
                    self.check_order(&message);
                    self.values.insert(Arc::clone(&message.subject), message.content);
                    self.entries(&message.subject).push(Entry::Delivered(message.content));
                }
                FeedEvent::Deliver(message) => {
                    assert!(self.is_ready, "delivered before the feed has begun");
                    self.deliveries += 1;
                    self.check_order(&message);
                    self.entries(&message.subject).push(Entry::Delivered(message.content));
                }
                FeedEvent::Missing(MissingMessages { cause, range: Some((subject, from, to)) }) => {
                    assert!(from <= to, "an empty range");
                    self.gaps += 1;
                    let still = self.stream.has(&subject, from, to);
                    assert!(cause == MissingCause::Unavailable || !still, "the stream has what is missing");
                    let epoch = self.stream.epoch;
                    self.entries(&subject).push(Entry::Missing { epoch, from, to });
                }
                FeedEvent::Missing(MissingMessages { range: None, .. }) => {
                    self.gaps += 1;
                    for subject in self.subjects.clone() {
                        self.entries(&subject).push(Entry::MissingAny);
                    }
                }
                FeedEvent::Skipped => {
                    for subject in self.subjects.clone() {
                        self.entries(&subject).push(Entry::Skipped);
                    }
                }
                FeedEvent::Read(read) => {
                    assert!(self.read.is_none(), "two reads at a time");
                    self.read = Some(read);
                }
                FeedEvent::Ready { has_values } => {
                    assert!(!self.is_ready);
                    self.is_ready = true;
                    self.has_values = has_values;
                    if !has_values {
                        self.begin = self.stream.published.len() as u64;
                    }
                    let is_gone = |one: &&Publication| !self.stream.has(&one.subject, one.at.1, one.at.1);
                    self.gone = self.stream.published.iter().filter(is_gone).map(|one| one.number).collect();
                }
                FeedEvent::RecheckSoon => self.will_look_again = true,
                FeedEvent::Repeated | FeedEvent::Reopened => {}
            }
        }
    }

    fn entries(&mut self, subject: &Arc<str>) -> &mut Vec<Entry> {
        self.ledger.entry(Arc::clone(subject)).or_default()
    }

    /// Numbers of publications rise, so what comes twice or out of order does not.
    fn check_order(&mut self, message: &StoredMessage<u64>) {
        let last = self.entries(&message.subject).iter().rev().find_map(|entry| match entry {
            Entry::Delivered(number) => Some(*number),
            Entry::Missing { .. } | Entry::MissingAny | Entry::Skipped => None,
        });
        assert!(last.is_none_or(|last| last < message.content), "{} came again or late", message.content);
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        for replica in 0..self.stream.replicas.len() {
            self.stream.catch_up(replica);
        }
        let mut is_checked = false;
        for _ in 0..10_000 {
            let mut events = Vec::new();
            self.open(&mut events);
            self.record(std::mem::take(&mut events));
            if let Some(read) = self.read.take() {
                let answer = self.stream.answer(&read, 0, 3, &self.subjects);
                self.note(format!("answer {read:?}: {answer:?}"));
                self.feed.answered(answer, &mut events);
            } else if !self.stream.live.is_empty() {
                self.deliver_next(&mut events);
            } else if !std::mem::replace(&mut is_checked, true) {
                // What is missing at the end is found by a check.
                self.recheck(&mut events);
            } else {
                return;
            }
            self.record(events);
        }
        panic!("the feed does not settle");
    }

    /// Every publication since the feed has begun was delivered, or reported missing in its place.
    fn judge(&self) {
        for subject in &self.subjects {
            let entries = self.ledger.get(subject).map(Vec::as_slice).unwrap_or_default();
            let mut begin = self.values.get(subject).copied().unwrap_or(0).max(self.begin);
            if !self.has_values {
                // Clients were told that they do not have what is stored: the first message is where it begins.
                let first = entries.iter().find_map(|entry| match entry {
                    Entry::Delivered(number) => Some(*number),
                    Entry::Missing { .. } | Entry::MissingAny | Entry::Skipped => None,
                });
                begin = begin.max(first.unwrap_or(0));
            }
            let is_due = |one: &&Publication| {
                one.subject == *subject && one.number > begin && !self.gone.contains(&one.number)
            };
            for publication in self.stream.published.iter().filter(is_due) {
                assert!(
                    self.on_hole == OnHole::Skip
                        || is_accounted_for(entries, publication.number, publication.at),
                    "publication {} of {subject} ({:?}) is lost in silence: {entries:?}",
                    publication.number,
                    publication.at,
                );
            }
            let newest = self.stream.newest(subject).filter(|newest| *newest > begin);
            let ends_with = |newest: &Publication| is_accounted_for(entries, newest.number, newest.at);
            let newest =
                newest.and_then(|number| self.stream.published.iter().find(|one| one.number == number));
            assert!(newest.is_none_or(ends_with), "{subject} does not end with the newest");
        }
    }
}

#[test]
fn nothing_is_lost_in_silence_whatever_happens() {
    let (mut deliveries, mut gaps) = (0, 0);
    for seed in 0..2000 {
        let mut run = Run::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..150 {
                run.step();
            }
            run.settle();
            run.judge();
        }));
        if outcome.is_err() {
            panic!("seed {seed}:\n{}", run.script.join("\n"));
        }
        (deliveries, gaps) = (deliveries + run.deliveries, gaps + run.gaps);
    }
    assert!(deliveries > 20_000 && gaps > 1000, "{deliveries} deliveries and {gaps} gaps");
}
