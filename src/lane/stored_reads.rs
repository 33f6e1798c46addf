//! The stored feeds of a lane: starts the reads that they ask for, passes on the answers, and finds out when a stream was
//! replaced.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::position::Epoch;
use tracing::error;

use crate::lane::Lane;
use crate::lane::feed::Feed;
use crate::lane::feed::from_stream::Handling;
use crate::lane::feeds::FeedId;
use crate::lane::newest_reads::NewestOfMany;
use crate::lane::newest_reads::NewestRead;
use crate::lane::read_id::ReadId;
use crate::lane::recover::Recover;
use crate::lane::source_stream::Ask;
use crate::lane::source_stream::ReadPurpose;
use crate::lane::source_stream::StoredContent;
use crate::lane::stored::Replicas;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::reads::Read;
use crate::lane::stored::reads::ReadFrom;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::reads::StreamQuery;
use crate::lane::stored::reads::StreamState;
use crate::lane::stream_client::Later;
use crate::lane::stream_client::ReadContext;
use crate::lane::stream_client::StreamStatus;
use crate::lane::stream_reads::Outcome;
use crate::nats::direct_get::AnswerEnd;
use crate::nats::direct_get::ReadMessage;
use crate::nats::direct_get::StreamFacts;
use crate::nats::direct_get::StreamRequest;
use crate::nats::link::Link;
use crate::nats::message::Message;
use crate::telemetry::limit::LogLimit;

/// How often a lane asks whether a stream is still the same one.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// The shortest time between two such questions.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// After this a replica that lagged behind is expected to have caught up.
const RECHECK_AFTER: Duration = Duration::from_millis(250);
/// The most messages that are read from a leader, one after the other.
const MAX_OF_LEADER: usize = 50;
/// The most bytes of them, and of the newest messages of a channel, that are read in a row.
const MAX_LEADER_BYTES: usize = 256 * 1024;
const MAX_NEWEST_BYTES: usize = 16 * 1024 * 1024;
/// How often the state of a stream is asked for, once a second, before the feeds that wait for it begin without it.
const MAX_FAILURES: u32 = 10;

static UNREADABLE: LogLimit = LogLimit::every(30, 1);
static NOT_REPUBLISHED: LogLimit = LogLimit::every(300, 1);

impl Lane {
    /// The connection is lost, and with it all reads.
    pub(super) fn lose_streams(&mut self) {
        let streams = &mut self.streams;
        streams.reads.clear();
        streams.newest_reads.clear();
        streams.later.clear();
        streams.streams.clear();
        streams.queue.clear();
        streams.newest.clear();
    }

    /// Whether [`Lane::advance_streams`] may have something to do as time passes.
    pub(super) fn streams_need_sweep(&self) -> bool {
        self.streams.reads.is_waiting()
            || !self.streams.later.is_empty()
            || self.feeds.streams().next().is_some()
    }

    /// Handles a message of the inbox.
    pub(super) fn on_answer(&mut self, message: &Message, link: &mut Link, now: (Instant, SystemTime)) {
        if let Some((context, outcome)) = self.streams.reads.on_message(message) {
            self.on_outcome(context, outcome, link, now);
            self.start_queued(link, now);
        }
    }

    /// Starts reads that wait for others to end.
    fn start_queued(&mut self, link: &mut Link, now: (Instant, SystemTime)) {
        while !self.streams.reads.is_full()
            && let Some((id, read)) = self.streams.queue.pop_front()
        {
            if self.is_newest(id) {
                self.read(id, read, link, now);
            }
        }
    }

    /// Starts the reads of the newest messages of subjects. Call it when all events of a turn are handled, so that one
    /// request serves many feeds.
    pub fn start_newest_reads(&mut self, link: &mut Link, now: (Instant, SystemTime)) {
        while !self.streams.reads.is_full()
            && let Some((stream, mut reads)) = self.streams.newest.next()
        {
            reads.retain(|read| self.is_newest(read.id));
            if !reads.is_empty() {
                let reads = NewestOfMany::new(stream, reads);
                let from = reads.from();
                self.read_newest_of(reads, from, link, now);
            }
        }
    }

    /// Reads the newest messages of the subjects that wait, from this sequence on.
    fn read_newest_of(
        &mut self,
        reads: NewestOfMany,
        from: u64,
        link: &mut Link,
        now: (Instant, SystemTime),
    ) {
        let request = StreamRequest::newest_of(&reads.stream, &reads.subjects(), from);
        self.start_read(&request, ReadContext::NewestOfMany(reads), link, now);
    }

    /// A page of the newest messages of many subjects.
    fn on_newest_of_many(
        &mut self,
        mut reads: NewestOfMany,
        outcome: Outcome,
        link: &mut Link,
        now: (Instant, SystemTime),
    ) {
        let (page, end) = match outcome {
            Outcome::Messages { messages, end: AnswerEnd::NotFound } if !messages.is_empty() => {
                (Vec::new(), AnswerEnd::Unavailable)
            }
            Outcome::Messages { messages, end } => (messages, end),
            Outcome::State(_) | Outcome::NoStream(_) | Outcome::Unavailable => {
                (Vec::new(), AnswerEnd::Unavailable)
            }
        };
        let next = page.last().map(|last| last.seq + 1);
        let up_to = if let AnswerEnd::Complete { up_to, .. } = end { up_to } else { None };
        let of_none = || match end {
            AnswerEnd::Complete { .. } | AnswerEnd::NotFound => {
                StreamAnswer::Newest { messages: Vec::new(), up_to }
            }
            AnswerEnd::TooMuch => StreamAnswer::Refused,
            AnswerEnd::Unavailable => StreamAnswer::Unavailable,
        };
        if matches!(end, AnswerEnd::Complete { .. }) {
            for (id, message) in reads.answered(page) {
                let messages = message.into_iter().map(stored).collect();
                self.pass_answer(id, StreamAnswer::Newest { messages, up_to }, now);
            }
        }
        match (end, next) {
            (AnswerEnd::Complete { pending, .. }, Some(next)) if pending > 0 => {
                self.read_newest_of(reads, next, link, now);
            }
            _ => reads.rest().into_iter().for_each(|id| self.pass_answer(id, of_none(), now)),
        }
    }

    /// Starts what the feeds ask for, after an event.
    pub(super) fn serve_streams(&mut self, link: &mut Link, now: (Instant, SystemTime)) {
        while self.feeds.wants_streams() {
            let (opened, asks) = (self.feeds.take_opened(), self.feeds.take_asks());
            opened.into_iter().for_each(|feed| self.open_stored(feed, link, now));
            for (feed, ask) in asks {
                match ask {
                    Ask::Read(purpose, read) => {
                        self.streams.started += 1;
                        let (number, at) = (self.streams.started, now.0 + read.after);
                        self.streams.newest_reads.insert((feed, purpose), number);
                        let id = ReadId { feed, purpose, number };
                        if read.after.is_zero() {
                            self.read(id, read, link, now);
                        } else {
                            self.streams.later.push((at, feed, Later::Read(id, read)));
                        }
                    }
                    Ask::RecheckSoon => {
                        self.streams.later.push((now.0 + RECHECK_AFTER, feed, Later::Recheck));
                    }
                    Ask::CheckStream => {
                        if let Some(stream) = self.feeds.stream_of(feed).cloned() {
                            self.check_stream(&stream.name, link, now, CHECK_AT_MOST_EVERY);
                        }
                    }
                }
            }
        }
    }

    /// Handles what is due by time.
    pub(super) fn advance_streams(&mut self, link: &mut Link, now: (Instant, SystemTime)) {
        for context in self.streams.reads.take_late(now.0) {
            self.on_outcome(context, Outcome::Unavailable, link, now);
        }
        self.start_queued(link, now);
        let later = std::mem::take(&mut self.streams.later);
        for (at, feed, what) in later {
            match what {
                _ if at > now.0 => self.streams.later.push((at, feed, what)),
                Later::Read(id, read) => {
                    if self.is_newest(id) {
                        self.read(id, read, link, now);
                    }
                }
                Later::Recheck => {
                    self.handle(feed, now, |feed, handling| feed.recheck(handling));
                }
            }
        }
        let names: Vec<Arc<str>> = self.feeds.streams().map(|stream| Arc::clone(&stream.name)).collect();
        for name in names {
            let is_awaited = self.streams.streams.get(&name).is_some_and(StreamStatus::is_awaited);
            self.check_stream(&name, link, now, if is_awaited { CHECK_AT_MOST_EVERY } else { CHECK_EVERY });
        }
        self.serve_streams(link, now);
    }

    /// A feed's subscription is open: the feed begins when the state of its stream is known.
    fn open_stored(&mut self, feed: FeedId, link: &mut Link, now: (Instant, SystemTime)) {
        let Some(stream) = self.feeds.stream_of(feed).cloned() else { return };
        let status = self.streams.streams.entry(Arc::clone(&stream.name)).or_default();
        if status.is_known {
            let (replicas, newest) = (status.replicas.unwrap_or(Replicas::Many), status.newest);
            return self.handle(feed, now, |feed, handling| feed.stream_opened(replicas, newest, handling));
        }
        status.opening.push(feed);
        self.check_stream(&stream.name, link, now, Duration::ZERO);
    }

    /// Asks for the state of a stream, unless that was done not longer ago than `interval`.
    fn check_stream(
        &mut self,
        name: &Arc<str>,
        link: &mut Link,
        now: (Instant, SystemTime),
        interval: Duration,
    ) {
        let status = self.streams.streams.entry(Arc::clone(name)).or_default();
        let is_early = |asked: Instant| now.0.saturating_duration_since(asked) < interval;
        if status.is_asking || !link.is_up() || status.asked.is_some_and(is_early) {
            return;
        }
        (status.is_asking, status.asked) = (true, Some(now.0));
        let seen = self.feeds.streams().find(|stream| stream.name == *name).map(|stream| stream.seen.get());
        status.seen = seen.unwrap_or(0);
        let context = ReadContext::Stream(Arc::clone(name));
        self.start_read(&StreamRequest::state(name), context, link, now);
    }

    /// Starts a read of a feed.
    fn read(&mut self, id: ReadId, read: Read, link: &mut Link, now: (Instant, SystemTime)) {
        let feed = id.feed;
        let Some(stream) = self.feeds.stream_of(feed).cloned() else { return };
        let Some(pattern) = self.feeds.pattern_of_feed(feed).cloned() else { return };
        if let StreamQuery::Newest { from } = read.query
            && pattern.is_literal()
        {
            let subject = Arc::clone(pattern.text());
            return self.streams.newest.push(&stream.name, NewestRead { id, subject, from });
        }
        if self.streams.reads.is_full() {
            return self.streams.queue.push_back((id, read));
        }
        let (name, query) = (&stream.name, read.query);
        let (request, context) = match query {
            StreamQuery::State => {
                let status = self.streams.streams.entry(Arc::clone(name)).or_default();
                let waiting =
                    if status.is_asking { &mut status.doubting_later } else { &mut status.doubting };
                waiting.push(id);
                return self.check_stream(name, link, now, Duration::ZERO);
            }
            StreamQuery::Following { subject, from } if read.source == ReadFrom::Leader => (
                StreamRequest::next_of_leader(name, &subject, from),
                ReadContext::Leader { id, subject, found: Vec::new() },
            ),
            StreamQuery::Following { subject, from } => {
                (StreamRequest::following(name, &subject, from), ReadContext::Feed(id))
            }
            // A leader does not answer this: the replica is asked once more.
            StreamQuery::Newest { from } => (
                StreamRequest::newest(name, pattern.as_str(), from),
                ReadContext::Newest { id, found: Vec::new(), bytes: 0 },
            ),
        };
        self.start_read(&request, context, link, now);
    }

    /// Sends a request, or handles at once that it cannot be sent now.
    fn start_read(
        &mut self,
        request: &StreamRequest,
        context: ReadContext,
        link: &mut Link,
        now: (Instant, SystemTime),
    ) {
        if let Err(context) = self.streams.reads.start(link, request, context, now.0) {
            self.on_outcome(context, Outcome::Unavailable, link, now);
        }
    }

    fn on_outcome(
        &mut self,
        context: ReadContext,
        outcome: Outcome,
        link: &mut Link,
        now: (Instant, SystemTime),
    ) {
        match context {
            ReadContext::Stream(name) => self.on_state(&name, outcome, link, now),
            ReadContext::Feed(id) => {
                let answer = match outcome {
                    Outcome::Messages { messages, end: AnswerEnd::Complete { pending, .. } } => {
                        let messages = messages.into_iter().map(stored).collect();
                        StreamAnswer::Following { messages, pending }
                    }
                    Outcome::Messages { messages, end: AnswerEnd::NotFound } if messages.is_empty() => {
                        StreamAnswer::Following { messages: Vec::new(), pending: 0 }
                    }
                    Outcome::Messages { .. }
                    | Outcome::State(_)
                    | Outcome::NoStream(_)
                    | Outcome::Unavailable => StreamAnswer::Unavailable,
                };
                self.pass_answer(id, answer, now);
            }
            ReadContext::NewestOfMany(reads) => self.on_newest_of_many(reads, outcome, link, now),
            ReadContext::Newest { id, found, bytes } => {
                self.on_newest(id, (found, bytes), outcome, link, now);
            }
            ReadContext::Leader { id, subject, mut found } => {
                let Outcome::Messages { messages, end: AnswerEnd::Complete { .. } | AnswerEnd::NotFound } =
                    outcome
                else {
                    return self.pass_answer(id, StreamAnswer::Unavailable, now);
                };
                let next = messages.last().map(|last| last.seq + 1);
                found.extend(messages);
                let bytes: usize = found.iter().map(|read| read.message.size()).sum();
                let has_room = found.len() < MAX_OF_LEADER && bytes < MAX_LEADER_BYTES;
                let (Some(next), Some(stream), true) =
                    (next, self.feeds.stream_of(id.feed).cloned(), has_room)
                else {
                    let pending = u64::from(next.is_some());
                    let messages = found.into_iter().map(stored).collect();
                    return self.pass_answer(id, StreamAnswer::Following { messages, pending }, now);
                };
                let request = StreamRequest::next_of_leader(&stream.name, &subject, next);
                let context = ReadContext::Leader { id, subject, found };
                self.start_read(&request, context, link, now);
            }
        }
    }

    /// The newest messages of a channel, or some of them.
    fn on_newest(
        &mut self,
        id: ReadId,
        (mut found, mut bytes): (Vec<ReadMessage>, usize),
        outcome: Outcome,
        link: &mut Link,
        now: (Instant, SystemTime),
    ) {
        let answer = match outcome {
            Outcome::Messages { messages, end: AnswerEnd::Complete { up_to, pending } } => {
                bytes += messages.iter().map(|read| read.message.size()).sum::<usize>();
                let next = messages.last().map(|last| last.seq + 1);
                found.extend(messages);
                match (next, self.feeds.stream_of(id.feed).cloned()) {
                    (Some(next), Some(stream)) if pending > 0 && bytes < MAX_NEWEST_BYTES => {
                        let Some(pattern) = self.feeds.pattern_of_feed(id.feed).cloned() else { return };
                        let request = StreamRequest::newest(&stream.name, pattern.as_str(), next);
                        let context = ReadContext::Newest { id, found, bytes };
                        self.start_read(&request, context, link, now);
                        return;
                    }
                    _ if pending > 0 => StreamAnswer::Refused,
                    _ => StreamAnswer::Newest { messages: found.into_iter().map(stored).collect(), up_to },
                }
            }
            Outcome::Messages { messages, end: AnswerEnd::NotFound } if messages.is_empty() => {
                StreamAnswer::Newest { messages: found.into_iter().map(stored).collect(), up_to: None }
            }
            Outcome::Messages { end: AnswerEnd::TooMuch, .. } => StreamAnswer::Refused,
            Outcome::Messages { .. } | Outcome::State(_) | Outcome::NoStream(_) | Outcome::Unavailable => {
                StreamAnswer::Unavailable
            }
        };
        self.pass_answer(id, answer, now);
    }

    /// The state of a stream, or why it is not known.
    fn on_state(&mut self, name: &Arc<str>, outcome: Outcome, link: &mut Link, now: (Instant, SystemTime)) {
        let (facts, is_final) = match outcome {
            Outcome::State(facts) => (Some(facts), true),
            Outcome::NoStream(reason) => {
                log_unreadable(name, &reason);
                (None, true)
            }
            Outcome::Messages { .. } | Outcome::Unavailable => {
                log_unreadable(name, "no answer");
                (None, false)
            }
        };
        if let Some(facts) = &facts {
            self.compare_stream(name, facts, now);
        }
        let Some(status) = self.streams.streams.get_mut(name) else { return };
        status.is_asking = false;
        status.is_known |= facts.is_some();
        status.failures = if is_final { 0 } else { status.failures + 1 };
        if !is_final && status.failures < MAX_FAILURES {
            // A stream has no leader for some seconds when its server goes away.
            return;
        }
        if let Some(facts) = &facts {
            status.newest = facts.last_seq;
            status.replicas = Some(if facts.replicas > 1 { Replicas::Many } else { Replicas::One });
        }
        let (replicas, newest) = (status.replicas.unwrap_or(Replicas::Many), status.newest);
        let (opening, doubting) = (std::mem::take(&mut status.opening), std::mem::take(&mut status.doubting));
        for feed in opening {
            self.handle(feed, now, |feed, handling| feed.stream_opened(replicas, newest, handling));
        }
        let state = facts.map(|StreamFacts { first_seq, last_seq, max_per_subject, .. }| StreamState {
            first_seq,
            last_seq,
            max_per_subject,
        });
        for id in doubting {
            self.pass_answer(id, state.map_or(StreamAnswer::Unavailable, StreamAnswer::State), now);
        }
        let status = self.streams.streams.entry(Arc::clone(name)).or_default();
        status.doubting.append(&mut status.doubting_later);
        if !status.doubting.is_empty() {
            self.check_stream(name, link, now, Duration::ZERO);
        }
    }

    /// Finds out whether a stream was replaced, or has gone back to an earlier state.
    fn compare_stream(&mut self, name: &Arc<str>, facts: &StreamFacts, now: (Instant, SystemTime)) {
        if facts.republishes_to.as_deref() != Some("_live.>")
            && let Some(suppressed) = NOT_REPUBLISHED.pass()
        {
            error!(
                lane = self.index.0,
                stream = &**name,
                suppressed,
                "a stream does not republish its messages to _live.>, so clients get none: run `nats stream edit` with \
                 --republish-source '>' --republish-destination '_live.>'"
            );
        }
        let Some(stream) = self.feeds.streams().find(|stream| stream.name == *name).cloned() else { return };
        let epoch = epoch(&facts.created);
        let earlier = stream.epoch.replace(Some(epoch.clone()));
        let is_other = earlier.is_some_and(|earlier| earlier != epoch);
        let seen = self.streams.streams.get(name).map_or(0, |status| status.seen);
        if !is_other && facts.last_seq >= seen {
            return;
        }
        stream.seen.set(0);
        let feeds = self.feeds.feeds_of_stream(name);
        for feed in feeds {
            for purpose in [ReadPurpose::Order, ReadPurpose::Recovery] {
                self.streams.newest_reads.remove(&(feed, purpose));
            }
            self.handle(feed, now, |feed, handling| feed.stream_replaced(facts.first_seq, handling));
        }
    }

    /// Passes an event to a stored feed, if it has not ended.
    fn handle(
        &mut self,
        feed: FeedId,
        now: (Instant, SystemTime),
        event: impl FnOnce(&mut Feed, &mut Handling<'_>),
    ) {
        self.feeds.handle(feed, now, &mut self.encoder, &mut self.outgoing, event);
    }

    fn pass_answer(&mut self, id: ReadId, answer: StreamAnswer<StoredContent>, now: (Instant, SystemTime)) {
        if !self.is_newest(id) {
            return;
        }
        self.streams.newest_reads.remove(&(id.feed, id.purpose));
        self.handle(id.feed, now, |feed, handling| match id.purpose {
            ReadPurpose::Order => feed.answered(answer, handling),
            ReadPurpose::Recovery => feed.recovery_answered(answer, handling),
        });
    }

    /// Whether no later read of the feed has the same purpose.
    fn is_newest(&self, id: ReadId) -> bool {
        self.streams.newest_reads.get(&(id.feed, id.purpose)) == Some(&id.number)
    }

    /// A client of a shard wants what it has missed.
    pub(super) fn recover(&mut self, recover: Recover, now: (Instant, SystemTime)) {
        // A shard that has left the channel waits for no answer.
        if let Some(feed) = self.feeds.id_of(&recover.pattern) {
            self.handle(feed, now, |feed, handling| feed.recover(recover, handling));
        }
    }
}

fn stored(read: ReadMessage) -> StoredMessage<StoredContent> {
    let ReadMessage { subject, seq, time, message } = read;
    StoredMessage { subject: subject.into(), seq, content: StoredContent { message, time } }
}

/// The epoch of a stream that was created then: the digits of the time.
fn epoch(created: &str) -> Epoch {
    Epoch(created.chars().filter(char::is_ascii_digit).collect::<String>().into())
}

fn log_unreadable(name: &str, reason: &str) {
    if let Some(suppressed) = UNREADABLE.pass() {
        error!(
            stream = name,
            reason,
            suppressed,
            "a stream cannot be read: check that it exists, and that this node's nats user may read it"
        );
    }
}
