//! `Recoveries`: what clients that come back have missed on a feed whose messages a stream stores. It does no I/O.
//!
//! A client asks for everything after a position. What the feed has delivered lately is kept in memory, and answers
//! most of them. Otherwise the missing part is read from the stream, once for all who wait, from the oldest position
//! itself: streams discard the oldest messages first, so if the message of that position is still there, nothing behind
//! it is gone.

use std::rc::Rc;
use std::sync::Arc;

use crate::lane::stored::Replicas;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::reads::REPEAT_AFTER;
use crate::lane::stored::reads::Read;
use crate::lane::stored::reads::ReadFrom;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::reads::StreamQuery;
use crate::lane::stored::reads::StreamState;
use crate::lane::stored::recent::Recent;

/// The most messages that one client recovers; they must fit into its outbox.
pub const MAX_MESSAGES: usize = 500;
/// How often the stream is read for one client.
const MAX_READS: usize = 3;
/// The most requests that wait at one feed. Clients of a shard with the same position and format share one.
const MAX_WAITING: usize = 10_000;

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
pub enum RecoversBy {
    /// The messages that they have missed. The feed has one subject.
    Messages,
    /// The last values of the feed.
    Values,
}

/// Why a client does not get what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecoverable {
    /// The stream cannot be read.
    Unavailable,
    /// The stream has never had the position.
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
    /// The client gets those of `messages` behind `after`, which are in order. Those of `hole` are missing before them.
    Recovered {
        waiter: W,
        hole: Option<Hole>,
        after: u64,
        messages: Rc<[StoredMessage<M>]>,
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
    by: RecoversBy,
    recent: Recent<M>,
    waiting: Vec<Waiting<W>>,
    phase: RecoveryPhase<M>,
    /// The sequence of the newest message that the feed has had, or has not delivered.
    newest: u64,
    /// Whether messages are missing before the next one.
    has_lost: bool,
    /// The oldest message of the stream when it was last asked for those that are ahead.
    oldest: u64,
    /// Who comes back from an earlier sequence has missed too much.
    too_old_before: u64,
    /// Whether someone may be answered, or a read may be needed.
    has_news: bool,
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    after: u64,
    /// What is known of a position behind that of the feed.
    ahead: Ahead,
    /// How often the stream has been read for it.
    reads: usize,
}

/// A client of another node may be ahead of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// Has the stream ever had the position?
    Unknown,
    /// The stream is being asked.
    Asked,
    /// It has. Does it have messages of the subject up to there that the feed has not delivered?
    InStream,
}

#[derive(Debug)]
enum RecoveryPhase<M> {
    Idle,
    Reading(Reading),
    /// These messages have been read, and the state of the stream will tell what is missing.
    Asking(Reading, Vec<StoredMessage<M>>),
    /// The state of the stream will tell whether it has had the positions of those that are ahead.
    Locating {
        repeated: usize,
    },
    /// The next message behind the position of the feed is being read, for those that are ahead.
    LookingAhead {
        position: u64,
        repeated: usize,
    },
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
        next(self.repeated).map(|repeated| Self { repeated, ..self })
    }
}

/// The number of the next repetition, if there is one.
fn next(repeated: usize) -> Option<usize> {
    (repeated < REPEAT_AFTER.len()).then_some(repeated + 1)
}

impl<M: Clone, W> Recoveries<M, W> {
    /// Nothing is known of the feed yet. At most `max_bytes` are kept in memory.
    pub fn new(subject: Arc<str>, by: RecoversBy, max_bytes: usize) -> Self {
        Self {
            subject,
            by,
            recent: Recent::new(max_bytes),
            waiting: Vec::new(),
            phase: RecoveryPhase::Idle,
            newest: 0,
            has_lost: false,
            oldest: 0,
            too_old_before: 0,
            has_news: false,
        }
    }

    /// Whether it keeps the messages that are delivered.
    pub fn keeps_messages(&self) -> bool {
        self.by == RecoversBy::Messages
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
    }

    /// The subscription is lost, and no answer to a read is passed on. Who waits is answered when it is open again.
    pub fn closed(&mut self) {
        self.phase = RecoveryPhase::Idle;
        self.waiting.iter_mut().for_each(|waiting| waiting.ahead = Ahead::Unknown);
    }

    /// The sequences mean other messages from now on.
    pub fn replaced(&mut self, events: &mut Vec<RecoveryEvent<M, W>>) {
        self.recent.clear();
        (self.phase, self.newest) = (RecoveryPhase::Idle, 0);
        (self.has_lost, self.too_old_before) = (false, 0);
        self.give_up(|_| true, Unrecoverable::Epoch, events);
    }

    /// A client wants everything after this sequence. Returns it if too many wait. Call [`Recoveries::advance`] next.
    pub fn ask(&mut self, waiter: W, after: u64) -> Option<W> {
        if self.waiting.len() >= MAX_WAITING {
            return Some(waiter);
        }
        self.waiting.push(Waiting { waiter, after, ahead: Ahead::Unknown, reads: 0 });
        self.has_news = true;
        None
    }

    /// Removes clients that wait.
    pub fn remove(&mut self, is_gone: impl Fn(&W) -> bool) {
        self.waiting.retain(|waiting| !is_gone(&waiting.waiter));
    }

    /// Answers those that can be answered, and starts what the others need. Call it after each other event.
    pub fn advance(&mut self, at: FeedPosition, events: &mut Vec<RecoveryEvent<M, W>>) {
        if !at.is_live {
            return;
        }
        let is_idle = matches!(self.phase, RecoveryPhase::Idle);
        let Some(position) = at.seq else {
            if is_idle {
                self.give_up(|_| true, Unrecoverable::Unavailable, events);
            }
            return;
        };
        if self.by == RecoversBy::Values {
            let all = std::mem::take(&mut self.waiting).into_iter();
            events.extend(all.map(|Waiting { waiter, after, .. }| RecoveryEvent::Recovered {
                waiter,
                hole: None,
                after,
                messages: Rc::default(),
            }));
            return;
        }
        if position > 0 && !self.has_lost {
            self.recent.begin(position);
        } else {
            // Without any message, no one knows whether the stream has discarded some.
            self.has_lost |= position == 0;
        }
        if self.waiting.is_empty() || !is_idle && !self.has_news {
            return;
        }
        self.has_news = false;
        let too_old_before = self.too_old_before;
        self.give_up(|waiting| waiting.after < too_old_before, Unrecoverable::TooMany, events);
        self.answer_from_memory(position, events);
        if is_idle {
            self.give_up(|waiting| waiting.reads >= MAX_READS, Unrecoverable::Unavailable, events);
            self.read_next(position, events);
        }
    }

    fn answer_from_memory(&mut self, position: u64, events: &mut Vec<RecoveryEvent<M, W>>) {
        let Some(kept_from) = self.recent.kept_from() else { return };
        let is_there = |waiting: &mut Waiting<W>| (kept_from..=position).contains(&waiting.after);
        let answered: Vec<_> = self.waiting.extract_if(.., is_there).collect();
        if let Some(oldest) = answered.iter().map(|waiting| waiting.after).min() {
            let messages: Rc<[_]> = self.recent.after(oldest).into();
            events.extend(answered.into_iter().map(|Waiting { waiter, after, .. }| {
                let messages = Rc::clone(&messages);
                RecoveryEvent::Recovered { waiter, hole: None, after, messages }
            }));
        }
    }

    /// Starts the read that those who wait need.
    fn read_next(&mut self, position: u64, events: &mut Vec<RecoveryEvent<M, W>>) {
        let behind = self.waiting.iter_mut().filter(|waiting| waiting.after <= position);
        let from = behind.map(|waiting| {
            waiting.reads += 1;
            waiting.after
        });
        if let Some(from) = from.min() {
            let reading = Reading { from, newest: self.newest, position, repeated: 0 };
            return self.read(RecoveryPhase::Reading(reading), events);
        }
        if self.waiting.iter().any(|waiting| waiting.ahead == Ahead::Unknown) {
            let unknown = self.waiting.iter_mut().filter(|waiting| waiting.ahead == Ahead::Unknown);
            unknown.for_each(|waiting| waiting.ahead = Ahead::Asked);
            return self.read(RecoveryPhase::Locating { repeated: 0 }, events);
        }
        if !self.waiting.is_empty() {
            self.waiting.iter_mut().for_each(|waiting| waiting.reads += 1);
            self.read(RecoveryPhase::LookingAhead { position, repeated: 0 }, events);
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
        let following = |from: u64| {
            // Sequences begin with 1.
            StreamQuery::Following { subject: Arc::clone(&self.subject), from: from.max(1) }
        };
        let (query, repeated) = match &phase {
            RecoveryPhase::Idle => return,
            RecoveryPhase::Reading(Reading { from, repeated, .. }) => (following(*from), *repeated),
            RecoveryPhase::Asking(Reading { repeated, .. }, _) | RecoveryPhase::Locating { repeated } => {
                (StreamQuery::State, *repeated)
            }
            RecoveryPhase::LookingAhead { position, repeated } => (following(position + 1), *repeated),
        };
        let mut read = Read::repeated(query, repeated);
        if matches!(phase, RecoveryPhase::LookingAhead { .. }) {
            // A replica may not have what another node has delivered.
            read.source = ReadFrom::Leader;
        }
        events.push(RecoveryEvent::Read(read));
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
        self.has_news = true;
        match (std::mem::replace(&mut self.phase, RecoveryPhase::Idle), answer) {
            (RecoveryPhase::Reading(reading), StreamAnswer::Following { messages, pending }) => {
                self.read_page(reading, (messages, pending), at, size, events);
            }
            (RecoveryPhase::Reading(reading), answer) => {
                let may_answer = matches!(answer, StreamAnswer::Unavailable);
                match reading.again().filter(|_| may_answer) {
                    Some(again) => self.read(RecoveryPhase::Reading(again), events),
                    None => self.give_up_behind(reading, events),
                }
            }
            (RecoveryPhase::Asking(reading, messages), StreamAnswer::State(state)) => {
                self.serve(reading, messages, Some(state), at, size, events);
            }
            (RecoveryPhase::Asking(reading, messages), _) => match reading.again() {
                Some(again) => self.read(RecoveryPhase::Asking(again, messages), events),
                None => self.serve(reading, messages, None, at, size, events),
            },
            (RecoveryPhase::Locating { .. }, StreamAnswer::State(state)) => {
                let position = at.seq.unwrap_or(0);
                self.oldest = state.first_seq;
                let last = position.max(state.last_seq);
                let is_asked = |waiting: &Waiting<W>| waiting.ahead == Ahead::Asked;
                let never = |waiting: &Waiting<W>| is_asked(waiting) && waiting.after > last;
                self.give_up(never, Unrecoverable::Epoch, events);
                let asked = self.waiting.iter_mut().filter(|waiting| is_asked(waiting));
                asked.for_each(|waiting| waiting.ahead = Ahead::InStream);
            }
            (RecoveryPhase::LookingAhead { position, .. }, StreamAnswer::Following { messages, .. }) => {
                self.looked_ahead(position, messages.first().map(|message| message.seq), at, events);
            }
            (RecoveryPhase::Locating { repeated }, _) => match next(repeated) {
                Some(repeated) => self.read(RecoveryPhase::Locating { repeated }, events),
                None => self.give_up_ahead(at, events),
            },
            (RecoveryPhase::LookingAhead { position, repeated }, _) => match next(repeated) {
                Some(repeated) => self.read(RecoveryPhase::LookingAhead { position, repeated }, events),
                None => self.give_up_ahead(at, events),
            },
            (RecoveryPhase::Idle, _) => {}
        }
    }

    fn give_up_behind(&mut self, reading: Reading, events: &mut Vec<RecoveryEvent<M, W>>) {
        let was_read_for = |waiting: &Waiting<W>| (reading.from..=reading.position).contains(&waiting.after);
        self.give_up(was_read_for, Unrecoverable::Unavailable, events);
    }

    fn give_up_ahead(&mut self, at: FeedPosition, events: &mut Vec<RecoveryEvent<M, W>>) {
        let position = at.seq.unwrap_or(0);
        self.give_up(|waiting| waiting.after > position, Unrecoverable::Unavailable, events);
    }

    /// The next message behind a position of the feed has this sequence. Who is ahead has everything up to there.
    fn looked_ahead(
        &mut self,
        position: u64,
        next: Option<u64>,
        at: FeedPosition,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        if at.seq != Some(position) {
            return;
        }
        // The feed has reported what is missing already, and does not do so again.
        let (has_lost, missing_up_to) = (self.has_lost, self.oldest.max(next.unwrap_or(0)).saturating_sub(1));
        let next = next.unwrap_or(u64::MAX);
        let is_there = |waiting: &mut Waiting<W>| {
            waiting.ahead == Ahead::InStream && position < waiting.after && waiting.after < next
        };
        for Waiting { waiter, after, .. } in self.waiting.extract_if(.., is_there) {
            let hole = Hole { from: after + 1, to: missing_up_to, is_discarded: true };
            let hole = Some(hole).filter(|hole| has_lost && hole.from <= hole.to);
            events.push(RecoveryEvent::Recovered { waiter, hole, after, messages: Rc::default() });
        }
        if self.waiting.iter().any(|waiting| waiting.ahead == Ahead::InStream && waiting.after >= next) {
            events.push(RecoveryEvent::Recheck);
        }
    }

    /// The messages that those who wait have missed, and how many follow.
    fn read_page(
        &mut self,
        reading: Reading,
        (messages, pending): (Vec<StoredMessage<M>>, u64),
        at: FeedPosition,
        size: impl Fn(&StoredMessage<M>) -> usize,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        let last = messages.last().map_or(0, |message| message.seq);
        let may_lag = at.replicas == Replicas::Many && pending == 0 && last < reading.newest;
        if let Some(again) = reading.again().filter(|_| may_lag) {
            self.read(RecoveryPhase::Reading(again), events);
        } else if pending > 0 && reading.again().is_none() {
            // A leader returns few at once.
            self.give_up_behind(reading, events);
        } else if pending > 0 {
            self.refuse_most(&messages, pending, reading.from, events);
        } else if messages.first().is_some_and(|first| first.seq == reading.from) {
            self.serve(reading, messages, Some(StreamState::KEEPS_ALL), at, size, events);
        } else {
            self.read(RecoveryPhase::Asking(Reading { repeated: 0, ..reading }, messages), events);
        }
    }

    /// More messages follow than fit into one answer. Others may have missed less: the next read is for them.
    fn refuse_most(
        &mut self,
        messages: &[StoredMessage<M>],
        pending: u64,
        from: u64,
        events: &mut Vec<RecoveryEvent<M, W>>,
    ) {
        let surplus = usize::try_from(pending).unwrap_or(usize::MAX).min(messages.len());
        let first = messages.first().map_or(from, |message| message.seq).max(from);
        let too_old = surplus.checked_sub(1).and_then(|last| messages.get(last));
        let up_to = too_old.map_or(first, |message| message.seq.saturating_sub(1).max(first));
        self.too_old_before = self.too_old_before.max(up_to.saturating_add(1));
        self.give_up(|waiting| waiting.after <= up_to, Unrecoverable::TooMany, events);
        // That read was for those.
        self.waiting.iter_mut().for_each(|waiting| waiting.reads = waiting.reads.saturating_sub(1));
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
        let everything: Rc<[_]> = {
            let read = messages.iter().filter(|message| message.seq > from && message.seq <= kept_from);
            read.cloned().chain(self.recent.after(kept_from)).collect()
        };
        let hole_of = |after: u64| {
            // It may not have been delivered yet.
            let next = messages.iter().find(|message| message.seq > after);
            let oldest = state.map_or(0, |state| state.first_seq).max(position + 1);
            let first = everything.iter().find(|message| message.seq > after).or(next);
            let first = first.map_or(oldest, |first| first.seq);
            // Streams discard the oldest first, so nothing behind a message that is there is gone.
            let is_there = messages.first().is_some_and(|first| first.seq <= after);
            let stored = messages.iter().filter(|message| message.seq > after).count() as u64;
            let is_kept = state.is_some_and(|state| is_there || state.kept_everything_after(after, stored));
            let is_hole = !is_kept && first > after + 1;
            is_hole.then_some(Hole { from: after + 1, to: first - 1, is_discarded: state.is_some() })
        };
        let is_served = |waiting: &mut Waiting<W>| (from..=position).contains(&waiting.after);
        for Waiting { waiter, after, .. } in self.waiting.extract_if(.., is_served) {
            let missed = everything.len() - everything.partition_point(|message| message.seq <= after);
            events.push(if missed > MAX_MESSAGES {
                RecoveryEvent::Unrecoverable { waiter, cause: Unrecoverable::TooMany }
            } else {
                let messages = Rc::clone(&everything);
                RecoveryEvent::Recovered { waiter, hole: hole_of(after), after, messages }
            });
        }
        let complete_from = hole_of(from).map_or(from, |hole| hole.to);
        self.recent.extend_back(complete_from, messages, size);
    }
}

#[cfg(test)]
mod tests;
