//! The inbox of a shard: an ordered queue of batches from all lanes, bounded in bytes, with one wake-up per batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;
use std::time::SystemTime;
use std::vec::Drain;

use smallvec::SmallVec;
use tidegate_protocol::class::Priority;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::Position;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::recovery::Recovery;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::topic_id::TopicId;
use tokio::sync::mpsc;

use crate::hooks::planted;
use crate::lane::produced::Produced;

/// The most batches in an inbox, whatever their bytes.
const BATCHES: usize = 1024;
/// The overhead of an item in addition to its frames, in bytes.
const ITEM_BYTES: usize = 64;

/// An item that a lane sends to a shard.
#[derive(Debug)]
pub enum Item {
    /// The shard has joined: earlier publications are in the snapshot, later ones follow.
    Joined {
        pattern: Pattern,
        format: Format,
        snapshot: Snapshot,
        stale: Option<SystemTime>,
        /// Where the channel is in its stream, if it has one.
        position: Option<Position>,
    },
    /// The answer to a [`LaneRequest::Recover`](super::LaneRequest::Recover).
    /// Later publications follow.
    Recovered { pattern: Pattern, answer: Box<RecoveryAnswer> },
    /// The lane refused the join.
    JoinFailed { pattern: Pattern, format: Format, error: ClientError },
    /// A publication, encoded in each format that the shard wants, nearly always one.
    Publication {
        /// The shard's number for the pattern when it joined.
        topic: TopicId,
        pattern: Pattern,
        key: Arc<str>,
        priority: Priority,
        frames: SmallVec<[(Format, Frame); 1]>,
    },
    /// A publication that the vocabulary of this format takes apart.
    Elements { pattern: Pattern, format: Format, elements: Arc<Elements> },
    /// Publications are missing here: `dropped` is their number, if known, and `range` has their sequences, if they were
    /// stored.
    Gap { pattern: Pattern, cause: GapCause, dropped: Option<u64>, range: Option<SequenceRange> },
    /// A publication is missing here, because this format cannot express it.
    Unrenderable { pattern: Pattern, format: Format },
    /// There has been no message since then.
    Stale { pattern: Pattern, since: SystemTime },
}

/// What a channel has had after a position, in a format.
#[derive(Debug)]
pub struct RecoveryAnswer {
    pub format: Format,
    pub after: Position,
    pub recovery: Recovery,
}

/// The last values for a subscription that joins.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Those that are messages, the oldest first, with the priority of their class.
    pub deliveries: Vec<Delivery>,
    /// Those that the vocabulary takes apart, the oldest first.
    pub elements: Vec<Elements>,
}

impl Snapshot {
    /// The number of messages and elements.
    pub fn values(&self) -> usize {
        self.deliveries.len() + self.elements.iter().map(|elements| elements.list.len()).sum::<usize>()
    }

    fn bytes(&self) -> usize {
        let deliveries: usize = self.deliveries.iter().map(|delivery| delivery.frame.len()).sum();
        deliveries + self.elements.iter().map(Elements::bytes).sum::<usize>()
    }
}

impl Item {
    /// The approximate size in memory.
    pub fn bytes(&self) -> usize {
        ITEM_BYTES
            + match self {
                Self::Publication { frames, .. } => frames.iter().map(|(_, frame)| frame.len()).sum(),
                Self::Joined { snapshot, .. } => snapshot.bytes(),
                Self::Elements { elements, .. } => elements.bytes(),
                Self::Recovered { answer, .. } => {
                    let Recovery { snapshot, messages, .. } = &answer.recovery;
                    snapshot.iter().chain(messages.iter()).map(|delivery| delivery.frame.len()).sum()
                }
                Self::JoinFailed { .. }
                | Self::Gap { .. }
                | Self::Unrenderable { .. }
                | Self::Stale { .. } => 0,
            }
    }
}

/// The items that are delivered together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they happened.
    pub items: Vec<Item>,
    bytes: usize,
    /// When the lane has read it from NATS, to sample how long deliveries take.
    pub received: Option<Instant>,
    /// When one of its publications was produced, to sample how long that is ago.
    pub produced: Option<Produced>,
}

impl Batch {
    pub fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push(item);
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes and returns all items. The batch keeps its memory for the next ones.
    pub fn drain(&mut self) -> Drain<'_, Item> {
        self.bytes = 0;
        self.items.drain(..)
    }
}

/// A lane's sender to an inbox.
#[derive(Clone, Debug)]
pub struct InboxSender {
    batches: mpsc::Sender<Batch>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl InboxSender {
    /// The bytes in the inbox.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Delivers a batch, or returns it if there is no room. An empty inbox has room for any batch.
    pub fn push(&self, batch: Batch) -> Result<(), Batch> {
        let size = batch.bytes;
        let limit = self.limit;
        // Reserve only if there is room: a batch that is refused must not take room from other lanes.
        let grow = |bytes: usize| (bytes == 0 || bytes + size <= limit).then_some(bytes + size);
        if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow).is_err() {
            return Err(batch);
        }
        self.batches.try_send(batch).map_err(|error| {
            self.bytes.fetch_sub(size, Ordering::AcqRel);
            match error {
                mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch) => batch,
            }
        })
    }
}

/// The shard's end of the inbox.
#[derive(Debug)]
pub struct Inbox {
    batches: mpsc::Receiver<Batch>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = self.batches.recv().await?;
        Some(self.release_bytes(batch))
    }

    /// The next batch, if there is one.
    pub fn try_next(&mut self) -> Option<Batch> {
        let batch = self.batches.try_recv().ok()?;
        Some(self.release_bytes(batch))
    }

    /// Whether no batch waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many batches wait.
    #[cfg(feature = "test-hooks")]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Tells others on the thread whether batches wait.
    pub fn level(&self) -> InboxLevel {
        InboxLevel(Arc::clone(&self.bytes))
    }

    fn release_bytes(&self, batch: Batch) -> Batch {
        self.bytes.fetch_sub(batch.bytes, Ordering::AcqRel);
        batch
    }
}

/// How full an inbox is.
#[derive(Clone, Debug)]
pub struct InboxLevel(Arc<AtomicUsize>);

impl InboxLevel {
    /// Whether batches wait.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

pub fn inbox(limit: usize) -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let bytes = Arc::new(AtomicUsize::new(0));
    (InboxSender { batches: sender, bytes: Arc::clone(&bytes), limit }, Inbox { batches: receiver, bytes })
}

/// A lane's queue to one other shard: the current batch, and a backlog of what found no room in the inbox.
#[derive(Debug)]
pub struct ShardQueue {
    inbox: InboxSender,
    batch: Batch,
    backlog: Batch,
    /// Where in the backlog a pattern has a gap that can still grow, because no join of the pattern follows it.
    open_gaps: HashMap<Pattern, usize>,
    /// Publications that became gaps, since they were counted.
    lost: u64,
}

impl ShardQueue {
    pub fn new(inbox: InboxSender) -> Self {
        let (batch, backlog) = Default::default();
        Self { inbox, batch, backlog, open_gaps: HashMap::new(), lost: 0 }
    }

    /// Adds an item to the current batch.
    pub fn add(&mut self, item: Item) {
        self.batch.push(item);
    }

    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Sets when the current batch was read from NATS, and when one of its publications was produced.
    pub fn set_received(&mut self, received: Instant, produced: Option<Produced>) {
        self.batch.received = Some(received);
        self.batch.produced = produced;
    }

    /// How many publications became gaps since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Delivers the backlog, then the current batch. What finds no room becomes backlog: publications as a gap in their
    /// place, everything else unchanged.
    pub fn flush(&mut self) {
        if self.has_backlog() {
            match self.inbox.push(std::mem::take(&mut self.backlog)) {
                Ok(()) => self.open_gaps.clear(),
                Err(backlog) => self.backlog = backlog,
            }
        }
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let refused = if self.has_backlog() { Err(batch) } else { self.inbox.push(batch) };
        if let Err(refused) = refused {
            refused.items.into_iter().for_each(|item| self.push_to_backlog(item));
        }
    }

    fn push_to_backlog(&mut self, item: Item) {
        match item {
            Item::Publication { pattern, .. } | Item::Elements { pattern, .. } => {
                self.lost += 1;
                if let Some(Item::Gap { dropped: Some(dropped), .. }) =
                    self.open_gaps.get(&pattern).and_then(|&at| self.backlog.items.get_mut(at))
                {
                    *dropped += u64::from(!planted!(OverflowCountsTooFew));
                    return;
                }
                self.open_gaps.insert(pattern.clone(), self.backlog.items.len());
                let gap = Item::Gap { pattern, cause: GapCause::Overflow, dropped: Some(1), range: None };
                self.backlog.push(gap);
            }
            Item::Joined { ref pattern, .. } | Item::Recovered { ref pattern, .. } => {
                self.open_gaps.remove(pattern);
                self.backlog.push(item);
            }
            item @ (Item::JoinFailed { .. }
            | Item::Gap { .. }
            | Item::Unrenderable { .. }
            | Item::Stale { .. }) => {
                self.backlog.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests;
