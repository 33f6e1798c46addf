//! `StoredFeed`: the order of a feed whose messages a JetStream stream stores. It notices messages that did not arrive,
//! asks for them to be read from the stream, and returns all messages in order, each once. It does no I/O.
//!
//! A stream with `RePublish` sends each stored message on, with its sequence and with that of the message before it on
//! the same subject. So a feed that knows the newest sequence of each subject notices each message that is missing in
//! between. What is missing at the end is noticed by the next message, or by a check: when the subscription opens, and
//! whenever the caller asks for one.

mod hold;
pub mod messages;
pub mod reads;
mod recent;
pub mod recoveries;
mod sequences;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::lane::stored::hold::Hold;
use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::LiveMessage;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::messages::Subjects;
use crate::lane::stored::reads::REPEAT_AFTER;
use crate::lane::stored::reads::Read;
use crate::lane::stored::reads::ReadFrom;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::reads::StreamQuery;
use crate::lane::stored::reads::StreamState;
use crate::lane::stored::sequences::Sequences;

/// How many servers have the messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    One,
    /// Each may answer, and may lag behind: a read may miss what was stored just before.
    Many,
}

/// What to do about messages that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHole {
    /// Read them from the stream, and return them in their place.
    Fill,
    /// Nothing: the newest message makes them obsolete.
    Skip,
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingCause {
    /// The stream does not have them any more.
    Discarded,
    /// The stream cannot be read.
    Unavailable,
    /// The stream was replaced by another one, or went back to an earlier state.
    Epoch,
}

/// Messages are missing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMessages {
    pub cause: MissingCause,
    /// The subject and the sequences, both inclusive. `None`: any number of messages on any subjects of the feed.
    pub range: Option<(Arc<str>, u64, u64)>,
}

/// What a feed returns, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent<M> {
    /// The newest message of a subject, from before the feed began: it is a last value, and not delivered.
    Value(StoredMessage<M>),
    /// Deliver this message.
    Deliver(StoredMessage<M>),
    Missing(MissingMessages),
    /// Messages did not arrive, and the newest one makes them obsolete.
    Skipped,
    /// Start this read, and pass its answer to [`StoredFeed::answered`].
    Read(Read),
    /// The feed has begun: its position is known, and what follows is delivered. `has_values` says whether the last
    /// values are complete.
    Ready {
        has_values: bool,
    },
    /// The subscription is open again, and the feed has been compared with the stream.
    Reopened,
    /// A message came again, or one behind a message that is not known. Has the stream been replaced?
    Repeated,
    /// Call [`StoredFeed::recheck`] after a quarter of a second: the replica that answered may have lagged behind.
    RecheckSoon,
}

/// See the module.
#[derive(Debug)]
pub struct StoredFeed<M> {
    on_hole: OnHole,
    replicas: Replicas,
    phase: Phase<M>,
    /// Whether [`FeedEvent::Ready`] has been returned.
    is_ready: bool,
    sequences: Sequences,
    hold: Hold<M>,
    /// Subjects that the stream has newer messages of, with the sequence of the newest.
    behind: VecDeque<(Arc<str>, u64)>,
    /// The newest sequence of the stream when the feed was compared with it. Nothing up to there is missing once no
    /// subject is behind.
    compared: Option<u64>,
    /// Since the feed was last compared with the stream, messages of the stream behind this sequence may not have
    /// arrived. `None`: all have.
    seen: Option<u64>,
    /// Whether the subscription was lost, and [`FeedEvent::Reopened`] has not been returned since.
    is_reopening: bool,
    /// Whether the next comparison with the stream is not the last one, because a replica may lag behind.
    must_look_again: bool,
    /// Messages were discarded that may not have arrived: to be reported behind those that are still there.
    has_discarded: bool,
    /// A sequence that the stream has had before the feed is compared with it.
    newest: u64,
    /// Whether [`StoredFeed::recheck`] was called while something else was read.
    wants_recheck: bool,
    /// Whether the last comparison failed, and whether another would fail too.
    is_unreadable: bool,
    is_refused: bool,
}

#[derive(Debug)]
enum Phase<M> {
    /// The subscription is not open. Messages may arrive already.
    Closed,
    /// The newest messages are being read.
    Checking {
        repeated: usize,
    },
    /// The first subject of `behind` is being read.
    Filling {
        repeated: usize,
    },
    /// This answer came, and the state of the stream will tell whether messages were discarded before it.
    Asking {
        first: StreamAnswer<M>,
        repeated: usize,
    },
    Live,
}

impl<M> StoredFeed<M> {
    /// A feed whose subscription is not open yet.
    pub fn new(subjects: Subjects, on_hole: OnHole, limits: HoldLimits) -> Self {
        Self {
            on_hole,
            replicas: Replicas::One,
            phase: Phase::Closed,
            is_ready: false,
            sequences: Sequences::new(subjects),
            hold: Hold::new(limits),
            behind: VecDeque::new(),
            compared: None,
            seen: None,
            is_reopening: false,
            must_look_again: false,
            has_discarded: false,
            newest: 0,
            wants_recheck: false,
            is_unreadable: false,
            is_refused: false,
        }
    }

    /// Everything up to this sequence has been returned, or reported missing. `None` if the feed has not begun, or the
    /// stream could not be read.
    pub fn position(&self) -> Option<u64> {
        if self.is_ready { self.sequences.position(self.is_live()) } else { None }
    }

    /// How many servers have the messages of the stream.
    pub fn replicas(&self) -> Replicas {
        self.replicas
    }

    /// Up to this sequence of the stream, nothing is missing that was not reported.
    pub fn compared_up_to(&self) -> u64 {
        self.sequences.compared_up_to()
    }

    /// Whether a comparison may find out again where the feed is.
    pub fn has_lost_track(&self) -> bool {
        self.is_live() && self.is_ready && self.sequences.has_lost_track() && !self.is_refused
    }

    /// The subscription is open: from now on messages arrive. The read that follows must be sent on the same
    /// connection, after the subscription. The stream has had this sequence before; 0 if no one knows.
    pub fn opened(&mut self, replicas: Replicas, newest: u64, events: &mut Vec<FeedEvent<M>>) {
        self.replicas = replicas;
        // A replica that answers may not have it yet.
        self.newest = if replicas == Replicas::One { newest } else { 0 };
        self.must_look_again = replicas == Replicas::Many;
        self.check(events);
    }

    /// The subscription is lost. Everything up to the sequence `seen` of the stream had arrived by then. The answer to a
    /// read that has been started is not passed on.
    pub fn closed(&mut self, seen: u64) {
        if self.is_ready {
            self.is_reopening = true;
            self.not_seen(seen.max(self.sequences.compared_up_to()) + 1);
            // What waits for a read has not been returned.
            let behind = self.behind.iter().filter_map(|(subject, _)| Some(self.sequences.of(subject)? + 1));
            let waiting: Vec<u64> = behind.chain(self.hold.first_seq()).collect();
            waiting.into_iter().for_each(|from| self.not_seen(from));
        }
        self.phase = Phase::Closed;
        self.hold.clear();
        self.behind.clear();
        self.compared = None;
        if std::mem::take(&mut self.has_discarded) {
            self.not_seen(1);
        }
    }

    /// The stream has been replaced, or has gone back to an earlier state: its sequences mean other messages now, and the
    /// oldest message has this one. The answer to a read that has been started is not passed on.
    pub fn replaced(&mut self, first_seq: u64, events: &mut Vec<FeedEvent<M>>) {
        self.sequences.restart();
        self.behind.clear();
        (self.compared, self.seen, self.has_discarded, self.newest) = (None, None, false, 0);
        // No one knows which of these are from the new stream.
        self.hold.clear();
        self.hold.note_dropped(first_seq);
        if self.is_ready {
            // What the new stream has was stored after the feed began.
            self.sequences.begin(first_seq.saturating_sub(1));
            events.push(FeedEvent::Missing(MissingMessages { cause: MissingCause::Epoch, range: None }));
        }
        if !matches!(self.phase, Phase::Closed) {
            self.check(events);
        }
    }

    /// Compares the feed with the stream: call it when messages may be missing that no later one follows.
    pub fn recheck(&mut self, events: &mut Vec<FeedEvent<M>>) {
        if self.is_live() {
            self.check(events);
        } else {
            self.wants_recheck = true;
        }
    }

    /// Whether messages that arrive in order are returned at once.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// A message has arrived. `size` is its size in memory, in bytes.
    pub fn live(&mut self, live: LiveMessage<M>, size: usize, events: &mut Vec<FeedEvent<M>>) {
        match self.phase {
            Phase::Live => self.take(live, size, true, events),
            Phase::Closed | Phase::Checking { .. } | Phase::Filling { .. } | Phase::Asking { .. } => {
                self.hold.push(live, size)
            }
        }
    }

    /// The answer to the read that was started last.
    pub fn answered(&mut self, answer: StreamAnswer<M>, events: &mut Vec<FeedEvent<M>>) {
        match (std::mem::replace(&mut self.phase, Phase::Live), answer) {
            (Phase::Checking { .. }, answer @ StreamAnswer::Newest { .. }) if self.seen.is_some() => {
                self.phase = Phase::Asking { first: answer, repeated: 0 };
                self.read(0, events);
            }
            (Phase::Checking { .. }, StreamAnswer::Newest { messages, up_to }) => {
                self.checked(messages, up_to, events);
            }
            (Phase::Checking { .. }, StreamAnswer::Refused) => {
                self.is_refused = true;
                self.lose_track(events);
            }
            (phase @ Phase::Filling { .. }, StreamAnswer::Following { messages, pending }) => {
                if self.may_be_incomplete(&messages) {
                    let first = StreamAnswer::Following { messages, pending };
                    self.phase = Phase::Asking { first, repeated: 0 };
                    self.read(0, events);
                } else {
                    self.phase = phase;
                    self.filled(messages, pending, events);
                }
            }
            (Phase::Asking { first, .. }, StreamAnswer::State(state)) => {
                self.asked(first, Some(state), events);
            }
            (Phase::Asking { first, repeated }, _) if repeated < REPEAT_AFTER.len() => {
                self.phase = Phase::Asking { first, repeated: repeated + 1 };
                self.read(repeated + 1, events);
            }
            (Phase::Asking { first, .. }, _) => self.asked(first, None, events),
            (phase @ (Phase::Checking { .. } | Phase::Filling { .. }), _) => {
                self.phase = phase;
                self.repeat(MissingCause::Unavailable, events);
            }
            (phase @ (Phase::Closed | Phase::Live), _) => self.phase = phase,
        }
    }

    /// The state of the stream after this answer. If it is unknown, a false alarm is better than silence.
    fn asked(&mut self, first: StreamAnswer<M>, state: Option<StreamState>, events: &mut Vec<FeedEvent<M>>) {
        match first {
            StreamAnswer::Newest { messages, up_to } => {
                let seen = self.seen.take().unwrap_or(0);
                let first_seq = state.map_or(u64::MAX, |state| state.first_seq);
                self.has_discarded |= first_seq > seen + 1;
                if self.must_look_again {
                    self.seen = Some(seen.max(state.map_or(seen, |state| state.first_seq.saturating_sub(1))));
                }
                self.checked(messages, up_to, events);
            }
            StreamAnswer::Following { messages, pending } => {
                if let Some((subject, newest)) = self.behind.front() {
                    let known = self.sequences.of(subject).unwrap_or(0);
                    let found =
                        messages.iter().filter(|message| message.seq > known).count() as u64 + pending;
                    // Everything up to there was compared with the stream.
                    let sure = known.max(self.sequences.compared_up_to());
                    let kept_all = |state: StreamState| state.kept_everything_after(sure, found);
                    let first = first_after(&messages, known).unwrap_or(*newest);
                    let (from, to) = (sure + 1, (first - 1).min(*newest));
                    if !state.is_some_and(kept_all) && from <= to {
                        let cause = match state {
                            Some(_) => MissingCause::Discarded,
                            None => MissingCause::Unavailable,
                        };
                        let range = Some((Arc::clone(subject), from, to));
                        events.push(FeedEvent::Missing(MissingMessages { cause, range }));
                    }
                }
                self.phase = Phase::Filling { repeated: 0 };
                self.filled(messages, pending, events);
            }
            StreamAnswer::State(_) | StreamAnswer::Unavailable | StreamAnswer::Refused => {}
        }
    }

    fn check(&mut self, events: &mut Vec<FeedEvent<M>>) {
        self.wants_recheck = false;
        self.phase = Phase::Checking { repeated: 0 };
        self.read(0, events);
    }

    /// Starts the read of this phase.
    fn read(&mut self, repeated: usize, events: &mut Vec<FeedEvent<M>>) {
        let query = match (&self.phase, self.behind.front()) {
            (Phase::Checking { .. }, _) => StreamQuery::Newest { from: self.sequences.oldest_unchecked() },
            // From the newest known message itself, not after it: if it is there, nothing behind it was discarded.
            (Phase::Filling { .. }, Some((subject, _))) => {
                let from = self.sequences.of(subject).unwrap_or(0).max(1);
                StreamQuery::Following { subject: Arc::clone(subject), from }
            }
            (Phase::Asking { .. }, _) => StreamQuery::State,
            (Phase::Filling { .. } | Phase::Closed | Phase::Live, _) => return,
        };
        events.push(FeedEvent::Read(Read::repeated(query, repeated)));
    }

    /// Repeats the read of this phase, or goes on without what it did not bring, for this reason.
    fn repeat(&mut self, cause: MissingCause, events: &mut Vec<FeedEvent<M>>) {
        let (Phase::Checking { repeated } | Phase::Filling { repeated }) = &mut self.phase else {
            return;
        };
        *repeated += 1;
        let repeated = *repeated;
        if repeated <= REPEAT_AFTER.len() {
            return self.read(repeated, events);
        }
        let missing = |range| FeedEvent::Missing(MissingMessages { cause, range });
        if let Some((subject, newest)) = self.behind.pop_front() {
            let known = self.sequences.of(&subject).unwrap_or(0);
            events.push(missing(Some((Arc::clone(&subject), known + 1, newest))));
            self.sequences.set(&subject, newest);
            return self.fill_next(events);
        }
        self.lose_track(events);
    }

    /// No one knows what is missing. The next message of each subject is where it goes on.
    fn lose_track(&mut self, events: &mut Vec<FeedEvent<M>>) {
        if self.is_ready {
            let cause = MissingCause::Unavailable;
            events.push(FeedEvent::Missing(MissingMessages { cause, range: None }));
        }
        self.is_unreadable = true;
        self.sequences.lose_track();
        self.begin(false, events);
        self.go_live(events);
    }

    /// The newest messages of the stream are known.
    fn checked(
        &mut self,
        messages: Vec<StoredMessage<M>>,
        up_to: Option<u64>,
        events: &mut Vec<FeedEvent<M>>,
    ) {
        (self.is_unreadable, self.is_refused) = (false, false);
        if std::mem::take(&mut self.must_look_again) {
            events.push(FeedEvent::RecheckSoon);
        }
        let up_to = Some(up_to.unwrap_or(0).max(self.newest));
        if !self.is_ready {
            self.sequences.begin_with_newest(up_to);
            for message in messages {
                self.sequences.set(&message.subject, message.seq);
                events.push(FeedEvent::Value(message));
            }
            self.begin(true, events);
            return self.fill_next(events);
        }
        if self.sequences.has_lost_track() && !messages.is_empty() {
            events
                .push(FeedEvent::Missing(MissingMessages { cause: MissingCause::Unavailable, range: None }));
        }
        for message in messages {
            match self.sequences.of(&message.subject) {
                Some(known) if message.seq <= known => {}
                Some(_) if self.on_hole == OnHole::Fill => {
                    self.behind.push_back((message.subject, message.seq));
                }
                Some(_) | None => {
                    self.sequences.set(&message.subject, message.seq);
                    events.push(FeedEvent::Deliver(message));
                }
            }
        }
        self.compared = up_to;
        self.fill_next(events);
    }

    /// Whether messages may have been discarded before these, the first ones behind the newest known one.
    fn may_be_incomplete(&self, messages: &[StoredMessage<M>]) -> bool {
        let Some((subject, _)) = self.behind.front() else { return false };
        let known = self.sequences.of(subject).unwrap_or(0);
        let has_known = known > 0 && messages.first().is_some_and(|first| first.seq == known);
        first_after(messages, known).is_some_and(|first| first > known + 1) && !has_known
    }

    /// Messages of the first subject that is behind have been read.
    fn filled(&mut self, messages: Vec<StoredMessage<M>>, pending: u64, events: &mut Vec<FeedEvent<M>>) {
        let Some((subject, newest)) = self.behind.front().cloned() else { return };
        let known = self.sequences.of(&subject).unwrap_or(0);
        let is_new = first_after(&messages, known).is_some();
        let has_only_known = !is_new && messages.last().is_some_and(|last| last.seq == known);
        // Later ones arrive live, and may wait already.
        let is_later = messages.last().is_some_and(|last| last.seq >= newest);
        for message in messages.into_iter().filter(|message| message.seq > known && message.seq <= newest) {
            self.sequences.set(&subject, message.seq);
            events.push(FeedEvent::Deliver(message));
        }
        if is_later {
            self.sequences.set(&subject, newest);
            self.behind.pop_front();
            self.fill_next(events);
        } else if pending > 0 && has_only_known {
            // It is there, and too large for others to fit in.
            let (query, source, after) =
                (StreamQuery::Following { subject, from: known + 1 }, ReadFrom::AnyReplica, Duration::ZERO);
            events.push(FeedEvent::Read(Read { query, source, after }));
        } else if is_new && pending > 0 {
            self.phase = Phase::Filling { repeated: 0 };
            self.read(0, events);
        } else {
            self.repeat(MissingCause::Discarded, events);
        }
    }

    /// Reads the next subject that is behind; if there is none, the messages that have waited follow.
    fn fill_next(&mut self, events: &mut Vec<FeedEvent<M>>) {
        if self.behind.is_empty() {
            self.sequences.compared(self.compared.take());
            if std::mem::take(&mut self.has_discarded) {
                events.push(FeedEvent::Missing(MissingMessages {
                    cause: MissingCause::Discarded,
                    range: None,
                }));
            }
            self.go_live(events);
            if self.wants_recheck && self.is_live() {
                self.check(events);
            }
            return;
        }
        self.phase = Phase::Filling { repeated: 0 };
        self.read(0, events);
    }

    fn go_live(&mut self, events: &mut Vec<FeedEvent<M>>) {
        self.phase = Phase::Live;
        if std::mem::take(&mut self.is_reopening) {
            events.push(FeedEvent::Reopened);
        }
        let (held, dropped_from) = self.hold.take();
        let mut held = held.into_iter();
        for (live, size) in held.by_ref() {
            self.take(live, size, false, events);
            if !matches!(self.phase, Phase::Live) {
                break;
            }
        }
        held.for_each(|(live, size)| self.hold.push(live, size));
        let Some(from) = dropped_from else { return };
        match self.phase {
            // Another comparison would fail too.
            Phase::Live if self.is_unreadable => {
                let cause = MissingCause::Unavailable;
                events.push(FeedEvent::Missing(MissingMessages { cause, range: None }));
                self.sequences.lose_track();
            }
            Phase::Live => {
                self.not_seen(from);
                self.check(events);
            }
            Phase::Closed | Phase::Checking { .. } | Phase::Filling { .. } | Phase::Asking { .. } => {
                self.hold.note_dropped(from);
            }
        }
    }

    /// Messages of the stream from this sequence on may not have arrived.
    fn not_seen(&mut self, from: u64) {
        self.must_look_again = self.replicas == Replicas::Many;
        let seen = from.saturating_sub(1);
        self.sequences.not_compared_behind(seen);
        self.seen = Some(self.seen.map_or(seen, |earlier| earlier.min(seen)));
    }

    /// Handles a message in its turn. `is_fresh` says that it has not waited.
    fn take(&mut self, live: LiveMessage<M>, size: usize, is_fresh: bool, events: &mut Vec<FeedEvent<M>>) {
        let LiveMessage { message, previous } = &live;
        if self.sequences.is_full(&message.subject) {
            events
                .push(FeedEvent::Missing(MissingMessages { cause: MissingCause::Unavailable, range: None }));
            self.sequences.lose_track();
        }
        let known = self.sequences.of(&message.subject);
        match known {
            Some(known) if message.seq <= known => {
                if is_fresh {
                    events.push(FeedEvent::Repeated);
                }
                return;
            }
            Some(known) if *previous > known => match self.on_hole {
                OnHole::Skip => events.push(FeedEvent::Skipped),
                OnHole::Fill => {
                    self.behind.push_back((Arc::clone(&message.subject), *previous));
                    self.hold.push(live, size);
                    return self.fill_next(events);
                }
            },
            None if self.sequences.was_passed(message.seq) => return,
            // The message before it is gone, or the stream is another one.
            Some(known) if *previous < known && is_fresh => events.push(FeedEvent::Repeated),
            Some(_) | None => {}
        }
        self.sequences.set(&live.message.subject, live.message.seq);
        events.push(FeedEvent::Deliver(live.message));
    }

    fn begin(&mut self, has_values: bool, events: &mut Vec<FeedEvent<M>>) {
        if !self.is_ready {
            self.is_ready = true;
            events.push(FeedEvent::Ready { has_values });
        }
    }
}

/// The sequence of the first message after this one.
fn first_after<M>(messages: &[StoredMessage<M>], known: u64) -> Option<u64> {
    messages.iter().map(|message| message.seq).find(|seq| *seq > known)
}

#[cfg(test)]
mod tests;
