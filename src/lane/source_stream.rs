//! `SourceStream`: what the feeds of a lane know together of one JetStream stream; and `FromStream`, what one of them
//! has of it.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::position::Position;
use tidegate_protocol::subject::Pattern;

use crate::lane::stored::OnHole;
use crate::lane::stored::StoredFeed;
use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::Subjects;
use crate::lane::stored::reads::Read;
use crate::nats::message::Message;

/// The messages of one feed that may wait for a read: their number, and their size in bytes.
const HOLD: HoldLimits = HoldLimits { messages: 1000, bytes: 4 * 1024 * 1024 };

/// A stream of this lane.
#[derive(Debug)]
pub struct SourceStream {
    pub name: Arc<str>,
    /// The highest sequence that has arrived. A stream sends its messages in order.
    pub seen: Cell<u64>,
    /// What the sequences mean. `None` while no one has told.
    pub epoch: RefCell<Option<Epoch>>,
}

impl SourceStream {
    /// A stream of which nothing is known yet.
    pub fn new(name: Arc<str>) -> Self {
        Self { name, seen: Cell::default(), epoch: RefCell::default() }
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

/// What a feed asks its lane for.
#[derive(Debug)]
pub enum Ask {
    /// Start this read, and pass its answer to the feed.
    Read(Read),
    /// Let the feed compare itself with the stream soon.
    RecheckSoon,
    /// Ask for the state of the stream.
    CheckStream,
}

/// The order of the feed's messages, and their stream.
#[derive(Debug)]
pub struct FromStream {
    pub order: StoredFeed<StoredContent>,
    pub stream: Rc<SourceStream>,
}

impl FromStream {
    pub fn new(pattern: &Pattern, class: &Class, stream: Rc<SourceStream>) -> Self {
        let subjects = if pattern.is_literal() { Subjects::One } else { Subjects::Many };
        let on_hole = match class.kind {
            // The newest message of a subject replaces those of other keys only if there are none.
            Kind::Latest if class.has_keys() => OnHole::Fill,
            Kind::Latest => OnHole::Skip,
            Kind::Buffer => OnHole::Fill,
        };
        Self { order: StoredFeed::new(subjects, on_hole, HOLD), stream }
    }

    /// Where the feed is, if the stream is known.
    pub fn position(&self) -> Option<Position> {
        let epoch = self.stream.epoch.borrow().clone()?;
        Some(Position { epoch, seq: self.order.position()? })
    }

    pub fn closed(&mut self) {
        self.order.closed(self.stream.seen.get());
    }
}
