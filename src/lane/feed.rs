//! Feed: what a lane holds for one subject or pattern in use on the node: its last values and the shards that want it.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::lane::encoder;
use crate::lane::inbox::Item;
use crate::lane::values::LastValues;
use crate::nats::message::Message;
use crate::nats::subscription::SubscriptionKey;
use crate::protocol::class::Class;
use crate::protocol::error::Refusal;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::message::GapCause;
use crate::protocol::payload::Payload;
use crate::protocol::publication::Publication;
use crate::protocol::subject::Pattern;

/// A conflation key longer than this is not one.
const MAX_KEY_BYTES: usize = 256;

/// Something for one shard.
pub struct Addressed {
    /// Which shard.
    pub shard: usize,
    /// What it is told.
    pub item: Item,
}

/// What a shard wants of a feed.
#[derive(Debug)]
struct Reader {
    shard: usize,
    formats: Vec<Format>,
}

/// A shard that waits for the feed to open.
#[derive(Debug)]
struct Waiter {
    shard: usize,
    format: Format,
    since: Instant,
}

/// What a lane holds for one subject or pattern.
#[derive(Debug)]
pub struct Feed {
    pattern: Pattern,
    channel: Arc<str>,
    class: Arc<Class>,
    /// The NATS subscription behind it.
    pub subscription: SubscriptionKey,
    open: bool,
    waiting: Vec<Waiter>,
    readers: Vec<Reader>,
    formats: Vec<Format>,
    values: LastValues,
    /// When the last publication came, or when the feed was made.
    heard: (Instant, SystemTime),
    stale_said: bool,
    /// Since when nobody has wanted it.
    idle_since: Option<Instant>,
    /// Whether a loss of who knows how many was announced and nothing has come since.
    loss_said: bool,
}

impl Feed {
    /// A feed whose NATS subscription is being made.
    pub fn new(
        pattern: Pattern,
        class: Arc<Class>,
        subscription: SubscriptionKey,
        values: LastValues,
        now: (Instant, SystemTime),
    ) -> Self {
        Self {
            channel: pattern.as_str().into(),
            pattern,
            class,
            subscription,
            open: false,
            waiting: Vec::new(),
            readers: Vec::new(),
            formats: Vec::new(),
            values,
            heard: now,
            stale_said: false,
            idle_since: Some(now.0),
            loss_said: false,
        }
    }

    /// A shard wants publications in this format. The answer comes at once if the feed is open.
    pub fn join(&mut self, shard: usize, format: Format, now: Instant) -> Option<Addressed> {
        self.idle_since = None;
        if !self.open {
            self.waiting.push(Waiter { shard, format, since: now });
            return None;
        }
        self.loss_said = false;
        match self.readers.iter_mut().find(|reader| reader.shard == shard) {
            Some(reader) if reader.formats.contains(&format) => {}
            Some(reader) => reader.formats.push(format),
            None => self.readers.push(Reader { shard, formats: vec![format] }),
        }
        if !self.formats.contains(&format) {
            self.formats.push(format);
        }
        let snapshot = self.snapshot(format, now);
        let stale = self.is_stale(now).then_some(self.heard.1);
        Some(Addressed {
            shard,
            item: Item::Joined { pattern: self.pattern.clone(), format, snapshot, stale },
        })
    }

    /// The NATS subscription stands: all who waited are answered.
    pub fn opened(&mut self, now: Instant) -> Vec<Addressed> {
        self.open = true;
        let waiting = std::mem::take(&mut self.waiting);
        let join = |waiter: Waiter| self.join(waiter.shard, waiter.format, now);
        waiting.into_iter().filter_map(join).collect()
    }

    /// All who have waited since `limit` or longer are refused.
    pub fn refuse(&mut self, refusal: &Refusal, limit: Instant, now: Instant) -> Vec<Addressed> {
        let refused = self.waiting.extract_if(.., |waiter| waiter.since <= limit);
        let refuse = |Waiter { shard, format, .. }| {
            let item = Item::Unjoined { pattern: self.pattern.clone(), format, refusal: refusal.clone() };
            Addressed { shard, item }
        };
        let refused: Vec<_> = refused.map(refuse).collect();
        if !refused.is_empty() && self.readers.is_empty() && self.waiting.is_empty() {
            self.idle_since = Some(now);
        }
        refused
    }

    /// Its pattern.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether the clock may have something to do: somebody waits, nobody wants it, or silence is to be said.
    pub fn needs_clock(&self) -> bool {
        !self.waiting.is_empty() || self.idle_since.is_some() || self.class.stale_after.is_some()
    }

    /// A shard wants nothing any more.
    pub fn leave(&mut self, shard: usize, now: Instant) {
        self.readers.retain(|reader| reader.shard != shard);
        self.waiting.retain(|waiter| waiter.shard != shard);
        let wanted = |format: &Format| self.readers.iter().any(|reader| reader.formats.contains(format));
        self.formats.retain(wanted);
        if self.readers.is_empty() && self.waiting.is_empty() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Whether nobody has wanted it for so long.
    pub fn is_idle(&self, linger: Duration, now: Instant) -> bool {
        self.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= linger)
    }

    /// Takes a message in and encodes it, once for each format, for the shards that want it.
    pub fn publish(&mut self, message: &Message, now: (Instant, SystemTime)) -> Vec<Addressed> {
        self.heard = now;
        self.stale_said = false;
        self.loss_said = false;
        let publication = self.publication(message, now.1);
        if self.class.snapshot {
            self.values.put(&publication, now.0);
        }
        if self.formats.is_empty() {
            return Vec::new();
        }
        let Some(frames) = encoder::encode(&self.formats, &self.channel, &publication) else {
            return self.lost(GapCause::Internal, Some(1));
        };
        let mut addressed = Vec::with_capacity(self.readers.len());
        for reader in &self.readers {
            let wanted = |(format, _): &&(Format, Frame)| reader.formats.contains(format);
            let frames = frames.iter().filter(wanted).cloned().collect();
            let item = Item::Publication {
                pattern: self.pattern.clone(),
                key: Arc::clone(&publication.key),
                frames,
            };
            addressed.push(Addressed { shard: reader.shard, item });
        }
        addressed
    }

    /// Publications are missing at this place. Whoever waits for the feed to open has missed nothing.
    pub fn lost(&mut self, cause: GapCause, dropped: Option<u64>) -> Vec<Addressed> {
        // A gap that says how many stands for these and no others.
        self.loss_said |= dropped.is_none();
        self.tell(|pattern| Item::Lost { pattern, cause, dropped })
    }

    /// The link to NATS is lost: what comes until it is back is missing at this place, unless that has been said and
    /// nothing has come since. Whoever joins now waits until the server knows the subscription again.
    pub fn link_lost(&mut self) -> Vec<Addressed> {
        self.open = false;
        if self.loss_said { Vec::new() } else { self.lost(GapCause::Nats, None) }
    }

    /// Says once that the channel has been silent for longer than its class allows.
    pub fn check_stale(&mut self, now: Instant) -> Vec<Addressed> {
        if self.stale_said || !self.is_stale(now) {
            return Vec::new();
        }
        self.stale_said = true;
        let since = self.heard.1;
        self.tell(|pattern| Item::Stale { pattern, since })
    }

    fn is_stale(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard.0);
        self.class.stale_after.is_some_and(|stale_after| silent >= stale_after)
    }

    fn tell(&self, item: impl Fn(Pattern) -> Item) -> Vec<Addressed> {
        let tell = |reader: &Reader| Addressed { shard: reader.shard, item: item(self.pattern.clone()) };
        self.readers.iter().map(tell).collect()
    }

    fn snapshot(&self, format: Format, now: Instant) -> Vec<Frame> {
        let encode = |publication: &Publication| {
            let frames = encoder::encode(&[format], &self.channel, publication)?;
            frames.into_iter().next().map(|(_, frame)| frame)
        };
        self.values.fresh(self.class.max_age, now).filter_map(encode).collect()
    }

    fn publication(&self, message: &Message, time: SystemTime) -> Publication {
        let same = message.subject() == &*self.channel;
        let subject = if same { Arc::clone(&self.channel) } else { message.subject().into() };
        let key = message.header("Tidegate-Key").filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
        let key = key.map_or_else(|| Arc::clone(&subject), Arc::from);
        let headers =
            if self.class.headers.is_empty() { Vec::new() } else { message.headers(&self.class.headers) };
        Publication { subject, payload: Payload::classify(message.payload.clone()), headers, key, time }
    }
}

#[cfg(test)]
mod tests;
