//! The part of a feed whose messages a stream stores: what arrives goes through a [`StoredFeed`], which decides what is
//! delivered, what is read, and what is missing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Priority;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::Position;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::session::recovery::Recovery;

use crate::lane::encoder::Encoder;
use crate::lane::encoder::encode_plain;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::inbox::Item;
use crate::lane::recover::Recover;
use crate::lane::source_stream::Ask;
use crate::lane::source_stream::ReadPurpose;
use crate::lane::source_stream::Recalled;
use crate::lane::source_stream::SourceStream;
use crate::lane::source_stream::StoredContent;
use crate::lane::stored::FeedEvent;
use crate::lane::stored::MissingCause;
use crate::lane::stored::MissingMessages;
use crate::lane::stored::Replicas;
use crate::lane::stored::StoredFeed;
use crate::lane::stored::messages::LiveMessage;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::recoveries::FeedPosition;
use crate::lane::stored::recoveries::Hole;
use crate::lane::stored::recoveries::Recoveries;
use crate::lane::stored::recoveries::RecoveryEvent;
use crate::lane::stored::recoveries::Unrecoverable;
use crate::nats::direct_get::Republished;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// What handling an event of a stored feed needs.
pub struct Handling<'a> {
    pub now: (Instant, SystemTime),
    pub encoder: &'a mut Encoder,
    pub renderers: &'a Renderers,
    /// The largest payload to deliver, in bytes.
    pub delivery_max: usize,
    pub outgoing: &'a mut Vec<ShardItem>,
    pub asks: &'a mut Vec<Ask>,
}

/// What a recovery of a feed leads to.
type FeedRecovery = RecoveryEvent<Recalled, Recover>;

/// The size of a message that is kept in memory, besides its texts, in bytes.
const RECALLED_BYTES: usize = 256;

impl Feed {
    /// Whether a stream stores its messages.
    pub fn is_stored(&self) -> bool {
        self.from_stream.is_some()
    }

    /// The stream that stores its messages.
    pub fn stream(&self) -> Option<&Rc<SourceStream>> {
        self.from_stream.as_ref().map(|from| &from.stream)
    }

    /// The server has confirmed the subscription, and the state of the stream is known, or cannot be read.
    pub fn stream_opened(&mut self, replicas: Replicas, newest: u64, handling: &mut Handling<'_>) {
        self.with_order(handling, |order, events| order.opened(replicas, newest, events));
    }

    /// Compares the feed with its stream if it has lost track of it.
    pub fn recheck_if_lost(&mut self, handling: &mut Handling<'_>) {
        if self.from_stream.as_ref().is_some_and(|from| from.order.has_lost_track()) {
            self.recheck(handling);
        }
    }

    /// The stream was replaced; its oldest message has this sequence.
    pub fn stream_replaced(&mut self, first_seq: u64, handling: &mut Handling<'_>) {
        self.values.clear();
        self.with_recoveries(handling, |recoveries, _, events| recoveries.replaced(events));
        self.with_order(handling, |order, events| order.replaced(first_seq, events));
    }

    /// A client wants what it has missed.
    pub fn recover(&mut self, recover: Recover, handling: &mut Handling<'_>) {
        let Some(from) = &mut self.from_stream else {
            return self.answer_recovery(recover, unrecovered(Some(GapCause::StreamUnavailable)), handling);
        };
        if from.stream.epoch.borrow().as_ref() != Some(&recover.after.epoch) {
            return self.answer_recovery(recover, unrecovered(Some(GapCause::Epoch)), handling);
        }
        let after = recover.after.seq;
        from.recoveries.ask(recover, after);
        self.advance_recoveries(handling);
    }

    /// The answer to the newest read for clients that come back.
    pub fn recovery_answered(&mut self, answer: StreamAnswer<StoredContent>, handling: &mut Handling<'_>) {
        let answer = self.recalled_answer(answer, handling);
        self.with_recoveries(handling, |recoveries, at, events| {
            recoveries.answered(answer, at, recalled_size, events);
        });
        self.advance_recoveries(handling);
    }

    fn advance_recoveries(&mut self, handling: &mut Handling<'_>) {
        self.with_recoveries(handling, |recoveries, at, events| recoveries.advance(at, events));
    }

    fn with_recoveries(
        &mut self,
        handling: &mut Handling<'_>,
        act: impl FnOnce(&mut Recoveries<Recalled, Recover>, FeedPosition, &mut Vec<FeedRecovery>),
    ) {
        let Some(from) = &mut self.from_stream else { return };
        let (at, before, mut events) = (from.feed_position(), from.recoveries.recent_bytes(), Vec::new());
        act(&mut from.recoveries, at, &mut events);
        from.stream.count_recent(before, from.recoveries.recent_bytes());
        for event in events {
            match event {
                RecoveryEvent::Read(read) => handling.asks.push(Ask::Read(ReadPurpose::Recovery, read)),
                RecoveryEvent::Recheck => self.recheck(handling),
                RecoveryEvent::Recovered { waiter, hole, messages } => {
                    self.send_recovered(waiter, hole, messages, handling);
                }
                RecoveryEvent::Unrecoverable { waiter, cause } => {
                    let cause = match cause {
                        Unrecoverable::Unavailable => GapCause::StreamUnavailable,
                        Unrecoverable::Epoch => GapCause::Epoch,
                        Unrecoverable::TooMany => GapCause::TooMany,
                    };
                    self.answer_recovery(waiter, unrecovered(Some(cause)), handling);
                }
            }
        }
    }

    /// Encodes what a client has missed, in its format.
    fn send_recovered(
        &mut self,
        recover: Recover,
        hole: Option<Hole>,
        messages: Vec<StoredMessage<Recalled>>,
        handling: &mut Handling<'_>,
    ) {
        let cause = |is_discarded| match is_discarded {
            true => GapCause::Discarded,
            false => GapCause::StreamUnavailable,
        };
        let range = |Hole { from, to, .. }| SequenceRange { from, to };
        let mut missing = hole.map(|hole| (cause(hole.is_discarded), Some(range(hole))));
        let (max_age, mut scratch) = (self.class.max_age, Scratch::of_recovery());
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            let recalled = match message.content {
                Ok(recalled) => recalled,
                Err(cause) => {
                    missing.get_or_insert((cause, None));
                    continue;
                }
            };
            let (publication, priority) = &*recalled;
            let rendered = encode_plain(
                handling.renderers,
                recover.format,
                self.pattern.as_str(),
                publication,
                &mut scratch,
            );
            if let Rendered::Frame(frame) = rendered {
                let arrived = arrival(publication.time, handling.now);
                let expires = max_age.and_then(|max_age| arrived.checked_add(max_age));
                let key = Arc::clone(&publication.key);
                deliveries.push(Delivery { frame, key, priority: *priority, expires });
            }
        }
        let recovery = Recovery { messages: deliveries, ..unrecovered(None) };
        self.answer_recovery(recover, Recovery { missing, ..recovery }, handling);
    }

    /// Sends the answer, with the last values if they replace the messages.
    fn answer_recovery(&mut self, recover: Recover, recovery: Recovery, handling: &mut Handling<'_>) {
        let Recover { shard, pattern, format, after } = recover;
        let position = self.from_stream.as_ref().and_then(|from| from.position());
        let position = position.map(|position| Position { seq: position.seq.max(after.seq), ..position });
        let shows_values = match &recovery.missing {
            None => self.class.recovers_by_values(),
            Some(_) => recovery.messages.is_empty(),
        };
        let mut snapshot = Vec::new();
        if shows_values {
            snapshot = self.snapshot(format, handling.renderers, handling.now.0).deliveries;
        }
        let recovery = Recovery { snapshot, position, ..recovery };
        handling
            .outgoing
            .push(ShardItem { shard, item: Item::Recovered { pattern, format, after, recovery } });
    }

    /// A message as it is kept for clients that come back.
    fn recalled(
        &self,
        message: StoredMessage<StoredContent>,
        handling: &Handling<'_>,
    ) -> StoredMessage<Recalled> {
        let StoredMessage { subject, seq, content: StoredContent { message, time } } = message;
        let at = (time.unwrap_or(handling.now.1), seq);
        let content = if message.payload_size() > handling.delivery_max {
            Err(GapCause::TooLarge)
        } else {
            let read = self.publication(&message, Arc::clone(&subject), at);
            read.map(Rc::new).map_err(|Malformed| GapCause::Malformed)
        };
        StoredMessage { subject, seq, content }
    }

    fn recalled_answer(
        &self,
        answer: StreamAnswer<StoredContent>,
        handling: &Handling<'_>,
    ) -> StreamAnswer<Recalled> {
        match answer {
            StreamAnswer::Following { messages, pending } => {
                let messages = messages.into_iter().map(|message| self.recalled(message, handling)).collect();
                StreamAnswer::Following { messages, pending }
            }
            StreamAnswer::State(state) => StreamAnswer::State(state),
            StreamAnswer::Newest { .. } | StreamAnswer::Unavailable => StreamAnswer::Unavailable,
            StreamAnswer::Refused => StreamAnswer::Refused,
        }
    }

    /// Compares the feed with its stream.
    pub fn recheck(&mut self, handling: &mut Handling<'_>) {
        self.with_order(handling, |order, events| order.recheck(events));
    }

    /// The answer to the newest read.
    pub fn answered(&mut self, answer: StreamAnswer<StoredContent>, handling: &mut Handling<'_>) {
        self.with_order(handling, |order, events| order.answered(answer, events));
    }

    /// The stream has sent on a message.
    pub fn publish_copy(&mut self, copy: &Message, handling: &mut Handling<'_>) -> Result<(), Malformed> {
        let Some(from) = &mut self.from_stream else { return Ok(()) };
        let (Some(subject), Some(at)) = (Class::subject_of_copy(copy.subject()), Republished::of(copy))
        else {
            return Err(Malformed);
        };
        if !Republished::is_from(copy, &from.stream.name) {
            return Ok(());
        }
        from.stream.note_seen(at.seq);
        // What may wait must not keep the read buffer alive.
        let message = if from.order.is_live() { copy.clone() } else { copy.detached() };
        let same = *subject == *self.pattern.as_str();
        let subject = if same { Arc::clone(self.pattern.text()) } else { subject.into() };
        let (seq, content) = (at.seq, StoredContent { message, time: at.time });
        let live = LiveMessage { message: StoredMessage { subject, seq, content }, previous: at.previous };
        self.note_message(handling.now, handling.encoder);
        self.with_order(handling, |order, events| order.live(live, copy.size(), events));
        Ok(())
    }

    fn with_order(
        &mut self,
        handling: &mut Handling<'_>,
        act: impl FnOnce(&mut StoredFeed<StoredContent>, &mut Vec<FeedEvent<StoredContent>>),
    ) {
        let Some(from) = &mut self.from_stream else { return };
        let mut events = Vec::new();
        act(&mut from.order, &mut events);
        events.into_iter().for_each(|event| self.handle(event, handling));
        self.advance_recoveries(handling);
    }

    fn handle(&mut self, event: FeedEvent<StoredContent>, handling: &mut Handling<'_>) {
        match event {
            FeedEvent::Value(message) => {
                if let Some(from) = &mut self.from_stream {
                    from.recoveries.note_value(message.seq);
                }
                self.keep_value(message, handling);
            }
            FeedEvent::Deliver(message) => self.deliver(message, handling),
            FeedEvent::Missing(missing) => {
                if let Some(from) = &mut self.from_stream {
                    from.forget_recent();
                    from.recoveries.lost(missing.range.as_ref().map(|(_, _, up_to)| *up_to));
                }
                self.report(&missing, handling.outgoing);
            }
            FeedEvent::Skipped => {}
            FeedEvent::Read(read) => handling.asks.push(Ask::Read(ReadPurpose::Order, read)),
            FeedEvent::Ready { has_values } => {
                self.opened(handling.renderers, handling.now.0, handling.outgoing);
                if !has_values && self.class.snapshot {
                    self.gap(GapCause::StreamUnavailable, None, None, handling.outgoing);
                }
            }
            FeedEvent::Reopened => self.opened(handling.renderers, handling.now.0, handling.outgoing),
            FeedEvent::Repeated => handling.asks.push(Ask::CheckStream),
            FeedEvent::RecheckSoon => handling.asks.push(Ask::RecheckSoon),
        }
    }

    fn keep_value(&mut self, message: StoredMessage<StoredContent>, handling: &Handling<'_>) {
        let StoredMessage { subject, seq, content: StoredContent { message, time } } = message;
        if !self.class.snapshot || message.payload_size() > handling.delivery_max {
            return;
        }
        // A value that cannot be read is not shown; the next one is.
        let Ok((publication, _)) = self.publication(&message, subject, (time.unwrap_or(handling.now.1), seq))
        else {
            return;
        };
        let arrived = arrival(publication.time, handling.now);
        self.keep(publication, arrived);
    }

    fn deliver(&mut self, message: StoredMessage<StoredContent>, handling: &mut Handling<'_>) {
        let message = self.recalled(message, handling);
        match &message.content {
            Ok(delivered) => {
                let (publication, priority) = (delivered.0.clone(), delivered.1);
                self.hand_on(publication, priority, handling.now, handling.encoder, handling.outgoing);
            }
            Err(cause) => self.undelivered(*cause, &message.subject, handling.outgoing),
        }
        if let Some(from) = &mut self.from_stream
            && from.recoveries.keeps_messages()
        {
            // What is kept must not keep the read buffer alive.
            let detached = |recalled: Rc<(Publication, Priority)>| {
                let (publication, priority) = &*recalled;
                let payload = publication.payload.detached();
                Rc::new((Publication { payload, ..publication.clone() }, *priority))
            };
            let message = StoredMessage { content: message.content.map(detached), ..message };
            let size = recalled_size(&message);
            from.note_delivered(message, size);
        }
    }

    fn report(&mut self, missing: &MissingMessages, outgoing: &mut Vec<ShardItem>) {
        let cause = match missing.cause {
            MissingCause::Discarded => GapCause::Discarded,
            MissingCause::Unavailable => GapCause::StreamUnavailable,
            MissingCause::Epoch => GapCause::Epoch,
        };
        // What is there of the stream has been kept already, or follows.
        match (&missing.range, missing.cause) {
            (Some((subject, ..)), _) => self.values.forget(subject),
            (None, MissingCause::Unavailable | MissingCause::Epoch) => self.values.clear(),
            (None, MissingCause::Discarded) => {}
        }
        // On a channel of many subjects, other messages are between these sequences.
        let range = missing.range.as_ref().filter(|_| self.pattern.is_literal());
        let range = range.map(|(_, from, to)| SequenceRange { from: *from, to: *to });
        self.gap(cause, None, range, outgoing);
    }
}

/// What is known of an answer before its messages and values.
fn unrecovered(cause: Option<GapCause>) -> Recovery {
    let missing = cause.map(|cause| (cause, None));
    Recovery { snapshot: Vec::new(), messages: Vec::new(), missing, position: None }
}

/// About the size in memory, in bytes.
fn recalled_size(message: &StoredMessage<Recalled>) -> usize {
    let of_content = message.content.as_ref().map_or(0, |recalled| {
        let publication = &recalled.0;
        publication.payload.bytes().len() + publication.headers.size() + publication.key.len()
    });
    RECALLED_BYTES + message.subject.len() + of_content
}

/// When a message arrived that was stored then.
fn arrival(stored: SystemTime, now: (Instant, SystemTime)) -> Instant {
    let age = now.1.duration_since(stored).unwrap_or_default();
    now.0.checked_sub(age).unwrap_or(now.0)
}
