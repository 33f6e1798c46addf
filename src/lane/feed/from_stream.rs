//! The part of a feed whose messages a stream stores: what arrives goes through a [`StoredFeed`], which decides what is
//! delivered, what is read, and what is missing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::frame::Format;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::session::recovery::Recovery;
use tidegate_protocol::session::recovery::SharedDeliveries;

use crate::lane::encoder::Encoder;
use crate::lane::encoder::encode_plain;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::inbox::Item;
use crate::lane::inbox::RecoveryAnswer;
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
            return self.refuse_recovery(recover, GapCause::StreamUnavailable, handling);
        };
        if from.stream.epoch.borrow().as_ref() != Some(&recover.after.epoch) {
            return self.refuse_recovery(recover, GapCause::Epoch, handling);
        }
        let after = recover.after.seq;
        if let Some(recover) = from.recoveries.ask(recover, after) {
            return self.refuse_recovery(recover, GapCause::StreamUnavailable, handling);
        }
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
        if let Some(from) = &mut self.from_stream {
            from.settle_values();
        }
        self.with_recoveries(handling, |recoveries, at, events| recoveries.advance(at, events));
    }

    fn with_recoveries(
        &mut self,
        handling: &mut Handling<'_>,
        act: impl FnOnce(&mut Recoveries<Recalled, Recover>, FeedPosition, &mut Vec<FeedRecovery>),
    ) {
        let Some(from) = &mut self.from_stream else { return };
        let mut events = Vec::new();
        from.change_recoveries(|recoveries, at| act(recoveries, at, &mut events));
        let mut encoded: Vec<Missed> = Vec::new();
        for event in events {
            match event {
                RecoveryEvent::Read(read) => handling.asks.push(Ask::Read(ReadPurpose::Recovery, read)),
                RecoveryEvent::Recheck => self.recheck(handling),
                RecoveryEvent::Recovered { waiter, hole, after, messages } => {
                    let known = encoded.iter().position(|missed| missed.is_of(&messages, waiter.format));
                    let place = known.unwrap_or_else(|| {
                        encoded.push(self.missed(messages, waiter.format, handling));
                        encoded.len() - 1
                    });
                    let recovery = encoded.get(place).map(|missed| missed.behind(after, hole));
                    self.answer_recovery(waiter, recovery.unwrap_or_default(), handling);
                }
                RecoveryEvent::Unrecoverable { waiter, cause } => {
                    let cause = match cause {
                        Unrecoverable::Unavailable => GapCause::StreamUnavailable,
                        Unrecoverable::Epoch => GapCause::Epoch,
                        Unrecoverable::TooMany => GapCause::TooMany,
                    };
                    self.refuse_recovery(waiter, cause, handling);
                }
            }
        }
    }

    /// Encodes messages that clients have missed, in a format.
    fn missed(
        &self,
        messages: Rc<[StoredMessage<Recalled>]>,
        format: Format,
        handling: &Handling<'_>,
    ) -> Missed {
        let (max_age, mut scratch) = (self.class.max_age, Scratch::of_recovery());
        let (mut sequences, mut deliveries, mut undelivered) = (Vec::new(), Vec::new(), Vec::new());
        for message in &*messages {
            let publication = match &message.content {
                Ok(publication) => publication,
                Err(cause) => {
                    undelivered.push((message.seq, *cause));
                    continue;
                }
            };
            let channel = self.pattern.as_str();
            let rendered = encode_plain(handling.renderers, format, channel, publication, &mut scratch);
            if let Rendered::Frame(frame) = rendered {
                let arrived = arrival(publication.time, handling.now);
                let expires = max_age.and_then(|max_age| arrived.checked_add(max_age));
                let (key, priority) = (Arc::clone(&publication.key), self.class.priority);
                sequences.push(message.seq);
                deliveries.push(Delivery { frame, key, priority, expires });
            }
        }
        Missed { messages, format, sequences, deliveries: deliveries.into(), undelivered }
    }

    fn refuse_recovery(&mut self, recover: Recover, cause: GapCause, handling: &mut Handling<'_>) {
        let recovery = Recovery { missing: vec![(cause, None)], ..Recovery::default() };
        self.answer_recovery(recover, recovery, handling);
    }

    /// Sends the answer, with the last values if they replace the messages.
    fn answer_recovery(&mut self, recover: Recover, mut recovery: Recovery, handling: &mut Handling<'_>) {
        let Recover { shard, pattern, format, after } = recover;
        let is_by_values = self.class.recovers_by_values();
        recovery.position = self.from_stream.as_ref().and_then(|from| from.position());
        if let Some(position) = recovery.position.as_mut().filter(|_| !recovery.messages.is_empty()) {
            // The messages follow. If the client is gone before they arrive, it must ask for them again.
            position.seq = after.seq;
        }
        if is_by_values && recovery.missing.is_empty() {
            let lost = self.from_stream.as_ref().and_then(|from| from.values_lost);
            let lost = lost.filter(|lost| after.seq < lost.up_to).map(|lost| lost.cause);
            let evicted = (after.seq < self.values.evicted_up_to()).then_some(GapCause::TooMany);
            recovery.missing.extend(lost.or(evicted).map(|cause| (cause, None)));
        }
        if is_by_values || !recovery.missing.is_empty() && recovery.messages.is_empty() {
            let values = self.snapshot(format, handling.renderers, handling.now.0).deliveries;
            recovery.snapshot = values.into_iter().collect();
        }
        recovery.stale = self.silent_since(handling.now.0);
        let answer = Box::new(RecoveryAnswer { format, after, recovery });
        handling.outgoing.push(ShardItem { shard, item: Item::Recovered { pattern, answer } });
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
            read.map(|(publication, _)| Rc::new(publication)).map_err(|Malformed| GapCause::Malformed)
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
                    let up_to = missing.range.as_ref().map(|(_, _, up_to)| *up_to);
                    from.change_recoveries(|recoveries, _| recoveries.lost(up_to));
                    from.lose_values(cause_of(missing.cause));
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
        if !self.class.snapshot {
            return;
        }
        let StoredMessage { seq, content, .. } = self.recalled(message, handling);
        match content {
            Ok(publication) => {
                let arrived = arrival(publication.time, handling.now);
                self.keep(Publication::clone(&publication), arrived);
            }
            // A value that cannot be read is not shown; the next one is.
            Err(cause) => self.from_stream.iter_mut().for_each(|from| from.lose_values_up_to(seq, cause)),
        }
    }

    fn deliver(&mut self, message: StoredMessage<StoredContent>, handling: &mut Handling<'_>) {
        let message = self.recalled(message, handling);
        match &message.content {
            Ok(publication) => {
                // The message's own priority is ignored: clients recover by position, so messages must arrive in order.
                let (publication, priority) = (Publication::clone(publication), self.class.priority);
                self.hand_on(publication, priority, handling.now, handling.encoder, handling.outgoing);
            }
            Err(cause) => {
                if let Some(from) = &mut self.from_stream {
                    from.lose_values_up_to(message.seq, *cause);
                }
                self.undelivered(*cause, &message.subject, handling.outgoing);
            }
        }
        if let Some(from) = &mut self.from_stream
            && from.recoveries.keeps_messages()
        {
            // What is kept must not keep the read buffer alive.
            let detached = |publication: Rc<Publication>| {
                let payload = publication.payload.detached();
                Rc::new(Publication { payload, ..Publication::clone(&publication) })
            };
            let message = StoredMessage { content: message.content.map(detached), ..message };
            let size = recalled_size(&message);
            from.change_recoveries(|recoveries, _| recoveries.delivered(message, size));
        }
    }

    fn report(&mut self, missing: &MissingMessages, outgoing: &mut Vec<ShardItem>) {
        let cause = cause_of(missing.cause);
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

/// Messages that clients have missed, in one format.
struct Missed {
    messages: Rc<[StoredMessage<Recalled>]>,
    format: Format,
    /// Of the messages that can be delivered, in order.
    sequences: Vec<u64>,
    deliveries: Arc<[Delivery]>,
    /// The others, and why.
    undelivered: Vec<(u64, GapCause)>,
}

impl Missed {
    fn is_of(&self, messages: &Rc<[StoredMessage<Recalled>]>, format: Format) -> bool {
        Rc::ptr_eq(&self.messages, messages) && self.format == format
    }

    /// What a client gets that was at this position.
    fn behind(&self, after: u64, hole: Option<Hole>) -> Recovery {
        let of_hole = hole.map(|Hole { from, to, is_discarded }| {
            let cause = if is_discarded { GapCause::Discarded } else { GapCause::StreamUnavailable };
            (cause, Some(SequenceRange { from, to }))
        });
        let undelivered = self.undelivered.iter().filter(|(seq, _)| *seq > after);
        let undelivered =
            undelivered.map(|(seq, cause)| (*cause, Some(SequenceRange { from: *seq, to: *seq })));
        let first = self.sequences.partition_point(|seq| *seq <= after);
        Recovery {
            messages: SharedDeliveries::from_place(Arc::clone(&self.deliveries), first),
            missing: of_hole.into_iter().chain(undelivered).collect(),
            ..Recovery::default()
        }
    }
}

/// About the size in memory, in bytes.
fn recalled_size(message: &StoredMessage<Recalled>) -> usize {
    let of_content = message
        .content
        .as_ref()
        .map_or(0, |recalled| recalled.payload.bytes().len() + recalled.headers.size() + recalled.key.len());
    RECALLED_BYTES + message.subject.len() + of_content
}

/// When a message arrived that was stored then.
fn arrival(stored: SystemTime, now: (Instant, SystemTime)) -> Instant {
    let age = now.1.duration_since(stored).unwrap_or_default();
    now.0.checked_sub(age).unwrap_or(now.0)
}

fn cause_of(missing: MissingCause) -> GapCause {
    match missing {
        MissingCause::Discarded => GapCause::Discarded,
        MissingCause::Unavailable => GapCause::StreamUnavailable,
        MissingCause::Epoch => GapCause::Epoch,
    }
}
