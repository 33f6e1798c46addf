//! Feed: what a lane holds for one subject or pattern in use on the node: its last values and the shards that want it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use smallvec::SmallVec;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::KeyScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::subject::Pattern;

use crate::lane::encoder::Encoder;
use crate::lane::encoder::encode_plain;
use crate::lane::inbox::Item;
use crate::lane::shard_index::ShardIndex;
use crate::lane::values::LastValues;
use crate::lane::values::ValueLimits;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// A conflation key longer than this is not one.
const MAX_KEY_BYTES: usize = 256;

/// Something for one shard.
pub struct ShardItem {
    /// Which shard.
    pub shard: ShardIndex,
    /// What it is told.
    pub item: Item,
}

/// A format that a shard wants.
#[derive(Debug)]
struct FeedReader {
    shard: ShardIndex,
    format: Format,
}

/// A shard that waits for the feed to open.
#[derive(Debug)]
struct Waiter {
    shard: ShardIndex,
    format: Format,
}

/// Since when nothing has come.
#[derive(Debug)]
struct Silence {
    since: (Instant, SystemTime),
    said: bool,
}

/// What a lane holds for one subject or pattern. There may be one for each user: what few feeds need is in a box.
#[derive(Debug)]
pub struct Feed {
    pattern: Pattern,
    class: Arc<Class>,
    open: bool,
    /// Whether the server no longer knew the subscription at some time.
    was_lost: bool,
    /// Whether a loss of who knows how many was announced and nothing has come since.
    loss_said: bool,
    waiting: Vec<Waiter>,
    /// Those of one shard are together.
    readers: Vec<FeedReader>,
    values: LastValues,
    /// Only if its class wants silence said.
    silence: Option<Box<Silence>>,
    /// Since when no one has wanted it.
    idle_since: Option<Instant>,
}

impl Feed {
    /// A feed whose NATS subscription is up, or is being made.
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
            loss_said: false,
            waiting: Vec::new(),
            readers: Vec::new(),
            values: LastValues::new(limits),
            silence: class.stale_after.map(|_| Box::new(Silence { since: now, said: false })),
            idle_since: Some(now.0),
            class,
        }
    }

    /// A shard wants publications in this format. The answer comes at once if the feed is open.
    pub fn join(
        &mut self,
        shard: ShardIndex,
        format: Format,
        renderers: &Renderers,
        now: Instant,
    ) -> Option<ShardItem> {
        self.idle_since = None;
        if !self.open {
            self.waiting.push(Waiter { shard, format });
            return None;
        }
        self.loss_said = false;
        if !self.readers.iter().any(|reader| (reader.shard, reader.format) == (shard, format)) {
            let last = self.readers.iter().rposition(|reader| reader.shard == shard);
            // Most feeds have one reader; left to itself the list would begin with room for four.
            if self.readers.capacity() == 0 {
                self.readers.reserve_exact(1);
            }
            self.readers
                .insert(last.map_or(self.readers.len(), |last| last + 1), FeedReader { shard, format });
        }
        let snapshot = self.snapshot(format, renderers, now);
        let stale = self.silent_since(now);
        let item = Item::Joined { pattern: self.pattern.clone(), format, snapshot, stale };
        Some(ShardItem { shard, item })
    }

    /// The NATS subscription is up: all who waited are answered.
    pub fn opened(&mut self, renderers: &Renderers, now: Instant, outgoing: &mut Vec<ShardItem>) {
        self.open = true;
        let waiting = std::mem::take(&mut self.waiting);
        let join = |waiter: Waiter| self.join(waiter.shard, waiter.format, renderers, now);
        outgoing.extend(waiting.into_iter().filter_map(join));
    }

    /// All who wait are refused.
    pub fn refuse(&mut self, refusal: &ClientError, now: Instant, outgoing: &mut Vec<ShardItem>) {
        let before = self.waiting.len();
        let refused = std::mem::take(&mut self.waiting).into_iter();
        outgoing.extend(refused.map(|Waiter { shard, format }| {
            let item = Item::Unjoined { pattern: self.pattern.clone(), format, refusal: refusal.clone() };
            ShardItem { shard, item }
        }));
        if before > 0 && self.readers.is_empty() {
            self.idle_since = Some(now);
        }
    }

    /// The last values that are not too old. `None` while the subscription is lost: newer ones may pass it by.
    pub fn last(&self, now: Instant) -> Option<impl Iterator<Item = &Publication>> {
        let is_lost = self.was_lost && !self.open;
        (!is_lost).then(|| self.values.fresh(self.class.max_age, now))
    }

    /// Somebody has asked for it just now.
    pub fn touch(&mut self, now: Instant) {
        if let Some(idle) = &mut self.idle_since {
            *idle = now;
        }
    }

    /// Its pattern.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether the clock may have something to do: no one wants it, or silence is to be said.
    pub fn needs_clock(&self) -> bool {
        self.idle_since.is_some() || self.silence.is_some()
    }

    /// A shard wants nothing any more.
    pub fn leave(&mut self, shard: ShardIndex, now: Instant) {
        self.readers.retain(|reader| reader.shard != shard);
        self.waiting.retain(|waiter| waiter.shard != shard);
        if self.readers.is_empty() && self.waiting.is_empty() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Whether no one has wanted it for so long.
    pub fn is_idle(&self, linger: Duration, now: Instant) -> bool {
        self.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= linger)
    }

    /// Takes a message in and encodes it, once for each format, for the shards that want it.
    pub fn publish(
        &mut self,
        message: &Message,
        now: (Instant, SystemTime),
        encoder: &mut Encoder,
        outgoing: &mut Vec<ShardItem>,
    ) -> Result<(), Malformed> {
        if let Some(silence) = &mut self.silence {
            **silence = Silence { since: now, said: false };
        }
        self.loss_said = false;
        if self.readers.is_empty() && !self.class.snapshot {
            return Ok(());
        }
        let publication = self.publication(message, now.1)?;
        if self.class.snapshot {
            self.values.put(&publication, now.0);
        }
        if self.readers.is_empty() {
            return Ok(());
        }
        let Some(encoded) = encoder.encode(&formats(&self.readers), self.pattern.text(), &publication) else {
            self.lost(GapCause::Internal, Some(1), outgoing);
            return Ok(());
        };
        for reader in self.readers.iter().filter(|reader| encoded.unfit.contains(&reader.format)) {
            let item = Item::Unfit { pattern: self.pattern.clone(), format: reader.format };
            outgoing.push(ShardItem { shard: reader.shard, item });
        }
        self.address(encoded.frames, &publication.key, outgoing);
        Ok(())
    }

    /// Gives each shard the frames that it wants.
    fn address(
        &self,
        mut frames: SmallVec<[(Format, Frame); 1]>,
        key: &Arc<str>,
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
            let item = Item::Publication { pattern: self.pattern.clone(), key: Arc::clone(key), frames };
            outgoing.extend(readers.first().map(|reader| ShardItem { shard: reader.shard, item }));
        }
    }

    /// Publications are missing at this place. Whoever waits for the feed to open has missed nothing.
    pub fn lost(&mut self, cause: GapCause, dropped: Option<u64>, outgoing: &mut Vec<ShardItem>) {
        // A gap that says how many represents these and no others.
        self.loss_said |= dropped.is_none();
        self.tell(|pattern| Item::Lost { pattern, cause, dropped }, outgoing);
    }

    /// Publications may be missing at this place, no one knows how many: that is said unless it has been and nothing
    /// has come since.
    pub fn interrupted(&mut self, cause: GapCause, outgoing: &mut Vec<ShardItem>) {
        if !self.loss_said {
            self.lost(cause, None, outgoing);
        }
    }

    /// The link to NATS is lost: what comes until it is back is missing at this place. Whoever joins now waits until
    /// the server knows the subscription again. The last values are forgotten: newer ones may never come here.
    pub fn link_lost(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.open = false;
        self.was_lost = true;
        self.values.clear();
        self.interrupted(GapCause::Nats, outgoing);
    }

    /// A message on this subject is not delivered, so what was kept of the subject is not its last value any more.
    pub fn undelivered(&mut self, cause: GapCause, subject: &str, outgoing: &mut Vec<ShardItem>) {
        self.forget(Some(subject));
        self.lost(cause, Some(1), outgoing);
    }

    /// A message whose subject cannot be read is not delivered.
    pub fn unreadable(&mut self, outgoing: &mut Vec<ShardItem>) {
        self.forget(None);
        self.lost(GapCause::Malformed, Some(1), outgoing);
    }

    /// Forgets what may have been replaced by a message on this subject, or on one that cannot be read, whose key
    /// no one knows.
    fn forget(&mut self, subject: Option<&str>) {
        match (self.class.key_scope, subject) {
            (KeyScope::Subject, Some(subject)) => self.values.forget(subject),
            // No value is of such a subject.
            (KeyScope::Subject, None) => {}
            (KeyScope::Channel, _) => self.values.clear(),
        }
    }

    /// Says once that the channel has been silent for longer than its class allows.
    pub fn check_stale(&mut self, now: Instant, outgoing: &mut Vec<ShardItem>) {
        let Some(since) = self.silent_since(now) else {
            return;
        };
        if let Some(silence) = &mut self.silence
            && !std::mem::replace(&mut silence.said, true)
        {
            self.tell(|pattern| Item::Stale { pattern, since }, outgoing);
        }
    }

    /// Since when nothing has come, if that is longer than its class allows.
    fn silent_since(&self, now: Instant) -> Option<SystemTime> {
        let (since, time) = self.silence.as_ref()?.since;
        (now.saturating_duration_since(since) >= self.class.stale_after?).then_some(time)
    }

    /// Tells each shard once.
    fn tell(&self, item: impl Fn(Pattern) -> Item, outgoing: &mut Vec<ShardItem>) {
        let shards = self.readers.chunk_by(|one, other| one.shard == other.shard);
        let tell = |reader: &FeedReader| ShardItem { shard: reader.shard, item: item(self.pattern.clone()) };
        outgoing.extend(shards.filter_map(<[FeedReader]>::first).map(tell));
    }

    fn snapshot(&self, format: Format, renderers: &Renderers, now: Instant) -> Vec<Frame> {
        let encode =
            |publication: &Publication| encode_plain(renderers, format, self.pattern.text(), publication);
        self.values.fresh(self.class.max_age, now).filter_map(encode).collect()
    }

    fn publication(&self, message: &Message, time: SystemTime) -> Result<Publication, Malformed> {
        let same = message.subject() == self.pattern.as_str();
        let subject = if same { Arc::clone(self.pattern.text()) } else { message.subject().into() };
        let key = message.header("Tidegate-Key")?.filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
        let key = self.class.key(&subject, key.as_deref());
        let headers =
            if self.class.headers.is_empty() { Vec::new() } else { message.headers(&self.class.headers)? };
        Ok(Publication { subject, payload: Payload::classify(message.payload()), headers, key, time })
    }
}

/// The formats that are wanted, each once; nearly always there is one.
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
