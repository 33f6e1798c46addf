//! `Recoveries`: what clients that come back have missed on a feed of one subject whose messages a stream stores. It does
//! no I/O.
//!
//! A client asks for everything after a position. What the feed has delivered lately is kept in memory, and answers
//! most of them. Otherwise the missing part is read from the stream, once for all who wait, from the oldest position
//! itself: streams discard the oldest messages first, so if the message of that position is still there, nothing behind
//! it is gone.

use std::sync::Arc;

use crate::lane::stored::REPEAT_AFTER;
use crate::lane::stored::Replicas;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::reads::Read;
use crate::lane::stored::reads::ReadFrom;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::reads::StreamQuery;
use crate::lane::stored::reads::StreamState;
use crate::lane::stored::recent::Recent;

/// The most messages that one client recovers; they must fit into its outbox.
pub const MAX_MESSAGES: usize = 500;
/// How often the stream is read again because messages that were delivered meanwhile are no longer in memory.
const MAX_READS: usize = 3;

/// Where a feed is.
#[derive(Clone, Copy, Debug)]
pub struct FeedPosition {
    /// Whether everything up to `seq` has been delivered, and what follows will be in order.
    pub is_live: bool,
    /// Up to this sequence of the stream, the feed has delivered everything. `None` if it does not know where it is.
    pub seq: Option<u64>,
    pub replicas: Replicas,
}

/// What clients that come back get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveredFrom {
    /// The messages that they have missed. The latest are kept in memory.
    Messages,
    /// The last values of the feed, and no messages.
    Values,
}

/// Why a client does not get what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecoverable {
    /// The stream cannot be read.
    Unavailable,
    /// The position is not one of this stream, or of its present state.
    Epoch,
    /// It has missed too much.
    TooMany,
}

/// Messages between a position and those that are there are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Both inclusive.
    pub from: u64,
    pub to: u64,
    /// Whether the stream has discarded them. Otherwise it could not be asked.
    pub is_discarded: bool,
}

/// What recoveries lead to. `W` is who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryEvent<M, W> {
    /// Start this read, and pass its answer to [`Recoveries::answered`].
    Read(Read),
    /// Compare the feed with its stream, then call [`Recoveries::advance`].
    Recheck,
    /// The messages after the position of `waiter`, in order. Those of `hole` are missing before them.
    Recovered {
        waiter: W,
        hole: Option<Hole>,
        messages: Vec<StoredMessage<M>>,
    },
    Unrecoverable {
        waiter: W,
        cause: Unrecoverable,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Recoveries<M, W> {
    subject: Arc<str>,
    kept: RecoveredFrom,
    recent: Recent<M>,
    waiting: Vec<Waiting<W>>,
    phase: RecoveryPhase<M>,
    /// The sequence of the newest message that the feed has had, or has not delivered.
    newest: u64,
    /// Whether messages are missing before the next one.
    has_lost: bool,
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    after: u64,
    /// Whether the feed was compared with the stream because it is behind the position.
    has_rechecked: bool,
    /// How often the stream has been read for it.
    reads: usize,
}

#[derive(Debug)]
enum RecoveryPhase<M> {
    Idle,
    Reading(Reading),
    /// These messages have been read, and the state of the stream will tell what is missing.
    Asking(Reading, Vec<StoredMessage<M>>),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// The sequence from which on messages are read.
    from: u64,
    /// The newest message when that began, and where the feed was: nothing up to there can be stored later.
    newest: u64,
    position: u64,
    repeated: usize,
}

impl Reading {
    fn again(self) -> Option<Self> {
        (self.repeated < REPEAT_AFTER.len()).then_some(Self { repeated: self.repeated + 1, ..self })
    }
}

impl<M: Clone, W> Recoveries<M, W> {
    /// Nothing is known of the feed yet. At most `max_bytes` are kept in memory.
    pub fn new(subject: Arc<str>, kept: RecoveredFrom, max_bytes: usize) -> Self {
        let (recent, waiting) = (Recent::new(MAX_MESSAGES, max_bytes), Vec::new());
        Self { subject, kept, recent, waiting, phase: RecoveryPhase::Idle, newest: 0, has_lost: false }
    }

    /// Whether it keeps the messages that are delivered.
    pub fn keeps_messages(&self) -> bool {
        self.kept == RecoveredFrom::Messages
    }

    /// The size of what is kept in memory, in bytes.
    pub fn recent_bytes(&self) -> usize {
        self.recent.bytes()
    }

    /// The feed has this message, and does not deliver it.
    pub fn note_value(&mut self, seq: u64) {
        self.newest = self.newest.max(seq);
    }

    /// The feed has delivered a message of this size in memory, in bytes.
    pub fn delivered(&mut self, message: StoredMessage<M>, size: usize) {
        self.newest = self.newest.max(message.seq);
        if std::mem::take(&mut self.has_lost) {
            self.recent.begin(message.seq);
        } else if self.keeps_messages() {
            self.recent.push(message, size);
        }
    }

    /// The feed has not delivered all messages before the next one. If it knows which, they end with this sequence.
    pub fn lost(&mut self, up_to: Option<u64>) {
        self.recent.clear();
        self.newest = self.newest.max(up_to.unwrap_or(0));
        self.has_lost = self.keeps_messages();
    }

    /// Forgets what is kept in memory.
    pub fn forget_recent(&mut self) {
        self.recent.clear();
        self.has_lost = self.keeps_messages();
    }

    /// The subscription is lost, and no answer to a read is passed on. Who waits is answered when it is open again.
    pub fn closed(&mut self) {
        self.phase = RecoveryPhase::Idle;
    }

    /// The sequences mean other messages from now on.
    pub fn replaced(&mut self, events: &mut Vec<RecoveryEvent<M, W>>) {
        self.recent.clear();
        (self.phase, self.newest, self.has_lost) = (RecoveryPhase::Idle, 0, false);
        self.give_up(|_| true, Unrecoverable::Epoch, events);
    }

    /// A client wants everything after this sequence. Call [`Recoveries::advance`] next.
    pub fn ask(&mut self, waiter: W, after: u64) {
        self.waiting.push(Waiting { waiter, after, has_rechecked: false, reads: 0 });
    }

    /// Removes clients that wait.
    pub fn remove(&mut self, is_gone: impl Fn(&W) -> bool) {
        self.waiting.retain(|waiting| !is_gone(&waiting.waiter));
    }

    /// Removes and returns all that wait.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = W> {
        self.waiting.drain(..).map(|waiting| waiting.waiter)
    }

    /// Answers those that can be answered, and starts what the others need. Call it after each other event.
    pub fn advance(&mut self, at: FeedPosition, events: &mut Vec<RecoveryEvent<M, W>>) {
        if !at.is_live {
            return;
        }
        let Some(position) = at.seq else {
            if matches!(self.phase, RecoveryPhase::Idle) {
                self.give_up(|_| true, Unrecoverable::Unavailable, events);
            }
            return;
        };
        if !self.keeps_messages() {
            self.recent.begin(0);
        } else if position > 0 && !self.has_lost {
            self.recent.begin(position);
        } else {
            // Without any message, no one knows whether the stream has discarded some.
            self.has_lost |= position == 0;
        }
        if self.waiting.is_empty() {
            return;
        }
        self.answer_from_memory(position, events);
        if matches!(self.phase, RecoveryPhase::Idle) {
            self.give_up(|waiting| waiting.reads >= MAX_READS, Unrecoverable::Unavailable, events);
            let readers = self.waiting.iter_mut().filter(|waiting| waiting.after <= position);
            let from = readers.map(|waiting| {
                waiting.reads += 1;
                waiting.after
            });
            if let Some(from) = from.min() {
                let reading = Reading { from, newest: self.newest, position, repeated: 0 };
                self.read(RecoveryPhase::Reading(reading), events);
            }
        }
    }

    fn answer_from_memory(&mut self, position: u64, events: &mut Vec<RecoveryEvent<M, W>>) {
        let mut needs_recheck = false;
        for mut waiting in std::mem::take(&mut self.waiting) {
            let is_ahead = waiting.after > position;
            if is_ahead && waiting.has_rechecked {
                let cause = Unrecoverable::Epoch;
                events.push(RecoveryEvent::Unrecoverable { waiter: waiting.waiter, cause });
            } else if is_ahead || !self.recent.reaches_back_to(waiting.after) {
                needs_recheck |= is_ahead;
                waiting.has_rechecked |= is_ahead;
                self.waiting.push(waiting);
            } else {
                let (waiter, messages) = (waiting.waiter, self.recent.after(waiting.after));
                events.push(RecoveryEvent::Recovered { waiter, hole: None, messages });
            }
        }
        if needs_recheck {
            events.push(RecoveryEvent::Recheck);
        }
    }

    fn give_up(
        &mut self,
        is_over: impl Fn(&Waiting<W>) -> bool,
        cause: Unrecoverable,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        let over = self.waiting.extract_if(.., |waiting| is_over(waiting));
        events.extend(over.map(|Waiting { waiter, .. }| RecoveryEvent::Unrecoverable { waiter, cause }));
    }

    /// Starts the read of a phase.
    fn read(&mut self, phase: RecoveryPhase<M>, events: &mut Vec<RecoveryEvent<M, W>>) {
        let (query, repeated) = match &phase {
            RecoveryPhase::Idle => return,
            RecoveryPhase::Reading(Reading { from, repeated, .. }) => {
                // Sequences begin with 1.
                let (subject, from) = (Arc::clone(&self.subject), (*from).max(1));
                (StreamQuery::Following { subject, from }, *repeated)
            }
            RecoveryPhase::Asking(Reading { repeated, .. }, _) => (StreamQuery::State, *repeated),
        };
        let source = if repeated < REPEAT_AFTER.len() { ReadFrom::AnyReplica } else { ReadFrom::Leader };
        let after = repeated.checked_sub(1).and_then(|at| REPEAT_AFTER.get(at)).copied().unwrap_or_default();
        events.push(RecoveryEvent::Read(Read { query, source, after }));
        self.phase = phase;
    }

    /// The answer to the read that was started last. `size` is that of a message in memory, in bytes. Call
    /// [`Recoveries::advance`] next.
    pub fn answered(
        &mut self,
        answer: StreamAnswer<M>,
        at: FeedPosition,
        size: impl Fn(&StoredMessage<M>) -> usize,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        match (std::mem::replace(&mut self.phase, RecoveryPhase::Idle), answer) {
            (RecoveryPhase::Reading(reading), StreamAnswer::Following { messages, pending }) => {
                let last = messages.last().map_or(0, |message| message.seq);
                let may_lag = at.replicas == Replicas::Many && pending == 0 && last < reading.newest;
                if let Some(again) = reading.again().filter(|_| may_lag) {
                    self.read(RecoveryPhase::Reading(again), events);
                } else if pending > 0 && messages.len() < MAX_MESSAGES && reading.again().is_none() {
                    // A leader returns few at once.
                    self.give_up(|waiting| waiting.after >= reading.from, Unrecoverable::Unavailable, events);
                } else if pending > 0 {
                    self.refuse_most(&messages, pending, reading.from, events);
                } else if messages.first().is_some_and(|first| first.seq == reading.from) {
                    self.serve(reading, messages, Some(StreamState::KEEPS_ALL), at, size, events);
                } else {
                    self.read(RecoveryPhase::Asking(Reading { repeated: 0, ..reading }, messages), events);
                }
            }
            (RecoveryPhase::Reading(reading), answer) => {
                let may_answer = matches!(answer, StreamAnswer::Unavailable);
                let again = reading.again().filter(|_| may_answer);
                match again {
                    Some(again) => self.read(RecoveryPhase::Reading(again), events),
                    None => {
                        let cause = Unrecoverable::Unavailable;
                        self.give_up(|waiting| waiting.after >= reading.from, cause, events);
                    }
                }
            }
            (RecoveryPhase::Asking(reading, messages), StreamAnswer::State(state)) => {
                self.serve(reading, messages, Some(state), at, size, events);
            }
            (RecoveryPhase::Asking(reading, messages), _) => match reading.again() {
                Some(again) => self.read(RecoveryPhase::Asking(again, messages), events),
                None => self.serve(reading, messages, None, at, size, events),
            },
            (RecoveryPhase::Idle, _) => {}
        }
    }

    /// More messages follow than one client recovers. Others may have missed less: the next read is for them.
    fn refuse_most(
        &mut self,
        messages: &[StoredMessage<M>],
        pending: u64,
        from: u64,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        let surplus = (messages.len() + to_usize(pending)).saturating_sub(MAX_MESSAGES);
        let first = messages.first().map_or(from, |message| message.seq).max(from);
        let too_old = surplus.checked_sub(1).and_then(|last| messages.get(last.min(messages.len() - 1)));
        let up_to = too_old.map_or(first, |message| message.seq.saturating_sub(1).max(first));
        self.give_up(|waiting| waiting.after <= up_to, Unrecoverable::TooMany, events);
    }

    /// Answers those for whom these messages were read.
    fn serve(
        &mut self,
        Reading { from, position: began, .. }: Reading,
        messages: Vec<StoredMessage<M>>,
        state: Option<StreamState>,
        at: FeedPosition,
        size: impl Fn(&StoredMessage<M>) -> usize,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        let (Some(position), true) = (at.seq, at.is_live) else { return };
        let read_up_to = messages.last().map_or(0, |message| message.seq).max(began);
        // What was delivered behind these must still be in memory.
        let kept_from = self.recent.kept_from().unwrap_or(position);
        if kept_from > read_up_to {
            return;
        }
        let hole_of = |after: u64, found: &[StoredMessage<M>]| {
            // It may not have been delivered yet.
            let next = messages.iter().find(|message| message.seq > after);
            let oldest = state.map_or(0, |state| state.first_seq).max(position + 1);
            let first = found.first().or(next).map_or(oldest, |first| first.seq);
            // Streams discard the oldest first, so nothing behind a message that is there is gone.
            let is_there = messages.first().is_some_and(|first| first.seq <= after);
            let stored = messages.iter().filter(|message| message.seq > after).count() as u64;
            let is_kept = state.is_some_and(|state| is_there || state.kept_everything_after(after, stored));
            let is_hole = !is_kept && first > after + 1;
            is_hole.then_some(Hole { from: after + 1, to: first - 1, is_discarded: state.is_some() })
        };
        let mut everything: Vec<_> =
            messages.iter().filter(|message| message.seq <= kept_from).cloned().collect();
        everything.extend(self.recent.after(kept_from));
        let mut kept = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.after < from || waiting.after > position {
                kept.push(waiting);
                continue;
            }
            let (waiter, after) = (waiting.waiter, waiting.after);
            let found: Vec<_> = everything.iter().filter(|message| message.seq > after).cloned().collect();
            events.push(if found.len() > MAX_MESSAGES {
                RecoveryEvent::Unrecoverable { waiter, cause: Unrecoverable::TooMany }
            } else {
                RecoveryEvent::Recovered { waiter, hole: hole_of(after, &found), messages: found }
            });
        }
        self.waiting = kept;
        let complete_from = {
            let after: Vec<_> = everything.iter().filter(|message| message.seq > from).cloned().collect();
            hole_of(from, &after).map_or(from, |hole| hole.to)
        };
        self.recent.extend_back(complete_from, messages, size);
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
