//! A feed: the state of a lane for one subject or pattern, with its last values and the shards that want it.

pub mod from_stream;

use std::borrow::Cow;
#[cfg(feature = "test-hooks")]
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use smallvec::SmallVec;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::DeliveryHeaders;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::KeyScope;
use tidegate_protocol::class::Priority;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::Element;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::headers::PublicationHeaders;
use tidegate_protocol::moment::Moment;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::topic_id::TopicId;

use crate::hooks::planted;
use crate::lane::counts::FeedActivity;
use crate::lane::encoder::Encoder;
use crate::lane::encoder::encode_plain;
use crate::lane::inbox::Item;
use crate::lane::inbox::Snapshot;
use crate::lane::message_headers::MessageHeaders;
use crate::lane::shard_index::ShardIndex;
use crate::lane::source_stream::FromStream;
use crate::lane::source_stream::SourceStream;
use crate::lane::values::KeptValue;
use crate::lane::values::LastValues;
use crate::lane::values::ValueLimits;
use crate::lane::values::fresh;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// The headers that JetStream adds to messages that it republishes, or reads.
const ADDED_HEADERS: [&str; 7] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Last-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-UpTo-Sequence",
];

/// An item for one shard.
pub struct ShardItem {
    pub shard: ShardIndex,
    pub item: Item,
}

/// A shard, and its number for the pattern of the feed.
#[derive(Clone, Copy, Debug)]
pub struct ShardTopic {
    pub shard: ShardIndex,
    pub topic: TopicId,
}

/// A format that a shard wants.
#[derive(Debug)]
struct FeedReader {
    shard: ShardIndex,
    format: Format,
    /// The shard's number for the pattern.
    topic: TopicId,
}

/// A shard that waits for the feed to open.
#[derive(Debug)]
struct Waiter {
    shard: ShardIndex,
    format: Format,
    topic: TopicId,
}

/// The time of the last message.
#[derive(Debug)]
struct Silence {
    since: (Instant, SystemTime),
    reported: bool,
}

/// The state of a lane for one subject or pattern. There may be one for each user, so rarely used fields are boxed.
#[derive(Debug)]
pub struct Feed {
    pattern: Pattern,
    class: Arc<Class>,
    open: bool,
    /// Whether the subscription has ever been lost.
    was_lost: bool,
    /// Whether the last thing sent was a gap of unknown size: another would say nothing new.
    gap_reported: bool,
    waiting: Vec<Waiter>,
    /// The readers of one shard are adjacent.
    readers: Vec<FeedReader>,
    values: LastValues,
    /// Only if a stream stores its messages.
    from_stream: Option<Box<FromStream>>,
    /// Only if the class has `stale_after`.
    silence: Option<Box<Silence>>,
    /// Since when no shard has wanted the feed.
    idle_since: Option<Moment>,
    /// The messages so far, modulo 2^32.
    messages: u32,
    /// When the last one arrived.
    last_message: Option<Moment>,
}

impl Feed {
    /// A feed. `open` says whether the server has confirmed its NATS subscription.
    pub fn new(
        pattern: Pattern,
        class: Arc<Class>,
        open: bool,
        limits: ValueLimits,
        now: (Instant, SystemTime),
    ) -> Self {
        Self {
            pattern,
            open,
            was_lost: false,
            gap_reported: false,
            waiting: Vec::new(),
            readers: Vec::new(),
            values: LastValues::new(limits),
            from_stream: None,
            silence: class.stale_after.map(|_| Box::new(Silence { since: now, reported: false })),
            idle_since: Some(now.0.into()),
            messages: 0,
            last_message: None,
            class,
        }
    }

    /// The same feed, whose messages this stream stores.
    pub fn of_stream(mut self, stream: Rc<SourceStream>) -> Self {
        self.from_stream = Some(Box::new(FromStream::new(&self.pattern, &self.class, stream)));
        self
    }

    /// Adds a shard that wants this format. If the feed is open, returns the answer at once.
    pub fn join(
        &mut self,
        ShardTopic { shard, topic }: ShardTopic,
        format: Format,
        renderers: &Renderers,
        now: Instant,
    ) -> Option<ShardItem> {
        self.idle_since = None;
        if !self.open {
            self.waiting.push(Waiter { shard, format, topic });
            return None;
        }
        self.gap_reported = false;
        // The shard may have left and joined again, and so have a new number, before it could say that it has left.
        self.readers
            .iter_mut()
            .filter(|reader| reader.shard == shard)
            .for_each(|reader| reader.topic = topic);
        if !self.readers.iter().any(|reader| (reader.shard, reader.format) == (shard, format)) {
            let last = self.readers.iter().rposition(|reader| reader.shard == shard);
            // Most feeds have one reader; by itself the list would start with room for four.
            if self.readers.capacity() == 0 {
                self.readers.reserve_exact(1);
            }
            self.readers.insert(
                last.map_or(self.readers.len(), |last| last + 1),
                FeedReader { shard, format, topic },
            );
        }
        let snapshot = self.snapshot(format, renderers, now);
        let stale = self.silent_since(now);
        let position = self.from_stream.as_ref().and_then(|from| from.position());
        let item = Item::Joined { pattern: self.pattern.clone(), format, snapshot, stale, position };
        Some(ShardItem { shard, item })
    }

    /// The server has confirmed the subscription: answers all shards that wait.
    pub fn opened(&mut self, renderers: &Renderers, now: Instant, outgoing: &mut Vec<ShardItem>) {
        self.open = true;
        let waiting = std::mem::take(&mut self.waiting);
        let join = |Waiter { shard, format, topic }: Waiter| {
            self.join(ShardTopic { shard, topic }, format, renderers, now)
        };
        outgoing.extend(waiting.into_iter().filter_map(join));
    }

    /// Refuses all shards that wait.
    pub fn refuse(&mut self, error: &ClientError, now: Instant, outgoing: &mut Vec<ShardItem>) {
        let before = self.waiting.len();
        let refused = std::mem::take(&mut self.waiting).into_iter();
        outgoing.extend(refused.map(|Waiter { shard, format, .. }| {
            let item = Item::JoinFailed { pattern: self.pattern.clone(), format, error: error.clone() };
            ShardItem { shard, item }
        }));
        if before > 0 && self.readers.is_empty() {
            self.idle_since = Some(now.into());
        }
    }

    /// The last values that are not too old. `None` while the subscription is lost: newer values may be missed.
    pub fn last(&self, now: Instant) -> Option<impl Iterator<Item = &Publication>> {
        let values = || self.values.fresh(self.class.max_age, now).map(|(_, publication)| publication);
        (!self.is_lost()).then(values)
    }

    /// Copies of those on the subjects that this channel matches. `None` as for [`Feed::last`].
    pub fn last_of(&mut self, channel: &Pattern, now: Instant) -> Option<Vec<Publication>> {
        if self.is_lost() {
            return None;
        }
        let values = fresh(self.values.of(channel), self.class.max_age, now);
        Some(values.map(|(_, publication)| publication.clone()).collect())
    }

    fn is_lost(&self) -> bool {
        self.was_lost && !self.open
    }

    /// Restarts the linger time: someone has just asked for the last values.
    pub fn touch(&mut self, now: Instant) {
        if let Some(idle) = &mut self.idle_since {
            *idle = now.into();
        }
    }

    /// How busy it is.
    pub fn activity(&self) -> FeedActivity {
        FeedActivity { messages: self.messages, last: self.last_message }
    }

    pub fn class(&self) -> Arc<Class> {
        Arc::clone(&self.class)
    }

    pub fn class_pattern(&self) -> &Pattern {
        &self.class.pattern
    }

    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The shards that want it, or wait for it.
    #[cfg(feature = "test-hooks")]
    pub fn shards(&self) -> BTreeSet<ShardIndex> {
        let waiting = self.waiting.iter().map(|waiter| waiter.shard);
        self.readers.iter().map(|reader| reader.shard).chain(waiting).collect()
    }

    /// Whether the server has confirmed its NATS subscription.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Adds the last values of the feed of its class. Its own ones remain: they came with its own subscription, which
    /// brings everything that is newer, too.
    pub fn inherit(&mut self, values: Vec<KeptValue>) {
        self.values.put_older(values);
    }

    /// The last values on subjects that this channel matches.
    pub fn values_of(&mut self, channel: &Pattern) -> Vec<KeptValue> {
        self.values.of(channel).into_iter().cloned().collect()
    }

    /// How many values have been looked at.
    #[cfg(test)]
    pub fn visited(&self) -> usize {
        self.values.visited()
    }

    /// Whether it stays although no shard wants it: it keeps the last values of its class from the start of the node.
    fn is_permanent(&self) -> bool {
        self.class.feed == FeedBy::Always && self.class.pattern == self.pattern
    }

    /// Whether [`Feed::is_idle`] or [`Feed::check_stale`] may become relevant as time passes.
    pub fn needs_sweep(&self) -> bool {
        self.silence.is_some() || self.idle_since.is_some() && !self.is_permanent()
    }

    /// Removes a shard.
    pub fn leave(&mut self, shard: ShardIndex, now: Instant) {
        self.readers.retain(|reader| reader.shard != shard);
        self.waiting.retain(|waiter| waiter.shard != shard);
        self.from_stream.iter_mut().for_each(|from| from.recoveries.remove(|recover| recover.shard == shard));
        if self.readers.is_empty() && self.waiting.is_empty() {
            self.idle_since.get_or_insert_with(|| now.into());
        }
    }

    /// Whether no shard has wanted the feed for `linger`.
    pub fn is_idle(&self, linger: Duration, now: Instant) -> bool {
        self.idle_since.is_some_and(|since| now.saturating_duration_since(since.into()) >= linger)
            && !self.is_permanent()
    }

    /// Sends a message to the shards that want it, and keeps it as the last value of its key.
    pub fn publish(
        &mut self,
        message: &Message,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
    ) -> Result<(), Malformed> {
        self.note_message(now, encoder);
        if self.readers.is_empty() && !self.class.snapshot {
            return Ok(());
        }
        let same = message.is_on(self.pattern.as_str());
        let subject = if same { Arc::clone(self.pattern.text()) } else { message.subject().into() };
        let (publication, priority) = self.publication(message, subject, (now.1, 0))?;
        self.hand_on(publication, priority, now, encoder, outgoing);
        Ok(())
    }

    /// A message has arrived.
    fn note_message(&mut self, now: (Instant, SystemTime), encoder: &Encoder) {
        if let Some(silence) = &mut self.silence {
            **silence = Silence { since: now, reported: false };
        }
        self.gap_reported = false;
        encoder.counts().count_publication(self.class.number);
        self.messages = self.messages.wrapping_add(1);
        self.last_message = Some(now.0.into());
    }

    /// Sends a publication to the shards that want it, and keeps it as the last value of its key.
    #[inline]
    fn hand_on(
        &mut self,
        publication: Publication,
        priority: Priority,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
    ) {
        if !self.readers.is_empty() {
            self.send(&publication, priority, now, encoder, outgoing);
        }
        if self.class.snapshot {
            self.keep(publication, now.0);
        }
    }

    /// Keeps a publication, which has arrived then, as the last value of its key.
    fn keep(&mut self, publication: Publication, arrived: Instant) {
        match publication.separate(&self.class) {
            Some(elements) => elements.into_iter().for_each(|element| self.values.put(element, arrived)),
            None => self.values.put(publication, arrived),
        }
    }

    /// Encodes a publication, once for each format, and sends it to the shards that want it.
    fn send(
        &mut self,
        publication: &Publication,
        priority: Priority,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
    ) {
        let Some(encoded) = encoder.encode(&formats(&self.readers), self.pattern.as_str(), publication)
        else {
            return self.gap(GapCause::Internal, Some(1), None, outgoing);
        };
        for reader in self.readers.iter().filter(|reader| encoded.unrenderable.contains(&reader.format)) {
            let item = Item::Unrenderable { pattern: self.pattern.clone(), format: reader.format };
            outgoing.push(ShardItem { shard: reader.shard, item });
        }
        self.push_frames(encoded.frames, &publication.key, priority, outgoing);
        for (format, list) in encoded.elements {
            self.push_elements(format, list, priority, now, outgoing);
        }
    }

    /// Sends each shard the frames in its formats.
    fn push_frames(
        &self,
        mut frames: SmallVec<[(Format, Frame); 1]>,
        key: &Arc<str>,
        priority: Priority,
        outgoing: &mut Vec<ShardItem>,
    ) {
        if frames.is_empty() {
            return;
        }
        let mut shards = self.readers.chunk_by(|one, other| one.shard == other.shard).peekable();
        while let Some(readers) = shards.next() {
            let frames: SmallVec<_> = if shards.peek().is_none() && readers.len() == frames.len() {
                std::mem::take(&mut frames)
            } else {
                let wanted = |(format, _): &&(Format, Frame)| readers.iter().any(|r| r.format == *format);
                frames.iter().filter(wanted).cloned().collect()
            };
            if frames.is_empty() {
                continue;
            }
            let Some(&FeedReader { shard, topic, .. }) = readers.first() else { continue };
            let (pattern, key) = (self.pattern.clone(), Arc::clone(key));
            let item = Item::Publication { topic, pattern, key, priority, frames };
            outgoing.push(ShardItem { shard, item });
        }
    }

    /// Sends elements to each shard that wants their format.
    fn push_elements(
        &self,
        format: Format,
        list: Vec<Arc<Element>>,
        priority: Priority,
        (arrived, time): (Instant, SystemTime),
        outgoing: &mut Vec<ShardItem>,
    ) {
        if list.is_empty() {
            return;
        }
        let elements = Arc::new(Elements { list, priority, arrived, time });
        let readers = self.readers.iter().filter(|reader| reader.format == format);
        outgoing.extend(readers.map(|reader| ShardItem {
            shard: reader.shard,
            item: Item::Elements { pattern: self.pattern.clone(), format, elements: Arc::clone(&elements) },
        }));
    }

    /// Reports missing publications to all readers. Shards that wait for the feed to open have missed nothing.
    pub fn gap(
        &mut self,
        cause: GapCause,
        dropped: Option<u64>,
        range: Option<SequenceRange>,
        outgoing: &mut Vec<ShardItem>,
    ) {
        // A gap with a count or a range represents only what it names.
        self.gap_reported |= dropped.is_none() && range.is_none();
        self.push_to_each_shard(|pattern| Item::Gap { pattern, cause, dropped, range }, outgoing);
    }

    /// Reports a gap of unknown size, unless the last thing sent was one.
    pub fn interrupted(&mut self, cause: GapCause, outgoing: &mut Vec<ShardItem>) {
        if !self.gap_reported {
            self.gap(cause, None, None, outgoing);
        }
    }

    /// The connection or the subscription is lost: reports a gap, and forgets the last values, because newer ones may
    /// be missed. Shards that join now wait until the server confirms the subscription again.
    pub fn link_lost(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.open = false;
        self.was_lost = true;
        if let Some(from) = &mut self.from_stream {
            // What is missing is read when the subscription is open again.
            return from.closed();
        }
        if !planted!(ValuesOutliveLink) {
            self.values.clear();
        }
        self.interrupted(GapCause::Nats, outgoing);
    }

    /// A message on this subject is not delivered, so the kept values of the subject are outdated.
    pub fn undelivered(&mut self, cause: GapCause, subject: &str, outgoing: &mut Vec<ShardItem>) {
        self.forget(Some(subject));
        self.gap(cause, Some(1), None, outgoing);
    }

    /// A message whose subject is not UTF-8 is not delivered.
    pub fn unreadable(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.forget(None);
        self.gap(GapCause::Malformed, Some(1), None, outgoing);
    }

    /// Forgets the values that an undelivered message may have replaced. Its key is unknown; `None` means that its
    /// subject is unknown, too.
    fn forget(&mut self, subject: Option<&str>) {
        match (self.class.key_scope, subject) {
            (KeyScope::Subject, Some(subject)) => self.values.forget(subject),
            // No kept value has an invalid subject.
            (KeyScope::Subject, None) => {}
            (KeyScope::Channel, _) => self.values.clear(),
        }
    }

    /// Reports once that there has been no message for longer than the class allows.
    pub fn check_stale(&mut self, now: Instant, outgoing: &mut Vec<ShardItem>) {
        let Some(since) = self.silent_since(now) else {
            return;
        };
        if let Some(silence) = &mut self.silence
            && !std::mem::replace(&mut silence.reported, true)
        {
            self.push_to_each_shard(|pattern| Item::Stale { pattern, since }, outgoing);
        }
    }

    /// The time of the last message, if that is longer ago than the class allows.
    fn silent_since(&self, now: Instant) -> Option<SystemTime> {
        let (since, time) = self.silence.as_ref()?.since;
        (now.saturating_duration_since(since) >= self.class.stale_after?).then_some(time)
    }

    /// Sends an item to each shard once.
    fn push_to_each_shard(&self, item: impl Fn(Pattern) -> Item, outgoing: &mut Vec<ShardItem>) {
        let shards = self.readers.chunk_by(|one, other| one.shard == other.shard);
        let addressed =
            |reader: &FeedReader| ShardItem { shard: reader.shard, item: item(self.pattern.clone()) };
        outgoing.extend(shards.filter_map(<[FeedReader]>::first).map(addressed));
    }

    fn snapshot(&self, format: Format, renderers: &Renderers, now: Instant) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut scratch = Scratch::default();
        let (priority, max_age) = (self.class.priority, self.class.max_age);
        for (arrived, publication) in self.values.fresh(max_age, now) {
            match encode_plain(renderers, format, self.pattern.as_str(), publication, &mut scratch) {
                Rendered::Frame(frame) => {
                    let expires = max_age.and_then(|max_age| arrived.checked_add(max_age));
                    let key = Arc::clone(&publication.key);
                    snapshot.deliveries.push(Delivery { frame, key, priority, expires });
                }
                Rendered::Elements { list, .. } => {
                    let (arrived, time) = (*arrived, publication.time);
                    snapshot.elements.push(Elements { list, priority, arrived, time });
                }
                Rendered::Nothing | Rendered::Unrenderable | Rendered::TooManyElements => {}
            }
        }
        snapshot
    }

    /// The publication in a message: on this subject, of this time, and with this sequence in its stream.
    #[inline]
    fn publication(
        &self,
        message: &Message,
        subject: Arc<str>,
        (time, seq): (SystemTime, u64),
    ) -> Result<(Publication, Priority), Malformed> {
        let payload = Payload::classify(message.payload());
        let MessageHeaders { key, priority, shown } = MessageHeaders::read(message, &self.class.headers)?;
        let headers = if seq > 0 { without_added(shown) } else { shown };
        let given = DeliveryHeaders { key: key.as_deref(), priority: priority.as_deref() };
        let (key, priority) = self.class.key_and_priority(&subject, &payload, given);
        Ok((Publication { subject, payload, headers, key, time, seq }, priority))
    }
}

/// The headers without those that JetStream has added.
fn without_added(headers: PublicationHeaders) -> PublicationHeaders {
    let is_added = |name: &str| ADDED_HEADERS.iter().any(|added| added.eq_ignore_ascii_case(name));
    if headers.iter().any(|(name, _)| is_added(name)) {
        headers.iter().filter(|(name, _)| !is_added(name)).collect()
    } else {
        headers
    }
}

/// The distinct formats of the readers, nearly always one.
fn formats(readers: &[FeedReader]) -> Cow<'_, [Format]> {
    if let [first, rest @ ..] = readers
        && rest.iter().all(|reader| reader.format == first.format)
    {
        return Cow::Borrowed(std::slice::from_ref(&first.format));
    }
    let mut formats = Vec::new();
    for FeedReader { format, .. } in readers {
        if !formats.contains(format) {
            formats.push(*format);
        }
    }
    Cow::Owned(formats)
}

#[cfg(test)]
pub(super) mod tests;
