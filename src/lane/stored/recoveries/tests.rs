//! Recoveries by table, and on a model of a stream with a feed that loses messages, in seeded order.

use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::lane::stored::FeedEvent;
use crate::lane::stored::OnHole;
use crate::lane::stored::StoredFeed;
use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::Subjects;
use crate::lane::stored::tests::model::ModelStream;

type Event = RecoveryEvent<u64, usize>;

const SIZE: usize = 10;
const SEEDS: u64 = 2000;

fn message(seq: u64) -> StoredMessage<u64> {
    StoredMessage { subject: "a".into(), seq, content: seq }
}

fn at(seq: u64) -> FeedPosition {
    FeedPosition { is_live: true, seq: Some(seq), replicas: Replicas::One }
}

fn following(from: u64) -> Event {
    let query = StreamQuery::Following { subject: "a".into(), from };
    RecoveryEvent::Read(Read { query, source: ReadFrom::AnyReplica, after: Duration::ZERO })
}

fn state() -> Event {
    let (query, source) = (StreamQuery::State, ReadFrom::AnyReplica);
    RecoveryEvent::Read(Read { query, source, after: Duration::ZERO })
}

fn found(waiter: usize, seqs: &[u64]) -> Event {
    let messages = seqs.iter().copied().map(message).collect();
    RecoveryEvent::Recovered { waiter, hole: None, after: 0, messages }
}

/// The events with the messages that each client gets.
fn plain(events: Vec<Event>) -> Vec<Event> {
    let plain = |event| match event {
        RecoveryEvent::Recovered { waiter, hole, after, messages } => {
            let messages = messages.iter().filter(|message| message.seq > after).cloned().collect();
            RecoveryEvent::Recovered { waiter, hole, after: 0, messages }
        }
        event @ (RecoveryEvent::Read(_) | RecoveryEvent::Recheck | RecoveryEvent::Unrecoverable { .. }) => {
            event
        }
    };
    events.into_iter().map(plain).collect()
}

fn unrecoverable(waiter: usize, cause: Unrecoverable) -> Event {
    RecoveryEvent::Unrecoverable { waiter, cause }
}

fn answer(seqs: &[u64], pending: u64) -> StreamAnswer<u64> {
    StreamAnswer::Following { messages: seqs.iter().copied().map(message).collect(), pending }
}

/// Recoveries of a feed that has begun at 10, and has delivered these messages since.
fn begun(delivered: &[u64]) -> Recoveries<u64, usize> {
    let mut recoveries = Recoveries::new("a".into(), RecoversBy::Messages, 10 * SIZE);
    recoveries.note_value(10);
    recoveries.advance(at(10), &mut Vec::new());
    delivered.iter().for_each(|seq| recoveries.delivered(message(*seq), SIZE));
    recoveries
}

fn asked(recoveries: &mut Recoveries<u64, usize>, waiter: usize, after: u64, position: u64) -> Vec<Event> {
    let mut events = Vec::new();
    assert_eq!(recoveries.ask(waiter, after), None);
    recoveries.advance(at(position), &mut events);
    plain(events)
}

fn answered(recoveries: &mut Recoveries<u64, usize>, answer: StreamAnswer<u64>, position: u64) -> Vec<Event> {
    let mut events = Vec::new();
    recoveries.answered(answer, at(position), |_| SIZE, &mut events);
    recoveries.advance(at(position), &mut events);
    plain(events)
}

#[test]
fn what_was_delivered_lately_comes_out_of_memory() {
    let mut recoveries = begun(&[12, 15]);
    assert_eq!(asked(&mut recoveries, 1, 10, 15), [found(1, &[12, 15])]);
    assert_eq!(asked(&mut recoveries, 2, 13, 15), [found(2, &[15])]);
    assert_eq!(asked(&mut recoveries, 3, 15, 15), [found(3, &[])]);
}

#[test]
fn one_read_answers_all_who_wait_and_is_kept() {
    let mut recoveries = begun(&[12]);
    assert_eq!(asked(&mut recoveries, 1, 3, 12), [following(3)]);
    assert_eq!(asked(&mut recoveries, 2, 7, 12), []);
    recoveries.delivered(message(14), SIZE);
    // The stream has 15 already, which the feed has not delivered yet.
    let events = answered(&mut recoveries, answer(&[3, 7, 10, 12, 14, 15], 0), 14);
    assert_eq!(events, [found(1, &[7, 10, 12, 14]), found(2, &[10, 12, 14])]);
    assert_eq!(asked(&mut recoveries, 3, 3, 14), [found(3, &[7, 10, 12, 14])]);
    assert_eq!(asked(&mut recoveries, 4, 2, 14), [following(2)]);
}

#[test]
fn who_asks_for_older_messages_than_are_being_read_waits_for_the_next_read() {
    let mut recoveries = begun(&[]);
    assert_eq!(asked(&mut recoveries, 1, 7, 10), [following(7)]);
    assert_eq!(asked(&mut recoveries, 2, 3, 10), []);
    assert_eq!(answered(&mut recoveries, answer(&[7, 10], 0), 10), [found(1, &[10]), following(3)]);
}

#[test]
fn messages_are_missing_if_the_one_of_the_position_is_gone_and_the_stream_may_have_discarded_others() {
    for (first_seq, max_per_subject, hole) in [
        (1, 0, None),
        (1, 3, None),
        (4, 0, None),
        (5, 0, Some(Hole { from: 4, to: 6, is_discarded: true })),
        (1, 2, Some(Hole { from: 4, to: 6, is_discarded: true })),
    ] {
        let mut recoveries = begun(&[]);
        assert_eq!(asked(&mut recoveries, 1, 3, 10), [following(3)]);
        assert_eq!(answered(&mut recoveries, answer(&[7, 10], 0), 10), [state()]);
        let facts = StreamAnswer::State(StreamState { first_seq, last_seq: 10, max_per_subject });
        let messages = [message(7), message(10)].into();
        let expected = RecoveryEvent::Recovered { waiter: 1, hole, after: 0, messages };
        assert_eq!(answered(&mut recoveries, facts, 10), [expected], "{first_seq} {max_per_subject}");
    }
}

/// The state of a stream that has had this sequence.
fn had(last_seq: u64) -> StreamAnswer<u64> {
    StreamAnswer::State(StreamState { first_seq: 1, last_seq, max_per_subject: 0 })
}

fn next_of_leader(from: u64) -> Event {
    let query = StreamQuery::Following { subject: "a".into(), from };
    RecoveryEvent::Read(Read { query, source: ReadFrom::Leader, after: Duration::ZERO })
}

#[test]
fn a_client_ahead_of_the_feed_has_everything_if_the_stream_has_nothing_in_between() {
    let mut recoveries = begun(&[]);
    assert_eq!(asked(&mut recoveries, 1, 12, 10), [state()]);
    // It comes while the stream is being asked, so it is asked again.
    assert_eq!(asked(&mut recoveries, 2, 40, 10), []);
    assert_eq!(answered(&mut recoveries, had(20), 10), [state()]);
    let never = unrecoverable(2, Unrecoverable::Epoch);
    assert_eq!(answered(&mut recoveries, had(20), 10), [never, next_of_leader(11)]);
    assert_eq!(answered(&mut recoveries, answer(&[15], 0), 10), [found(1, &[])]);
}

#[test]
fn a_client_ahead_waits_until_the_feed_has_delivered_what_the_stream_has_in_between() {
    let mut recoveries = begun(&[]);
    assert_eq!(asked(&mut recoveries, 1, 14, 10), [state()]);
    assert_eq!(answered(&mut recoveries, had(20), 10), [next_of_leader(11)]);
    let mut events = Vec::new();
    recoveries.answered(answer(&[12], 0), at(10), |_| SIZE, &mut events);
    assert_eq!(events, [RecoveryEvent::Recheck]);
    recoveries.delivered(message(12), SIZE);
    events.clear();
    recoveries.advance(at(12), &mut events);
    assert_eq!(events, [next_of_leader(13)]);
    assert_eq!(answered(&mut recoveries, answer(&[], 0), 12), [found(1, &[])]);
}

#[test]
fn who_is_too_old_is_told_without_another_read() {
    let mut recoveries = Recoveries::new("a".into(), RecoversBy::Messages, 1000);
    assert_eq!(asked(&mut recoveries, 1, 2, 2000), [following(2)]);
    let seqs: Vec<u64> = (2..502).collect();
    let too_many = |waiter| unrecoverable(waiter, Unrecoverable::TooMany);
    assert_eq!(answered(&mut recoveries, answer(&seqs, 200), 2000), [too_many(1)]);
    assert_eq!(asked(&mut recoveries, 2, 200, 2000), [too_many(2)]);
    assert_eq!(asked(&mut recoveries, 3, 201, 2000), [following(201)]);
}

#[test]
fn who_is_near_is_answered_although_others_are_far() {
    let mut recoveries = Recoveries::new("a".into(), RecoversBy::Messages, 1000);
    let ahead = [1, 600, 1200, 1800, 4800];
    ahead.iter().for_each(|after| assert_eq!(recoveries.ask(*after as usize, *after), None));
    let mut events = Vec::new();
    recoveries.advance(at(5000), &mut events);
    for _ in 0..20 {
        let Some(RecoveryEvent::Read(Read { query: StreamQuery::Following { from, .. }, .. })) =
            events.last()
        else {
            break;
        };
        let seqs: Vec<u64> = (*from..=5000).collect();
        let page = &seqs[..seqs.len().min(500)];
        let page = answer(page, (seqs.len() - page.len()) as u64);
        let more = answered(&mut recoveries, page, 5000);
        events.extend(more);
    }
    let is_near = |event: &&Event| matches!(event, RecoveryEvent::Recovered { waiter: 4800, messages, .. } if messages.len() == 200);
    assert_eq!(events.iter().filter(is_near).count(), 1, "{events:?}");
}

#[test]
fn who_has_missed_too_much_is_told_and_others_are_read_for() {
    let mut recoveries = Recoveries::new("a".into(), RecoversBy::Messages, 1000);
    assert_eq!(asked(&mut recoveries, 1, 2, 2000), [following(2)]);
    assert_eq!(asked(&mut recoveries, 2, 150, 2000), []);
    assert_eq!(asked(&mut recoveries, 3, 400, 2000), []);
    let seqs: Vec<u64> = (2..502).collect();
    let events = answered(&mut recoveries, answer(&seqs, 200), 2000);
    let too_many = Unrecoverable::TooMany;
    assert_eq!(events, [unrecoverable(1, too_many), unrecoverable(2, too_many), following(400)]);
}

#[test]
fn without_a_stream_no_one_waits_for_ever() {
    let mut recoveries = begun(&[]);
    assert_eq!(asked(&mut recoveries, 1, 2, 10), [following(2)]);
    for _ in 0..REPEAT_AFTER.len() {
        let events = answered(&mut recoveries, StreamAnswer::Unavailable, 10);
        assert!(matches!(events[..], [RecoveryEvent::Read(_)]), "{events:?}");
    }
    let unavailable = unrecoverable(1, Unrecoverable::Unavailable);
    assert_eq!(answered(&mut recoveries, StreamAnswer::Unavailable, 10), [unavailable]);
}

#[test]
fn memory_is_bounded_and_what_it_lacks_is_read() {
    let mut recoveries = begun(&(11..=40).collect::<Vec<_>>());
    assert_eq!(recoveries.recent_bytes(), 10 * SIZE);
    assert_eq!(asked(&mut recoveries, 1, 30, 40), [found(1, &(31..=40).collect::<Vec<_>>())]);
    assert_eq!(asked(&mut recoveries, 2, 29, 40), [following(29)]);
    recoveries.lost(None);
    assert_eq!(recoveries.recent_bytes(), 0);
}

#[test]
fn last_values_are_kept_by_the_feed_and_not_here() {
    let mut recoveries = Recoveries::new("a".into(), RecoversBy::Values, 1000);
    recoveries.advance(at(10), &mut Vec::new());
    recoveries.delivered(message(12), SIZE);
    assert_eq!((recoveries.recent_bytes(), asked(&mut recoveries, 1, 3, 12)), (0, vec![found(1, &[])]));
}

/// A client that comes back.
struct Client {
    after: u64,
    epoch: u64,
}

/// A client that has recovered up to a position, and is told since then what the feed tells.
struct LiveClient {
    position: u64,
    hole: Option<Hole>,
    delivered: Vec<u64>,
    missing: Vec<(u64, u64)>,
}

/// A feed of the subject `a` and its recoveries, on a model of a stream.
struct Run {
    rng: Rng,
    stream: ModelStream,
    feed: StoredFeed<u64>,
    recoveries: Recoveries<u64, usize>,
    read_of_feed: Option<Read>,
    read_of_recoveries: Option<Read>,
    is_open: bool,
    will_look_again: bool,
    seen: u64,
    clients: Vec<Option<Client>>,
    live_clients: Vec<LiveClient>,
    answers: [usize; 3],
    script: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (max_per_subject, replicas) = (rng.u64(0..5), rng.usize(1..3));
        let limits = HoldLimits { messages: 4, bytes: 1000 };
        let max_bytes = rng.usize(0..6) * SIZE;
        Self {
            stream: ModelStream::new(max_per_subject, replicas),
            feed: StoredFeed::new(Subjects::One, OnHole::Fill, limits),
            recoveries: Recoveries::new("a".into(), RecoversBy::Messages, max_bytes),
            read_of_feed: None,
            read_of_recoveries: None,
            is_open: false,
            will_look_again: false,
            seen: 0,
            clients: Vec::new(),
            live_clients: Vec::new(),
            answers: [0; 3],
            script: Vec::new(),
            rng,
        }
    }

    fn position(&self) -> FeedPosition {
        FeedPosition {
            is_live: self.feed.is_live(),
            seq: self.feed.position(),
            replicas: self.feed.replicas(),
        }
    }

    fn step(&mut self) {
        let mut events = Vec::new();
        match self.rng.u32(..100) {
            0..25 => {
                let subject = if self.rng.u32(..4) == 0 { "x" } else { "a" }.into();
                self.stream.publish(&subject, self.is_open && *subject == *"a");
            }
            25..28 => self.stream.lose_next(),
            28..55 => {
                if let Some(live) = self.stream.live.pop_front() {
                    self.seen = live.message.seq;
                    self.feed.live(live, SIZE, &mut events);
                }
            }
            55..75 => self.answer(&mut events),
            75..78 => {
                let replica = self.rng.usize(..self.stream.replicas.len());
                self.stream.catch_up(replica);
            }
            78..80 => {
                (self.is_open, self.read_of_feed, self.read_of_recoveries) = (false, None, None);
                self.stream.live.clear();
                let lost = self.stream.lost.drain(..).map(|seq| seq - 1).min();
                self.feed.closed(self.seen.min(lost.unwrap_or(self.seen)));
                self.recoveries.closed();
            }
            80..84 => self.open(&mut events),
            // A stream keeps messages for longer than its replicas lag behind: until the feed has looked again.
            84 if !self.will_look_again && !self.feed.must_look_again => {
                self.stream.keep_newest(self.rng.u64(..4))
            }
            85 if self.rng.u32(..4) == 0 => {
                self.stream.replace();
                self.live_clients.clear();
                (self.seen, self.read_of_feed, self.read_of_recoveries) = (0, None, None);
                let mut given_up = Vec::new();
                self.recoveries.replaced(&mut given_up);
                self.record(given_up);
                self.feed.replaced(self.stream.state().first_seq, &mut events);
            }
            86..89 => self.look_again(&mut events),
            89..100 => self.come_back(),
            _ => {}
        }
        self.handle(events);
    }

    fn look_again(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        if self.is_open {
            self.will_look_again &= !self.feed.is_live();
            (0..self.stream.replicas.len()).for_each(|replica| self.stream.catch_up(replica));
            self.feed.recheck(events);
        }
    }

    /// A client that has been there comes back: it has had some of the messages that were delivered.
    fn come_back(&mut self) {
        let Some(position) = self.feed.position() else { return };
        // Another node may have told it where the stream is.
        let is_ahead = self.rng.u32(..10) == 0;
        let after = self.rng.u64(..=if is_ahead { position.max(self.stream.newest_seq()) } else { position });
        self.script.push(format!("{} comes back after {after}", self.clients.len()));
        let client = Client { after, epoch: self.stream.epoch };
        assert_eq!(self.recoveries.ask(self.clients.len(), after), None);
        self.clients.push(Some(client));
    }

    fn open(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        if !std::mem::replace(&mut self.is_open, true) {
            let replicas = if self.stream.replicas.len() == 1 { Replicas::One } else { Replicas::Many };
            self.feed.opened(replicas, self.stream.newest_seq(), events);
        }
    }

    fn answer(&mut self, events: &mut Vec<FeedEvent<u64>>) {
        let replica = self.rng.usize(..self.stream.replicas.len());
        let (batch, fails) = (self.rng.usize(2..5), self.rng.u32(..10) == 0);
        let subjects = ["a".into()];
        if self.rng.bool()
            && let Some(read) = self.read_of_feed.take()
        {
            let answer = self.stream.answer(&read, replica, batch, &subjects);
            self.feed.answered(if fails { StreamAnswer::Unavailable } else { answer }, events);
        } else if let Some(read) = self.read_of_recoveries.take() {
            let answer = self.stream.answer(&read, replica, MAX_MESSAGES, &subjects);
            let answer = if fails { StreamAnswer::Unavailable } else { answer };
            self.script.push(format!("answer {read:?}: {answer:?}"));
            let (at, mut found) = (self.position(), Vec::new());
            self.recoveries.answered(answer, at, |_| SIZE, &mut found);
            self.record(found);
        }
    }

    fn handle(&mut self, events: Vec<FeedEvent<u64>>) {
        for event in events {
            self.script.push(format!("{event:?}"));
            match event {
                FeedEvent::Value(message) => self.recoveries.note_value(message.seq),
                FeedEvent::Deliver(message) => {
                    self.live_clients.iter_mut().for_each(|client| client.delivered.push(message.seq));
                    self.recoveries.delivered(message, SIZE);
                }
                FeedEvent::Missing(missing) => {
                    let up_to = missing.range.as_ref().map(|(_, _, up_to)| *up_to);
                    let (from, to) = missing.range.map_or((0, u64::MAX), |(_, from, to)| (from, to));
                    self.live_clients.iter_mut().for_each(|client| client.missing.push((from, to)));
                    self.recoveries.lost(up_to);
                }
                FeedEvent::Read(read) => self.read_of_feed = Some(read),
                FeedEvent::Skipped | FeedEvent::Ready { .. } | FeedEvent::Reopened | FeedEvent::Repeated => {}
                FeedEvent::RecheckSoon => self.will_look_again = true,
            }
        }
        let (at, mut found) = (self.position(), Vec::new());
        self.recoveries.advance(at, &mut found);
        self.record(found);
    }

    fn record(&mut self, events: Vec<Event>) {
        for event in events {
            self.script.push(format!("    {event:?}"));
            match event {
                RecoveryEvent::Read(read) => {
                    assert!(self.read_of_recoveries.replace(read).is_none(), "two reads at a time");
                }
                RecoveryEvent::Recheck => {
                    let mut events = Vec::new();
                    self.feed.recheck(&mut events);
                    self.handle(events);
                }
                RecoveryEvent::Recovered { waiter, hole, after, messages } => {
                    let messages: Vec<_> =
                        messages.iter().filter(|message| message.seq > after).cloned().collect();
                    let client = self.clients[waiter].take().unwrap();
                    self.answers[usize::from(hole.is_some())] += 1;
                    self.judge(&client, hole, &messages);
                    let position = self.feed.position().unwrap().max(client.after);
                    let (delivered, missing) = (Vec::new(), Vec::new());
                    self.live_clients.push(LiveClient { position, hole, delivered, missing });
                }
                RecoveryEvent::Unrecoverable { waiter, cause } => {
                    self.answers[2] += 1;
                    let client = self.clients[waiter].take().unwrap();
                    let is_replaced = client.epoch != self.stream.epoch;
                    assert!(cause != Unrecoverable::Epoch || is_replaced, "the stream has had it");
                }
            }
        }
    }

    /// The client has everything after its position that the feed has delivered, in order, or is told that it is missing.
    fn judge(&self, client: &Client, hole: Option<Hole>, messages: &[StoredMessage<u64>]) {
        let position = self.feed.position().unwrap();
        assert_eq!(client.epoch, self.stream.epoch, "a position of another stream");
        assert!(messages.is_sorted_by_key(|message| message.seq), "out of order");
        let published = self.stream.published.iter().filter(|one| {
            *one.subject == *"a"
                && one.at.0 == client.epoch
                && one.at.1 > client.after
                && one.at.1 <= position
        });
        for publication in published {
            let seq = publication.at.1;
            let is_there = messages.iter().any(|message| message.seq == seq);
            let is_told = hole.is_some_and(|hole| hole.from <= seq && seq <= hole.to);
            assert!(is_there || is_told, "{seq} is lost in silence");
            assert!(!(is_there && is_told), "{seq} is there, and said to be missing");
        }
        let is_new = |message: &StoredMessage<u64>| message.seq > client.after && message.seq <= position;
        assert!(messages.iter().all(is_new), "what it has already, or will get");
    }

    fn settle(&mut self) {
        (0..self.stream.replicas.len()).for_each(|replica| self.stream.catch_up(replica));
        for _ in 0..10_000 {
            let mut events = Vec::new();
            self.open(&mut events);
            if let Some(live) = self.stream.live.pop_front() {
                self.feed.live(live, SIZE, &mut events);
            } else {
                self.answer(&mut events);
            }
            self.handle(events);
            let is_quiet = self.read_of_feed.is_none() && self.read_of_recoveries.is_none();
            if is_quiet && self.stream.live.is_empty() {
                break;
            }
        }
        assert!(self.clients.iter().all(Option::is_none), "a client waits for ever");
        let mut events = Vec::new();
        self.feed.recheck(&mut events);
        self.handle(events);
        while self.read_of_feed.is_some() || self.read_of_recoveries.is_some() {
            let mut events = Vec::new();
            self.answer(&mut events);
            self.handle(events);
        }
        self.live_clients.iter().for_each(|client| self.judge_live(client));
    }

    /// What comes after a recovery is delivered, or said to be missing then or in the recovery.
    fn judge_live(&self, client: &LiveClient) {
        let published = self.stream.published.iter().filter(|one| {
            *one.subject == *"a" && one.at.0 == self.stream.epoch && one.at.1 > client.position
        });
        for seq in published.map(|one| one.at.1) {
            let times = client.delivered.iter().filter(|of| **of == seq).count();
            let is_told = client.hole.is_some_and(|hole| hole.from <= seq && seq <= hole.to)
                || client.missing.iter().any(|(from, to)| *from <= seq && seq <= *to);
            assert!(
                times == 1 || times == 0 && is_told,
                "{seq} came {times} times after {}",
                client.position
            );
        }
    }
}

#[test]
fn who_comes_back_has_everything_or_knows_what_is_missing_whatever_happens() {
    let mut answers = [0; 3];
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..150).for_each(|_| run.step());
            run.settle();
        }));
        assert!(outcome.is_ok(), "seed {seed}:\n{}", run.script.join("\n"));
        answers.iter_mut().zip(run.answers).for_each(|(all, of_run)| *all += of_run);
    }
    assert!(answers[0] > 3000 && answers[1] > 5000 && answers[2] > 1000, "{answers:?}");
}
