//! `SourceStream`: what the feeds of a lane know together of one JetStream stream; and `FromStream`, what one of them
//! has of it.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::position::Position;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::lane::recover::Recover;
use crate::lane::stored::OnHole;
use crate::lane::stored::StoredFeed;
use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::Subjects;
use crate::lane::stored::reads::Read;
use crate::lane::stored::recoveries::FeedPosition;
use crate::lane::stored::recoveries::Recoveries;
use crate::lane::stored::recoveries::RecoversBy;
use crate::nats::message::Message;

/// The messages of one feed that may wait for a read: their number, and their size in bytes.
const HOLD: HoldLimits = HoldLimits { messages: 1000, bytes: 4 * 1024 * 1024 };

/// The messages that one feed keeps in memory for clients that come back, in bytes, and those of all feeds of a stream.
const RECENT_BYTES: usize = 64 * 1024;
const MAX_RECENT_BYTES: usize = 64 * 1024 * 1024;

/// A stream of this lane.
#[derive(Debug)]
pub struct SourceStream {
    pub name: Arc<str>,
    /// The highest sequence that has arrived. A stream sends its messages in order.
    pub seen: Cell<u64>,
    /// What the sequences mean. `None` while no one has told.
    pub epoch: RefCell<Option<Epoch>>,
    /// The size of the messages that its feeds keep in memory for clients that come back, in bytes.
    recent_bytes: Cell<usize>,
}

impl SourceStream {
    /// A stream of which nothing is known yet.
    pub fn new(name: Arc<str>) -> Self {
        Self { name, seen: Cell::default(), epoch: RefCell::default(), recent_bytes: Cell::default() }
    }

    /// A message with this sequence has arrived.
    pub fn note_seen(&self, seq: u64) {
        self.seen.set(self.seen.get().max(seq));
    }
}

/// A message, and when its stream stored it.
#[derive(Clone, Debug)]
pub struct StoredContent {
    pub message: Message,
    pub time: Option<SystemTime>,
}

/// What a feed reads its stream for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadPurpose {
    /// To deliver all messages in order.
    Order,
    /// For clients that come back.
    Recovery,
}

/// What a feed asks its lane for.
#[derive(Debug)]
pub enum Ask {
    /// Start this read, and pass its answer to the feed.
    Read(ReadPurpose, Read),
    /// Let the feed compare itself with the stream soon.
    RecheckSoon,
    /// Ask for the state of the stream.
    CheckStream,
}

/// The order of the feed's messages, and their stream.
#[derive(Debug)]
pub struct FromStream {
    pub order: StoredFeed<StoredContent>,
    pub recoveries: Recoveries<Recalled, Recover>,
    /// Whether last values lack something.
    pub values_lost: Option<ValuesLost>,
    pub stream: Rc<SourceStream>,
}

/// The last values of a feed do not replace all messages up to a sequence.
#[derive(Clone, Copy, Debug)]
pub struct ValuesLost {
    /// `u64::MAX` until the feed is live again.
    pub up_to: u64,
    pub cause: GapCause,
}

/// A message that was delivered, or why it was not.
pub type Recalled = Result<Rc<Publication>, GapCause>;

impl FromStream {
    pub fn new(pattern: &Pattern, class: &Class, stream: Rc<SourceStream>) -> Self {
        let subjects = if pattern.is_literal() { Subjects::One } else { Subjects::Many };
        let on_hole = match class.kind {
            // The newest message of a subject replaces those of other keys only if there are none.
            Kind::Latest if class.has_keys() => OnHole::Fill,
            Kind::Latest => OnHole::Skip,
            Kind::Buffer => OnHole::Fill,
        };
        let by = if class.recovers_by_values() { RecoversBy::Values } else { RecoversBy::Messages };
        Self {
            order: StoredFeed::new(subjects, on_hole, HOLD),
            values_lost: None,
            recoveries: Recoveries::new(Arc::clone(pattern.text()), by, RECENT_BYTES),
            stream,
        }
    }

    /// Where the feed is, if the stream is known.
    pub fn position(&self) -> Option<Position> {
        let epoch = self.stream.epoch.borrow().clone()?;
        Some(Position { epoch, seq: self.order.position()? })
    }

    /// What the recoveries need to know of the order.
    pub fn feed_position(&self) -> FeedPosition {
        FeedPosition {
            is_live: self.order.is_live(),
            seq: self.order.position(),
            replicas: self.order.replicas(),
        }
    }

    pub fn closed(&mut self) {
        self.order.closed(self.stream.seen.get());
        self.recoveries.closed();
    }

    /// Changes the recoveries, and counts what they keep in memory. All feeds of a stream together keep only so much.
    pub fn change_recoveries(
        &mut self,
        change: impl FnOnce(&mut Recoveries<Recalled, Recover>, FeedPosition),
    ) {
        let (at, before) = (self.feed_position(), self.recoveries.recent_bytes());
        change(&mut self.recoveries, at);
        let others = self.stream.recent_bytes.get().saturating_sub(before);
        if others + self.recoveries.recent_bytes() > MAX_RECENT_BYTES {
            self.recoveries.forget_recent();
        }
        self.stream.recent_bytes.set(others + self.recoveries.recent_bytes());
    }

    /// Some messages are missing, up to where the feed is when it is live again: last values do not replace them.
    pub fn lose_values(&mut self, cause: GapCause) {
        self.lose_values_up_to(u64::MAX, cause);
    }

    /// The same for messages up to this sequence.
    pub fn lose_values_up_to(&mut self, up_to: u64, cause: GapCause) {
        let earlier = self.values_lost.map_or(0, |lost| lost.up_to);
        self.values_lost = Some(ValuesLost { up_to: up_to.max(earlier), cause });
    }

    /// Finds out up to where last values lack something, once the feed is live.
    pub fn settle_values(&mut self) {
        if let Some(lost) = self.values_lost.as_mut().filter(|lost| lost.up_to == u64::MAX)
            && self.order.is_live()
            && let Some(position) = self.order.position()
        {
            lost.up_to = position.max(self.order.compared_up_to());
        }
    }
}

impl Drop for FromStream {
    fn drop(&mut self) {
        self.change_recoveries(|recoveries, _| recoveries.forget_recent());
    }
}
