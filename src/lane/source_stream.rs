//! `SourceStream`: what the feeds of a lane know together of one JetStream stream; and `FromStream`, what one of them
//! has of it.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::position::Position;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::lane::recover::Recover;
use crate::lane::stored::OnHole;
use crate::lane::stored::StoredFeed;
use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::messages::Subjects;
use crate::lane::stored::reads::Read;
use crate::lane::stored::recoveries::FeedPosition;
use crate::lane::stored::recoveries::RecoveredFrom;
use crate::lane::stored::recoveries::Recoveries;
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

    /// A feed keeps `after` bytes of messages instead of `before`.
    pub fn count_recent(&self, before: usize, after: usize) {
        self.recent_bytes.set(self.recent_bytes.get() - before + after);
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
    pub stream: Rc<SourceStream>,
}

/// A message that was delivered, with its priority, or why it was not.
pub type Recalled = Result<Rc<(Publication, Priority)>, GapCause>;

impl FromStream {
    pub fn new(pattern: &Pattern, class: &Class, stream: Rc<SourceStream>) -> Self {
        let subjects = if pattern.is_literal() { Subjects::One } else { Subjects::Many };
        let on_hole = match class.kind {
            // The newest message of a subject replaces those of other keys only if there are none.
            Kind::Latest if class.has_keys() => OnHole::Fill,
            Kind::Latest => OnHole::Skip,
            Kind::Buffer => OnHole::Fill,
        };
        let kept = if class.recovers_by_values() { RecoveredFrom::Values } else { RecoveredFrom::Messages };
        Self {
            order: StoredFeed::new(subjects, on_hole, HOLD),
            recoveries: Recoveries::new(Arc::clone(pattern.text()), kept, RECENT_BYTES),
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

    /// A message of this size in memory, in bytes, has been delivered.
    pub fn note_delivered(&mut self, message: StoredMessage<Recalled>, size: usize) {
        let before = self.recoveries.recent_bytes();
        self.recoveries.delivered(message, size);
        self.stream.count_recent(before, self.recoveries.recent_bytes());
        if self.stream.recent_bytes.get() > MAX_RECENT_BYTES {
            self.forget_recent();
        }
    }

    /// Forgets the messages that were delivered lately.
    pub fn forget_recent(&mut self) {
        self.stream.count_recent(self.recoveries.recent_bytes(), 0);
        self.recoveries.forget_recent();
    }
}

impl Drop for FromStream {
    fn drop(&mut self) {
        self.forget_recent();
    }
}
