//! `Recent`: the messages that a feed has delivered lately, as many as fit.

use std::collections::VecDeque;

use crate::lane::stored::messages::StoredMessage;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent<M> {
    max_bytes: usize,
    /// With the size of each in memory.
    messages: VecDeque<(StoredMessage<M>, usize)>,
    bytes: usize,
    /// Everything that the feed has delivered behind this sequence is here. `None`: no one knows.
    kept_from: Option<u64>,
}

impl<M: Clone> Recent<M> {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, messages: VecDeque::new(), bytes: 0, kept_from: None }
    }

    /// The size of the messages, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The feed has delivered everything up to this sequence. No effect if more is known already.
    pub(super) fn begin(&mut self, seq: u64) {
        self.kept_from.get_or_insert(seq);
    }

    /// Everything behind this sequence is here.
    pub(super) fn kept_from(&self) -> Option<u64> {
        self.kept_from
    }

    /// The messages behind this sequence, in order.
    pub(super) fn after(&self, seq: u64) -> Vec<StoredMessage<M>> {
        let first = self.messages.partition_point(|(message, _)| message.seq <= seq);
        self.messages.range(first..).map(|(message, _)| message.clone()).collect()
    }

    /// Adds the next message.
    pub(super) fn push(&mut self, message: StoredMessage<M>, size: usize) {
        if self.kept_from.is_none() {
            return;
        }
        self.bytes += size;
        self.messages.push_back((message, size));
        while !self.fits(0) {
            let Some((oldest, size)) = self.messages.pop_front() else { return };
            self.bytes -= size;
            self.kept_from = Some(oldest.seq);
        }
    }

    /// Adds older messages, as many as fit: these are all that were delivered behind `from`, and maybe some that are here
    /// already.
    pub(super) fn extend_back(
        &mut self,
        from: u64,
        older: Vec<StoredMessage<M>>,
        size: impl Fn(&StoredMessage<M>) -> usize,
    ) {
        let Some(kept_from) = self.kept_from.filter(|kept_from| *kept_from > from) else { return };
        for message in older.into_iter().rev().filter(|message| message.seq <= kept_from) {
            let size = size(&message);
            if message.seq <= from || !self.fits(size) {
                self.kept_from = Some(message.seq.max(from));
                return;
            }
            self.bytes += size;
            self.messages.push_front((message, size));
        }
        self.kept_from = Some(from);
    }

    /// Whether a message of this size fits.
    fn fits(&self, size: usize) -> bool {
        self.bytes + size <= self.max_bytes
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        (self.bytes, self.kept_from) = (0, None);
    }
}
