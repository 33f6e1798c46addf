//! The part of a feed whose messages a stream stores: what arrives goes through a [`StoredFeed`], which decides what is
//! delivered, what is read, and what is missing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::renderers::Renderers;

use crate::lane::encoder::Encoder;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::source_stream::Ask;
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
        self.with_order(handling, |order, events| order.replaced(first_seq, events));
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
    }

    fn handle(&mut self, event: FeedEvent<StoredContent>, handling: &mut Handling<'_>) {
        match event {
            FeedEvent::Value(message) => self.keep_value(message, handling),
            FeedEvent::Deliver(message) => self.deliver(message, handling),
            FeedEvent::Missing(missing) => self.report(&missing, handling.outgoing),
            FeedEvent::Skipped => {}
            FeedEvent::Read(read) => handling.asks.push(Ask::Read(read)),
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
        let age = handling.now.1.duration_since(publication.time).unwrap_or_default();
        let arrived = handling.now.0.checked_sub(age).unwrap_or(handling.now.0);
        self.keep(publication, arrived);
    }

    fn deliver(&mut self, message: StoredMessage<StoredContent>, handling: &mut Handling<'_>) {
        let StoredMessage { subject, seq, content: StoredContent { message, time } } = message;
        if message.payload_size() > handling.delivery_max {
            return self.undelivered(GapCause::TooLarge, &subject, handling.outgoing);
        }
        let time = time.unwrap_or(handling.now.1);
        match self.publication(&message, Arc::clone(&subject), (time, seq)) {
            Ok((publication, priority)) => {
                self.hand_on(publication, priority, handling.now, handling.encoder, handling.outgoing);
            }
            Err(Malformed) => self.undelivered(GapCause::Malformed, &subject, handling.outgoing),
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
