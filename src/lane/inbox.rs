//! Inbox: what lanes hand to one shard: ordered, bounded in bytes, one wake-up a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use smallvec::SmallVec;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::subject::Pattern;
use tokio::sync::mpsc;

/// Batches that may lie in an inbox, whatever their bytes.
const BATCHES: usize = 1024;
/// What an item takes next to its frames.
const ITEM_BYTES: usize = 64;

/// One thing that a lane tells a shard.
#[derive(Debug)]
pub enum Item {
    /// The format is joined: what was before is in the snapshot, what follows is not.
    Joined { pattern: Pattern, format: Format, snapshot: Vec<Frame>, stale: Option<SystemTime> },
    /// The format could not be joined.
    Unjoined { pattern: Pattern, format: Format, refusal: ClientError },
    /// A publication, encoded for each format that the shard wants. Nearly always there is one.
    Publication { pattern: Pattern, key: Arc<str>, frames: SmallVec<[(Format, Frame); 1]> },
    /// At this place publications are missing.
    Lost { pattern: Pattern, cause: GapCause, dropped: Option<u64> },
    /// At this place a publication is missing that cannot be said in this format.
    Unfit { pattern: Pattern, format: Format },
    /// Nothing has come since then.
    Stale { pattern: Pattern, since: SystemTime },
}

impl Item {
    /// Roughly what it takes in memory.
    pub fn bytes(&self) -> usize {
        ITEM_BYTES
            + match self {
                Self::Publication { frames, .. } => frames.iter().map(|(_, frame)| frame.len()).sum(),
                Self::Joined { snapshot, .. } => snapshot.iter().map(Frame::len).sum(),
                Self::Unjoined { .. } | Self::Lost { .. } | Self::Unfit { .. } | Self::Stale { .. } => 0,
            }
    }
}

/// What one push hands over.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they happened.
    pub items: Vec<Item>,
    bytes: usize,
}

impl Batch {
    /// Appends an item.
    pub fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push(item);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The way into an inbox, one for each lane.
#[derive(Clone, Debug)]
pub struct InboxSender {
    batches: mpsc::Sender<Batch>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl InboxSender {
    /// Bytes that lie in it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Hands a batch over, or gives it back if there is no room. An empty inbox has room for any batch.
    pub fn push(&self, batch: Batch) -> Result<(), Batch> {
        let size = batch.bytes;
        let limit = self.limit;
        // Room is taken only if it is there: other lanes must not find it taken by a batch that is refused.
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

/// The shard's end.
#[derive(Debug)]
pub struct Inbox {
    batches: mpsc::Receiver<Batch>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// Waits for the next batch.
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = self.batches.recv().await?;
        Some(self.taken_out(batch))
    }

    /// The next batch, if it is there.
    pub fn try_next(&mut self) -> Option<Batch> {
        let batch = self.batches.try_recv().ok()?;
        Some(self.taken_out(batch))
    }

    fn taken_out(&self, batch: Batch) -> Batch {
        self.bytes.fetch_sub(batch.bytes, Ordering::AcqRel);
        batch
    }
}

/// An inbox of at most `limit` bytes.
pub fn inbox(limit: usize) -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let bytes = Arc::new(AtomicUsize::new(0));
    (InboxSender { batches: sender, bytes: Arc::clone(&bytes), limit }, Inbox { batches: receiver, bytes })
}

/// What a lane has for one other shard: the share of the batch in hand, and what it owes because there was no room.
#[derive(Debug)]
pub struct Share {
    inbox: InboxSender,
    batch: Batch,
    backlog: Batch,
    /// Where in the debt a loss is noted that may still grow: no one has joined its pattern since.
    losses: HashMap<Pattern, usize>,
}

impl Share {
    /// A share for the shard behind `inbox`.
    pub fn new(inbox: InboxSender) -> Self {
        Self { inbox, batch: Batch::default(), backlog: Batch::default(), losses: HashMap::new() }
    }

    /// Adds to the batch in hand.
    pub fn add(&mut self, item: Item) {
        self.batch.push(item);
    }

    /// Whether the shard is owed something.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Hands over what is owed, then the batch. What finds no room is owed: publications as a loss at their
    /// place, everything else as it is.
    pub fn flush_shares(&mut self) {
        if self.has_backlog() {
            match self.inbox.push(std::mem::take(&mut self.backlog)) {
                Ok(()) => self.losses.clear(),
                Err(backlog) => self.backlog = backlog,
            }
        }
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let refused = if self.has_backlog() { Err(batch) } else { self.inbox.push(batch) };
        if let Err(refused) = refused {
            refused.items.into_iter().for_each(|item| self.owe(item));
        }
    }

    fn owe(&mut self, item: Item) {
        match item {
            Item::Publication { pattern, .. } => {
                if let Some(Item::Lost { dropped: Some(dropped), .. }) =
                    self.losses.get(&pattern).and_then(|&at| self.backlog.items.get_mut(at))
                {
                    *dropped += 1;
                    return;
                }
                self.losses.insert(pattern.clone(), self.backlog.items.len());
                self.backlog.push(Item::Lost { pattern, cause: GapCause::Overflow, dropped: Some(1) });
            }
            Item::Joined { ref pattern, .. } => {
                self.losses.remove(pattern);
                self.backlog.push(item);
            }
            item @ (Item::Unjoined { .. } | Item::Lost { .. } | Item::Unfit { .. } | Item::Stale { .. }) => {
                self.backlog.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests;
